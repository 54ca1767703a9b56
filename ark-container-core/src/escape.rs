//! [`escape_untrusted`] and [`quote_for_shell`]: make text safe for a terminal, and for a shell.

use std::borrow::Cow;

/// Escapes the characters of an untrusted text that could forge lines, columns or colours of a terminal:
/// control, line break, bidirectional, zero-width and unassigned characters.
///
/// An escaped character is written as in a Rust literal. Printable characters of any script remain.
///
/// ```
/// use ark_container_core::escape_untrusted;
///
/// assert_eq!(escape_untrusted("linux/amd64"), "linux/amd64");
/// assert_eq!(escape_untrusted("a\nb\u{202e}c\x1b[31m"), r"a\nb\u{202e}c\u{1b}[31m");
/// ```
pub fn escape_untrusted(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unsafe(character) {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// Quotes an argument of a printed command, if a shell would change it.
///
/// ```
/// use ark_container_core::quote_for_shell;
///
/// assert_eq!(quote_for_shell("oci:/a/b-c:v1"), "oci:/a/b-c:v1");
/// assert_eq!(quote_for_shell("a b"), "'a b'");
/// assert_eq!(quote_for_shell("it's"), r"'it'\''s'");
/// assert_eq!(quote_for_shell(""), "''");
/// ```
pub fn quote_for_shell(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn is_unsafe(character: char) -> bool {
    match character {
        '\0'..='\x1f' | '\x7f' => true,
        ' '..='\x7e' => false,
        // Zero-width letters and marks: fillers, joiners and variation selectors.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{e0100}'..='\u{e01ef}' => true,
        // The standard library escapes unprintable characters. A combining mark is printable after a letter.
        _ => String::from_iter(['a', character]).escape_debug().nth(1) == Some('\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_of_any_script_is_unchanged() {
        for text in ["", "linux/arm64/v8", "a\\n\"b'", "größe", "e\u{301}", "हिन्दी", "日本", "😀"]
        {
            assert!(matches!(escape_untrusted(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn unsafe_characters_are_escaped() {
        let control = ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\u{85}", "\u{9b}"];
        let lines = ["\u{2028}", "\u{2029}"];
        let bidirectional = ["\u{61c}", "\u{200e}", "\u{200f}", "\u{202a}", "\u{202e}", "\u{2069}"];
        let zero_width = [
            "\u{ad}",
            "\u{200b}",
            "\u{200d}",
            "\u{2060}",
            "\u{feff}",
            "\u{fe0f}",
            "\u{e0041}",
            "\u{3164}",
            "\u{e0100}",
        ];
        let all = [&control[..], &lines, &bidirectional, &zero_width].concat();
        for text in all {
            let escaped = escape_untrusted(text);
            assert!(escaped.starts_with('\\') && escaped.is_ascii(), "{escaped}");
        }
    }
}
