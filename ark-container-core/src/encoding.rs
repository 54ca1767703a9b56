//! [`decode`]: decodes UTF-8, and names another encoding in the error.

/// The byte order mark of UTF-8, which some Windows editors write.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the content of a file as text.
///
/// # Errors
/// A message that names the encoding, if the content is not UTF-8 or starts with a byte order mark.
///
/// ```
/// use ark_container_core::decode;
///
/// assert_eq!(decode(b"{}"), Ok("{}"));
/// assert_eq!(decode(b"\xff\xfe{\0}\0"), Err("it is UTF-16; save it as UTF-8"));
/// ```
pub fn decode(content: &[u8]) -> Result<&str, &'static str> {
    match content {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err("it is UTF-32; save it as UTF-8"),
        // The first two bytes of valid content are never NUL.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            Err("it is UTF-16; save it as UTF-8")
        }
        [0x1f, 0x8b, ..] => Err("it is compressed by gzip"),
        _ if content.starts_with(BYTE_ORDER_MARK) => {
            Err("it starts with a byte order mark; save it as UTF-8 without one")
        }
        _ => std::str::from_utf8(content).map_err(|_| "it is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_of_a_text_is_named() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| "{}".encode_utf16().flat_map(unit).collect();
        let with_mark = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
        let (little, big): (Vec<u8>, Vec<u8>) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
        for (content, named) in [
            (little.clone(), "UTF-16"),
            (big.clone(), "UTF-16"),
            (with_mark(b"\xff\xfe", little), "UTF-16"),
            (with_mark(b"\xfe\xff", big), "UTF-16"),
            (b"\xff\xfe\0\0{\0\0\0".to_vec(), "UTF-32"),
            (b"\xef\xbb\xbf{}".to_vec(), "byte order mark"),
            (b"\x1f\x8b\x08".to_vec(), "gzip"),
            (b"{\"a\": \"\xe9\"}".to_vec(), "not UTF-8"),
        ] {
            assert!(decode(&content).unwrap_err().contains(named), "{named}");
        }
        for text in ["", "{", "\u{e9}", "{}"] {
            assert_eq!(decode(text.as_bytes()), Ok(text));
        }
    }
}
