//! The error of everything in [`crate::model`] that is parsed, and what its parsers share.

use std::fmt;

/// What is shown of an input in an error; the rest of a very long one says nothing more.
const SHOWN_CHARS: usize = 80;

/// Text that is not what it should be: says of what kind, what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    what: &'static str,
    input: String,
    problem: String,
    position: Option<usize>,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, input: &str, problem: impl Into<String>) -> Self {
        Self { what, input: input.to_owned(), problem: problem.into(), position: None }
    }

    /// An error about the character that starts at byte `offset` of `input`.
    pub(crate) fn at(
        what: &'static str,
        input: &str,
        offset: usize,
        problem: impl Into<String>,
    ) -> Self {
        let position = input[..offset].chars().count() + 1;
        Self { position: Some(position), ..Self::new(what, input, problem) }
    }

    /// What the text should have been, such as `repository name`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The text as it was given.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The offending character, counted in characters from 1; `None` where the whole is at fault.
    pub fn position(&self) -> Option<usize> {
        self.position
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.input.chars().take(SHOWN_CHARS).collect();
        let cut = if shown.len() < self.input.len() { "…" } else { "" };
        write!(f, "{shown:?}{cut} is not a valid {}: {}", self.what, self.problem)?;
        match self.position {
            Some(position) => write!(f, " at character {position}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// `Display` and `FromStr` are the serde form of every type in the model.
macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;
