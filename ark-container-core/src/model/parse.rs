//! [`ParseError`], and helpers that the parsers of the model share.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Deserializer};

/// The maximum number of characters of the input in an error.
const MAX_SHOWN_CHARS: usize = 80;

/// An error about invalid text: the expected kind of text, the problem, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    what: &'static str,
    input: String,
    problem: String,
    position: Option<usize>,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, input: &str, problem: impl Into<String>) -> Self {
        // A password in a URL must not be shown.
        let mut input = input.to_owned();
        if let Some(user_info) = user_info(&input) {
            input.replace_range(user_info, "***");
        }
        Self { what, input, problem: problem.into(), position: None }
    }

    /// Creates an error about the character at byte `offset` of `input`.
    pub(crate) fn at(
        what: &'static str,
        input: &str,
        offset: usize,
        problem: impl Into<String>,
    ) -> Self {
        let position = input[..offset].chars().count() + 1;
        Self { position: Some(position), ..Self::new(what, input, problem) }
    }

    /// Returns the expected kind of text, such as `repository name`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Returns the invalid text, without the user info of a URL.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// Returns the position of the invalid character, counted in characters from 1. Returns `None` if the
    /// text as a whole is invalid.
    pub fn position(&self) -> Option<usize> {
        self.position
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.input.chars().take(MAX_SHOWN_CHARS).collect();
        let cut = if shown.len() < self.input.len() { "…" } else { "" };
        write!(f, "{shown:?}{cut} is not a valid {}: {}", self.what, self.problem)?;
        match self.position {
            Some(position) => write!(f, " at character {position}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// Returns the position of the user name and password in a URL.
pub(crate) fn user_info(url: &str) -> Option<Range<usize>> {
    let start = url.find("://")? + "://".len();
    let authority = url[start..].split('/').next()?;
    Some(start..start + authority.rfind('@')?)
}

/// Deserializes `null` as the default. Go programs write `null` for an empty list, map or text.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Deserializes annotations. An annotation with the value `null` is ignored.
pub(super) fn annotations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let found: BTreeMap<String, Option<String>> = null_as_default(deserializer)?;
    Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// Implements serde by `Display` and `FromStr`, for the types of the model.
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

/// Returns whether a pattern matches `text`. The wildcard `*` matches any number of characters, and `?` matches one.
///
/// A wildcard matches only the bytes for which `wildcard_matches` returns true. The number of steps is at
/// most the product of both lengths.
pub(crate) fn matches_wildcards(
    pattern: &str,
    text: &str,
    wildcard_matches: impl Fn(u8) -> bool,
) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // The position after the last `*`, and the end of its match, which grows by one when the rest does not match.
    let mut last_star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(seen) {
        match (pattern.get(at), last_star) {
            (Some(b'*'), _) => {
                last_star = Some((at + 1, seen));
                at += 1;
            }
            (Some(b'?'), _) if wildcard_matches(byte) => (at, seen) = (at + 1, seen + 1),
            (Some(expected), _) if *expected == byte => (at, seen) = (at + 1, seen + 1),
            (_, Some((after, taken))) if wildcard_matches(text[taken]) => {
                last_star = Some((after, taken + 1));
                (at, seen) = (after, taken + 1);
            }
            _ => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}
