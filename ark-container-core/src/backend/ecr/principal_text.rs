//! [`session_name`] and [`tag_value`]: encode a principal for STS sessions and resource tags.

use crate::digester::Digester;
use crate::model::Algorithm;

/// The name of STS sessions without a principal.
const ANONYMOUS_SESSION: &str = "ark-container";

/// The number of hexadecimal digits of the hash of a principal.
const HASH_DIGITS: usize = 16;

/// The rules of AWS for a text. In addition AWS accepts `+`, which marks a hash here.
struct TextRules {
    max_chars: usize,
    /// The separator between the kind and the id of a principal.
    separator: char,
    /// The accepted characters in addition to ASCII letters and digits.
    symbols: &'static str,
}

/// Source: `RoleSessionName` of <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const SESSION_NAME: TextRules = TextRules { max_chars: 64, separator: '.', symbols: "_=,.@-" };

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html>
const TAG_VALUE: TextRules = TextRules { max_chars: 256, separator: ':', symbols: "_=.@-:/" };

/// Returns the name of the STS sessions for a principal, such as `user.alice` for `user:alice`.
pub(super) fn session_name(principal: Option<&str>) -> String {
    principal
        .map_or_else(|| ANONYMOUS_SESSION.to_owned(), |principal| SESSION_NAME.encode(principal))
}

/// Returns the value of a resource tag that names a principal, such as `user:alice`.
pub(super) fn tag_value(principal: &str) -> String {
    TAG_VALUE.encode(principal)
}

impl TextRules {
    /// Returns the text of a principal, which is unique.
    ///
    /// If the principal is too long or has a character that AWS rejects, the text ends with `+` and a hash of the
    /// principal. No other text contains a `+`.
    fn encode(&self, principal: &str) -> String {
        if let Some((kind, id)) = principal.split_once(':')
            && !kind.is_empty()
            && kind.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            && id.chars().all(|c| self.accepts(c))
            && principal.len() <= self.max_chars
        {
            return format!("{kind}{}{id}", self.separator);
        }
        let accepted = principal.chars().map(|c| if self.accepts(c) { c } else { '-' });
        let start: String = accepted.take(self.max_chars - HASH_DIGITS - 1).collect();
        let digest = Digester::digest(Algorithm::Sha256, principal.as_bytes());
        format!("{start}+{}", &digest.hex()[..HASH_DIGITS])
    }

    fn accepts(&self, character: char) -> bool {
        character.is_ascii_alphanumeric() || self.symbols.contains(character)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_principal_remains_readable() {
        for (principal, session, tag) in [
            ("user:alice@example.com", "user.alice@example.com", "user:alice@example.com"),
            ("ingest-job:42", "ingest-job.42", "ingest-job:42"),
        ] {
            assert_eq!(
                (session_name(Some(principal)).as_str(), &*tag_value(principal)),
                (session, tag)
            );
        }
        assert_eq!(session_name(None), "ark-container");
        let arn = "user:arn:aws:iam::095412845506:user/alice";
        assert_eq!(tag_value(arn), arn);
    }

    #[test]
    fn similar_principals_have_distinct_texts() {
        let twins =
            ["user:a b", "user:a-b", "user:a/b", "user.a-b", "user:a+b", "user:a:b", ":a-b"];
        for (index, one) in twins.iter().enumerate() {
            for other in &twins[index + 1..] {
                assert_ne!(session_name(Some(one)), session_name(Some(other)));
                assert_ne!(tag_value(one), tag_value(other));
            }
        }
        for encode in [|text: &str| session_name(Some(text)), tag_value] {
            let long = |length| encode(&format!("user:{}", "a".repeat(length)));
            assert_ne!(long(290), long(291));
            let hostile = encode("user:a\r\nx\0é\u{202e}");
            assert!(hostile.contains("a--x---+"), "{hostile}");
            assert_ne!(encode(&format!("user:{}", &hostile[5..])), hostile);
        }
    }

    proptest! {
        #[test]
        fn session_name_is_valid_for_sts(principal in "(user:|robot:)?\\PC{0,90}") {
            let name = session_name(Some(&principal));
            prop_assert!((2..=64).contains(&name.len()), "{}", name);
            prop_assert!(name.chars().all(|c| SESSION_NAME.accepts(c) || c == '+'), "{}", name);
        }

        #[test]
        fn tag_value_is_valid_for_ecr(principal in "(user:|robot:)?\\PC{0,300}") {
            let value = tag_value(&principal);
            prop_assert!((1..=256).contains(&value.len()), "{}", value);
            let accepts = |c: char| c.is_ascii_alphanumeric() || "_.:/=+-@".contains(c);
            prop_assert!(value.chars().all(accepts), "{}", value);
        }
    }
}
