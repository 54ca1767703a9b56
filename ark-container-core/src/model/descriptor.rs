//! [`Descriptor`] and [`Digest`]: the references of manifests to content.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::parse::{ParseError, annotations, null_as_default, serde_as_text};
use super::platform::whole;
use super::{Platform, media_type};

/// A reference of a manifest or index to content: its media type, digest and size.
///
/// Fields and annotations are serialized in a fixed order, so that equal manifests have equal digests. In
/// JSON input, `null` means that a field is absent.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type, exactly as written.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// The artifact type, for a referrer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Additional URLs of the content, for layers that may not be redistributed.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The annotations.
    #[serde(default, deserialize_with = "annotations", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of an image in an index. A platform without an operating system or architecture is ignored.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Creates a descriptor with the required fields.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            artifact_type: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    /// Returns whether the content is a manifest or an index, not a blob, according to its media type.
    ///
    /// An index may list blobs: the index of a build cache does.
    pub fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type)
    }

    /// Returns whether the content may be absent from the repository. A layer that may not be redistributed
    /// may be absent if it has download URLs.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn may_be_missing(&self) -> bool {
        media_type::is_nondistributable(&self.media_type) && !self.urls.is_empty()
    }
}

/// The hash functions that the OCI image specification registers and this project verifies.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md#registered-algorithms>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: 64 hexadecimal digits.
    Sha256,
    /// SHA-512: 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// Returns the name of the algorithm, which precedes the colon of a digest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The number of hexadecimal digits of a digest in a referrers tag.
pub(crate) const REFERRERS_TAG_DIGITS: usize = 64;

/// A content digest, `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.
///
/// ```
/// use ark_container_core::model::{Algorithm, Digest};
///
/// let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse()?;
/// assert_eq!(digest.algorithm(), Algorithm::Sha256);
/// assert!("sha256:short".parse::<Digest>().is_err());
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// Creates a digest from the raw bytes that a hash function returns. Returns `None` if their number is
    /// wrong for the algorithm.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        use std::fmt::Write as _;

        let mut hex = String::with_capacity(algorithm.hex_len());
        for byte in bytes {
            write!(hex, "{byte:02x}").ok()?;
        }
        (hex.len() == algorithm.hex_len()).then(|| Self { algorithm, hex: hex.into() })
    }

    /// Returns the hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the tag that clients use for the referrers of the content, such as `sha256-<hex>`.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#referrers-tag-schema>
    pub(crate) fn referrers_tag(&self) -> String {
        let digits: String = self.hex.chars().take(REFERRERS_TAG_DIGITS).collect();
        format!("{}-{digits}", self.algorithm.as_str())
    }

    /// Returns the hexadecimal digits after the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let Some((name, hex)) = input.split_once(':') else {
            return Err(ParseError::new("digest", input, "expected sha256:<hex> or sha512:<hex>"));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => {
                let problem = "the algorithm is neither sha256 nor sha512";
                return Err(ParseError::new("digest", input, problem));
            }
        };
        let foreign = hex.char_indices().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f'));
        if let Some((offset, character)) = foreign {
            let problem =
                format!("expected a lower-case hexadecimal digit but found {character:?}");
            return Err(ParseError::at("digest", input, name.len() + 1 + offset, problem));
        }
        if hex.len() != algorithm.hex_len() {
            let problem = format!("{} hexadecimal digits, not {}", hex.len(), algorithm.hex_len());
            return Err(ParseError::new("digest", input, problem));
        }
        Ok(Self { algorithm, hex: hex.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

serde_as_text!(Digest);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digest_errors_have_a_reason() {
        let error = |text: &str| text.parse::<Digest>().unwrap_err().to_string();
        assert!(error("abc").ends_with("expected sha256:<hex> or sha512:<hex>"));
        assert!(error("md5:00").ends_with("neither sha256 nor sha512"));
        assert!(error("sha256:0A").ends_with("but found 'A' at character 9"));
        assert!(error("sha512:00").ends_with("2 hexadecimal digits, not 128"));
    }

    #[cfg(any(feature = "local", feature = "push"))]
    #[test]
    fn foreign_layer_with_url_may_be_missing() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let restricted = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        let urls = r#"["https://example.com/x"]"#;
        for (media_type, urls, expected) in [
            (foreign, urls, true),
            (restricted, urls, true),
            (foreign, "[]", false),
            (foreign, "null", false),
            (media_type::OCI_LAYER_GZIP, urls, false),
        ] {
            let digest = format!("sha256:{}", "ab".repeat(32));
            let text = format!(
                r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1,"urls":{urls}}}"#
            );
            let layer: Descriptor = serde_json::from_str(&text).unwrap();
            assert_eq!(layer.may_be_missing(), expected, "{text}");
        }
    }

    #[test]
    fn null_fields_are_absent() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let required = format!(r#""mediaType":"x","digest":"{digest}","size":1"#);
        let optional = r#""artifactType":null,"urls":null,"annotations":null,"platform":null"#;
        let read: Descriptor = serde_json::from_str(&format!("{{{required},{optional}}}")).unwrap();
        assert_eq!(read, Descriptor::new("x", digest.parse().unwrap(), 1));
        assert_eq!(serde_json::to_string(&read).unwrap(), format!("{{{required}}}"));
    }

    proptest! {
        #[test]
        fn parsing_and_printing_are_inverse(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            for (algorithm, length) in [(Algorithm::Sha256, 32), (Algorithm::Sha512, 64)] {
                let digest = Digest::from_bytes(algorithm, &bytes[..length]).unwrap();
                prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            }
        }

        #[test]
        fn digest_parser_never_panics(text in "\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
