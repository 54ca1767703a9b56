//! The ranges of HTTP requests: of a blob that is read, and of a chunk that is sent.

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: also where the header means nothing that this registry serves, such as several
    /// ranges at once.
    Whole,
    /// These bytes, counted from 0, both included.
    Part {
        /// Where they start.
        first: u64,
        /// Where they end.
        last: u64,
    },
    /// Bytes that there are not.
    Nothing,
}

/// Reads a `Range` header for content of `size` bytes.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2>
pub(super) fn parse(header: &str, size: u64) -> Wanted {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(suffix)) if first.is_empty() => match suffix {
            0 => return Wanted::Nothing,
            suffix => (size.saturating_sub(suffix), u64::MAX),
        },
        _ => return Wanted::Whole,
    };
    if first >= size {
        return Wanted::Nothing;
    }
    Wanted::Part { first, last: last.min(size - 1) }
}

/// Reads the `Content-Range` of a chunk, `<first>-<last>`: its start and its length.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-a-blob-in-chunks>
pub(super) fn parse_chunk(header: &str) -> Option<(u64, u64)> {
    let (first, last) = header.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

/// A number as HTTP writes it, in digits alone.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_served() {
        let part = |first, last| Wanted::Part { first, last };
        assert_eq!(parse("bytes=0-0", 10), part(0, 0));
        assert_eq!(parse("bytes=2-5", 10), part(2, 5));
        assert_eq!(parse("bytes=2-", 10), part(2, 9));
        assert_eq!(parse("bytes=2-99", 10), part(2, 9));
        assert_eq!(parse("bytes=-3", 10), part(7, 9));
        assert_eq!(parse("bytes=-99", 10), part(0, 9));
        assert_eq!(parse(&format!("bytes=0-{}", u64::MAX), 10), part(0, 9));
    }

    #[test]
    fn ranges_behind_the_end_are_nothing() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(parse(header, 10), Wanted::Nothing, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parse("bytes=-1", 0), Wanted::Nothing);
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1-99999999999999999999",
        ] {
            assert_eq!(parse(header, 10), Wanted::Whole, "{header}");
        }
    }

    #[test]
    fn a_chunk_has_a_start_and_a_length() {
        assert_eq!(parse_chunk("0-0"), Some((0, 1)));
        assert_eq!(parse_chunk("10-19"), Some((10, 10)));
        let whole = format!("0-{}", u64::MAX);
        for header in ["", "-", "1", "5-4", "a-b", "0-", "-1", "+0-1", "bytes 0-1", &whole] {
            assert_eq!(parse_chunk(header), None, "{header}");
        }
    }
}
