//! The name of an STS session, by which AWS's own log tells who asked.

use crate::digester::Digester;
use crate::model::Algorithm;

/// What STS takes of a session's name, in characters.
///
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const MAX_LEN: usize = 64;

/// Sessions of nobody in particular.
const ANONYMOUS: &str = "ark-container";

/// How many digits of a hash stand for what a name lost.
const DIGITS: usize = 16;

/// The name of a session for `principal`, such as `user.alice` for `user:alice`.
///
/// No two principals share one: a name that loses anything, by its length or by a character that STS
/// does not take, ends in `+` and a hash of the whole, and no other name has a `+`.
pub(super) fn session_name(principal: Option<&str>) -> String {
    let Some(principal) = principal else { return ANONYMOUS.to_owned() };
    if let Some((kind, id)) = principal.split_once(':')
        && !kind.is_empty()
        && kind.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        && id.chars().all(is_plain)
        && principal.len() <= MAX_LEN
    {
        return format!("{kind}.{id}");
    }
    let plain = principal.chars().map(|c| if is_plain(c) { c } else { '-' });
    let start: String = plain.take(MAX_LEN - DIGITS - 1).collect();
    let digest = Digester::digest(Algorithm::Sha256, principal.as_bytes());
    format!("{start}+{}", &digest.hex()[..DIGITS])
}

/// What STS takes, but for the `+`.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '=' | ',' | '.' | '@' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_principals_can_be_read() {
        assert_eq!(session_name(Some("user:alice@example.com")), "user.alice@example.com");
        assert_eq!(session_name(Some("ingest-job:42")), "ingest-job.42");
        assert_eq!(session_name(None), "ark-container");
    }

    #[test]
    fn what_could_be_taken_for_another_has_a_hash() {
        let twins =
            ["user:a b", "user:a-b", "user:a/b", "user.a-b", "user:a+b", "user:a:b", ":a-b"];
        for (index, one) in twins.iter().enumerate() {
            for other in &twins[index + 1..] {
                assert_ne!(session_name(Some(one)), session_name(Some(other)));
            }
        }
        let (long, longer) =
            (format!("user:{}", "a".repeat(90)), format!("user:{}", "a".repeat(91)));
        assert_ne!(session_name(Some(&long)), session_name(Some(&longer)));
        let hostile = session_name(Some("user:a\r\nx\0é\u{202e}"));
        assert!(hostile.starts_with("user-a--x---+"), "{hostile}");
        assert_ne!(session_name(Some(&format!("user:{}", &hostile[5..]))), hostile);
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_sts_takes(principal in "(user:|robot:)?\\PC{0,90}") {
            let name = session_name(Some(&principal));
            prop_assert!((2..=MAX_LEN).contains(&name.len()), "{}", name);
            prop_assert!(name.chars().all(|c| is_plain(c) || c == '+'), "{}", name);
        }
    }
}
