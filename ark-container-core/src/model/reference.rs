//! [`Reference`]: which image of a repository, by tag or by digest.

use std::fmt;
use std::str::FromStr;

use super::Digest;
use super::parse::{ParseError, serde_as_text};

const WHAT: &str = "tag";
const MAX_TAG_LEN: usize = 128;

/// A tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        if input.is_empty() {
            return Err(ParseError::new(WHAT, input, "it is empty"));
        }
        for (offset, character) in input.char_indices() {
            let word = character.is_ascii_alphanumeric() || character == '_';
            if !(word || offset > 0 && matches!(character, '.' | '-')) {
                let problem = match character {
                    '.' | '-' => format!("it may not start with {character:?},"),
                    _ => format!("{character:?} is not allowed"),
                };
                return Err(ParseError::at(WHAT, input, offset, problem));
            }
        }
        if input.len() > MAX_TAG_LEN {
            let problem = format!("{} characters, of at most {MAX_TAG_LEN}", input.len());
            return Err(ParseError::new(WHAT, input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag or a digest. Text with a colon is a digest, since no tag may have one.
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
    /// A name that can be moved to another image.
    Tag(Tag),
    /// The image itself.
    Digest(Digest),
}

impl Reference {
    /// What separates it from a repository: `:` before a tag, `@` before a digest.
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
        assert!(error(&"a".repeat(129)).ends_with("129 characters, of at most 128"));
    }

    proptest! {
        #[test]
        fn parsing_and_printing_are_inverse(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let reference = text.parse::<Reference>().unwrap();
            prop_assert!(matches!(reference, Reference::Tag(_)));
            prop_assert_eq!(reference.to_string(), text);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
