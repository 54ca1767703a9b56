//! [`Descriptor`]: how a manifest or index names what belongs to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Platform};

/// What a manifest says of a piece of content: its type, digest and size.
///
/// Every media type is kept as it is written, and fields and annotations are always written in one
/// order, so that a manifest which is made from it has the same digest each time.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: String,
    /// What the content is called.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// What kind of artifact a referrer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where else the content can be had, for layers that may not be distributed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What its author wants to say of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What an image in an index runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with the three fields that each has.
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
}
