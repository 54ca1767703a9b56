//! [`ImageSelector`]: selects an image of a source; and the text form `PATH[:SELECTOR]` of sources and targets.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::model::Digest;

/// The selection of one image in a layout or archive.
///
/// ```
/// use ark_container_core::transfer::ImageSelector;
///
/// assert_eq!(ImageSelector::from("team/tool:v1"), ImageSelector::Name("team/tool:v1".to_owned()));
/// assert_eq!(ImageSelector::from("@1"), ImageSelector::Index(1));
/// let digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert!(matches!(ImageSelector::from(digest), ImageSelector::Digest(_)));
/// assert_eq!(ImageSelector::from(digest).to_string(), digest);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageSelector {
    /// The image with this name: `org.opencontainers.image.ref.name` in a layout, a tag in a docker archive.
    Name(String),
    /// The image with this digest, written `@sha256:…` or `sha256:…`.
    Digest(Digest),
    /// The image at this position, counted from 0, written `@0`.
    Index(usize),
}

/// A digest or a position; any other text is a name.
impl From<&str> for ImageSelector {
    fn from(text: &str) -> Self {
        let rest = text.strip_prefix('@').unwrap_or(text);
        if let Ok(digest) = rest.parse() {
            return Self::Digest(digest);
        }
        match rest.parse() {
            // `usize` also parses a sign and leading zeros.
            Ok(position) if text == format!("@{position}") => Self::Index(position),
            _ => Self::Name(text.to_owned()),
        }
    }
}

impl From<String> for ImageSelector {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl FromStr for ImageSelector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for ImageSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Digest(digest) => write!(f, "@{digest}"),
            Self::Index(position) => write!(f, "@{position}"),
        }
    }
}

/// Splits `PATH`, `PATH:SELECTOR` and `PATH@DIGEST`. The path may contain colons.
///
/// The longest existing start of the text belongs to the path. The path extends to the next colon after it, so the
/// folder or file itself need not exist.
pub(super) fn split_path(text: &str) -> (PathBuf, Option<ImageSelector>) {
    let is_digest = |offset: usize| {
        let selector = ImageSelector::from(&text[offset..]);
        matches!(selector, ImageSelector::Digest(_))
    };
    let is_end = |offset: usize| match text.as_bytes().get(offset) {
        Some(b'@') => is_digest(offset),
        Some(byte) => *byte == b':',
        None => true,
    };
    let is_component_end = |offset: usize| text.as_bytes().get(offset) == Some(&b'/');
    let existing = (1..=text.len())
        .rev()
        .filter(|offset| is_end(*offset) || is_component_end(*offset))
        .find(|offset| Path::new(&text[..*offset]).exists())
        .unwrap_or_default();
    let end = (existing..text.len()).find(|offset| is_end(*offset)).unwrap_or(text.len());
    let selector = text[end..].strip_prefix(':').unwrap_or(&text[end..]);
    let selector = (!selector.is_empty()).then(|| selector.into());
    (text[..end].into(), selector)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn selector_is_printed_as_it_is_parsed() {
        let digest = || ImageSelector::Digest(format!("sha256:{HEX}").parse().unwrap());
        let name = |text: &str| ImageSelector::Name(text.to_owned());
        for (text, selector) in [
            ("v1".to_owned(), name("v1")),
            ("h.example:5000/t/n:v1".to_owned(), name("h.example:5000/t/n:v1")),
            (format!("@sha256:{HEX}"), digest()),
            ("@0".to_owned(), ImageSelector::Index(0)),
            ("@12".to_owned(), ImageSelector::Index(12)),
            ("12".to_owned(), name("12")),
            ("@012".to_owned(), name("@012")),
            ("@+1".to_owned(), name("@+1")),
            ("@-1".to_owned(), name("@-1")),
            ("@sha256:00".to_owned(), name("@sha256:00")),
            (format!("a@sha256:{HEX}"), name(&format!("a@sha256:{HEX}"))),
        ] {
            assert_eq!(ImageSelector::from(text.as_str()), selector, "{text}");
            assert_eq!(selector.to_string(), text);
        }
        assert_eq!(ImageSelector::from(format!("sha256:{HEX}")), digest());
    }

    #[test]
    fn longest_existing_path_wins() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for file in ["a", "a:b", "at@1"] {
            fs::write(at(file), "").unwrap();
        }
        for folder in ["ws", "ws:1", "ws:1/out:2"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let digest = format!("@sha256:{HEX}");
        for (text, path, selector) in [
            ("a", "a", None),
            ("a:", "a", None),
            ("a:x", "a", Some("x")),
            ("a:b", "a:b", None),
            ("a:b:", "a:b", None),
            ("a:b:@2", "a:b", Some("@2")),
            ("a:b:h.example:5000/t/n:v1", "a:b", Some("h.example:5000/t/n:v1")),
            ("at@1", "at@1", None),
            ("at@1:x", "at@1", Some("x")),
            ("none:h.example:5000/t/n:v1", "none", Some("h.example:5000/t/n:v1")),
            ("ws:v1", "ws", Some("v1")),
            ("ws:1", "ws:1", None),
            // A new folder in an existing folder.
            ("ws:1/new", "ws:1/new", None),
            ("ws:1/new:v9", "ws:1/new", Some("v9")),
            ("ws:1/new/deep:v9:x", "ws:1/new/deep", Some("v9:x")),
            ("ws:1/out:2/new:v9", "ws:1/out:2/new", Some("v9")),
            ("ws:1/out:3", "ws:1/out", Some("3")),
            ("ws:2/new:v9", "ws", Some("2/new:v9")),
        ] {
            let expected = (PathBuf::from(at(path)), selector.map(ImageSelector::from));
            assert_eq!(split_path(&at(text)), expected, "{text}");
        }
        for text in ["a", "a:b", "none", "ws:1/new"] {
            for separator in ["", ":"] {
                let expected = (PathBuf::from(at(text)), Some(digest.as_str().into()));
                assert_eq!(split_path(&format!("{}{separator}{digest}", at(text))), expected);
            }
        }
        for (text, path) in [("", ""), (":x", ""), ("/", "/"), ("/:x", "/"), ("x@y", "x@y")] {
            assert_eq!(split_path(text).0, Path::new(path), "{text}");
        }
    }
}
