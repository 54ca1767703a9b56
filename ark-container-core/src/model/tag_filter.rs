//! [`TagFilter`]: which tags are an exception to a repository's tag mutability.

use std::fmt;
use std::str::FromStr;

use super::Tag;
use super::parse::{ParseError, serde_as_text};

const WHAT: &str = "tag filter";
const MAX_LEN: usize = 128;
const MAX_WILDCARDS: usize = 2;

/// Tags by a pattern, such as `latest` or `dev-*`; a `*` stands for any characters or none.
///
/// Up to 128 letters, digits, `.`, `_`, `-`, and no more than two `*`.
///
/// Source: `ImageTagMutabilityExclusionFilterValue` in the ECR service model, and
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html>
///
/// ```
/// use ark_container_core::model::TagFilter;
///
/// let filter: TagFilter = "dev-*".parse()?;
/// assert!(filter.matches(&"dev-1".parse()?) && !filter.matches(&"v1".parse()?));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagFilter(Box<str>);

impl TagFilter {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `tag` is one of those that it names.
    pub fn matches(&self, tag: &Tag) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = tag.as_str().strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl FromStr for TagFilter {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        if input.is_empty() {
            return Err(ParseError::new(WHAT, input, "it is empty"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '*' | '-');
        if let Some((offset, character)) = input.char_indices().find(|(_, c)| !allowed(*c)) {
            let problem = format!("{character:?} is not allowed");
            return Err(ParseError::at(WHAT, input, offset, problem));
        }
        if let Some((offset, _)) = input.match_indices('*').nth(MAX_WILDCARDS) {
            let problem = format!("more than {MAX_WILDCARDS} '*',");
            return Err(ParseError::at(WHAT, input, offset, problem));
        }
        if input.len() > MAX_LEN {
            let problem = format!("{} characters, of at most {MAX_LEN}", input.len());
            return Err(ParseError::new(WHAT, input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for TagFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(TagFilter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        for (filter, tags, others) in [
            ("latest", vec!["latest"], vec!["latest1", "Latest", "late"]),
            ("dev-*", vec!["dev-", "dev-1"], vec!["dev", "a-dev-1"]),
            ("*-rc", vec!["1-rc", "_-rc"], vec!["1-rc1"]),
            ("v*.*", vec!["v1.2", "v.", "v1.2.3"], vec!["v1", "1.2"]),
            ("a*a", vec!["aa", "aba"], vec!["a", "ab"]),
            ("*a*", vec!["a", "bab"], vec!["b"]),
        ] {
            let filter: TagFilter = filter.parse().unwrap();
            let matches = |tag: &str| filter.matches(&tag.parse().unwrap());
            assert!(tags.into_iter().all(matches), "{filter}");
            assert!(!others.into_iter().any(matches), "{filter}");
        }
    }

    #[test]
    fn errors_point_at_the_offending_character() {
        let error = |text: &str| text.parse::<TagFilter>().unwrap_err().to_string();
        assert!(error("").ends_with("it is empty"));
        assert!(error("a b").ends_with("' ' is not allowed at character 2"));
        assert!(error("a*b*c*").ends_with("more than 2 '*', at character 6"));
        assert!(error(&"a".repeat(129)).ends_with("129 characters, of at most 128"));
    }
}
