//! [`Tag`], [`Reference`] and [`TagPattern`]: names of images in a repository.

use std::fmt;
use std::str::FromStr;

use super::Digest;
use super::parse::{ParseError, matches_wildcards, serde_as_text};

const MAX_TAG_LEN: usize = 128;

/// A tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// Returns `latest`, the default tag.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// Parses a tag of AWS ECR, which may be longer than 128 characters.
    ///
    /// Source: `ImageTag` in the ECR service model: 1 to 300 characters.
    #[cfg(feature = "ecr")]
    pub(crate) fn of_ecr(input: &str) -> Result<Self, ParseError> {
        Self::parse(input, 300)
    }

    fn parse(input: &str, max_len: usize) -> Result<Self, ParseError> {
        if input.is_empty() {
            return Err(ParseError::new("tag", input, "it is empty"));
        }
        for (offset, character) in input.char_indices() {
            let word = character.is_ascii_alphanumeric() || character == '_';
            if !(word || offset > 0 && matches!(character, '.' | '-')) {
                let problem = match character {
                    '.' | '-' => format!("it may not start with {character:?},"),
                    _ => format!("{character:?} is not allowed"),
                };
                return Err(ParseError::at("tag", input, offset, problem));
            }
        }
        if input.len() > max_len {
            let problem = format!("{} characters, the maximum is {max_len}", input.len());
            return Err(ParseError::new("tag", input, problem));
        }
        Ok(Self(input.into()))
    }

    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        Self::parse(input, MAX_TAG_LEN)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag or a digest. Text with a colon is a digest, because a tag cannot contain a colon.
///
/// ```
/// use ark_container_core::model::Reference;
///
/// assert!(matches!("v1.2".parse()?, Reference::Tag(_)));
/// assert!(matches!(format!("sha256:{}", "0".repeat(64)).parse()?, Reference::Digest(_)));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A tag, which can be moved to another image.
    Tag(Tag),
    /// A digest, which identifies the image.
    Digest(Digest),
}

impl Reference {
    /// Returns the separator between repository and reference: `:` before a tag, `@` before a digest.
    pub fn separator(&self) -> char {
        match self {
            Self::Tag(_) => ':',
            Self::Digest(_) => '@',
        }
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        if input.contains(':') {
            input.parse().map(Self::Digest)
        } else {
            input.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

serde_as_text!(Tag, Reference);

const MAX_PATTERN_LEN: usize = 128;
const MAX_WILDCARDS: usize = 2;

/// A pattern of tags, such as `latest` or `dev-*`. Patterns define the exceptions to the tag mutability of
/// a repository.
///
/// A `*` matches any number of characters. A pattern has up to 128 letters, digits, `.`, `_`, `-`, and at
/// most two `*`.
///
/// Source: `ImageTagMutabilityExclusionFilterValue` in the ECR service model, and
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html>
///
/// ```
/// use ark_container_core::model::TagPattern;
///
/// let pattern: TagPattern = "dev-*".parse()?;
/// assert!(pattern.matches(&"dev-1".parse()?) && !pattern.matches(&"v1".parse()?));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagPattern(Box<str>);

impl TagPattern {
    /// Returns the pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern matches `tag`.
    pub fn matches(&self, tag: &Tag) -> bool {
        matches_wildcards(&self.0, tag.as_str(), |_| true)
    }
}

impl FromStr for TagPattern {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        if input.is_empty() {
            return Err(ParseError::new("tag pattern", input, "it is empty"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '*' | '-');
        if let Some((offset, character)) = input.char_indices().find(|(_, c)| !allowed(*c)) {
            let problem = format!("{character:?} is not allowed");
            return Err(ParseError::at("tag pattern", input, offset, problem));
        }
        if let Some((offset, _)) = input.match_indices('*').nth(MAX_WILDCARDS) {
            let problem = format!("more than {MAX_WILDCARDS} '*',");
            return Err(ParseError::at("tag pattern", input, offset, problem));
        }
        if input.len() > MAX_PATTERN_LEN {
            let problem = format!("{} characters, the maximum is {MAX_PATTERN_LEN}", input.len());
            return Err(ParseError::new("tag pattern", input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(TagPattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_follow_the_specification() {
        for good in ["latest", "_x", "1.0-rc.1", "A", &"a".repeat(128)] {
            assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
        }
        let error = |text: &str| text.parse::<Tag>().unwrap_err().to_string();
        assert!(error("").ends_with("it is empty"));
        assert!(error(".x").ends_with("may not start with '.', at character 1"));
        assert!(error("a/b").ends_with("'/' is not allowed at character 2"));
        assert!(error("é").ends_with("'é' is not allowed at character 1"));
        assert!(error(&"a".repeat(129)).ends_with("129 characters, the maximum is 128"));
    }

    proptest! {
        #[test]
        fn parsing_and_printing_are_inverse(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let reference = text.parse::<Reference>().unwrap();
            prop_assert!(matches!(reference, Reference::Tag(_)));
            prop_assert_eq!(reference.to_string(), text);
        }

        #[test]
        fn reference_parser_never_panics(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }

    #[test]
    fn star_in_tag_pattern_matches_any_characters() {
        for (pattern, tags, others) in [
            ("latest", vec!["latest"], vec!["latest1", "Latest", "late"]),
            ("dev-*", vec!["dev-", "dev-1"], vec!["dev", "a-dev-1"]),
            ("*-rc", vec!["1-rc", "_-rc"], vec!["1-rc1"]),
            ("v*.*", vec!["v1.2", "v.", "v1.2.3"], vec!["v1", "1.2"]),
            ("a*a", vec!["aa", "aba"], vec!["a", "ab"]),
            ("*a*", vec!["a", "bab"], vec!["b"]),
        ] {
            let pattern: TagPattern = pattern.parse().unwrap();
            let matches = |tag: &str| pattern.matches(&tag.parse().unwrap());
            assert!(tags.into_iter().all(matches), "{pattern}");
            assert!(!others.into_iter().any(matches), "{pattern}");
        }
    }

    #[test]
    fn tag_pattern_errors_have_a_position() {
        let error = |text: &str| text.parse::<TagPattern>().unwrap_err().to_string();
        assert!(error("").ends_with("it is empty"));
        assert!(error("a b").ends_with("' ' is not allowed at character 2"));
        assert!(error("a*b*c*").ends_with("more than 2 '*', at character 6"));
        assert!(error(&"a".repeat(129)).ends_with("129 characters, the maximum is 128"));
    }
}
