//! What goes into a [`RegistryBackend`](super::RegistryBackend) and comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::{Digest, RepositoryUrl, Tag};

/// Whether a tag can be moved to another image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TagMutability {
    /// A push moves the tag.
    #[default]
    Mutable,
    /// A tag stays where it was first put; pushing another image to it is a conflict.
    Immutable,
}

impl fmt::Display for TagMutability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutable => "mutable",
            Self::Immutable => "immutable",
        })
    }
}

/// A repository as its registry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repository {
    /// What one tags and pushes to.
    pub url: RepositoryUrl,
    /// When it was created, where the registry tells.
    pub created_at: Option<SystemTime>,
    /// Whether its tags can be moved.
    pub tag_mutability: TagMutability,
    /// Its resource tags; `None` in a listing whose registry does not carry them.
    pub resource_tags: Option<BTreeMap<String, String>>,
}

impl Repository {
    /// A repository of which only the URL is known.
    pub fn new(url: RepositoryUrl) -> Self {
        Self {
            url,
            created_at: None,
            tag_mutability: TagMutability::default(),
            resource_tags: None,
        }
    }
}

/// How a repository is to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Whether its tags can be moved.
    pub tag_mutability: TagMutability,
    /// Resource tags to put on it.
    pub resource_tags: BTreeMap<String, String>,
}

impl CreateOptions {
    /// These options with another tag mutability.
    pub fn with_tag_mutability(mut self, tag_mutability: TagMutability) -> Self {
        self.tag_mutability = tag_mutability;
        self
    }

    /// These options with one more resource tag.
    pub fn with_resource_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource_tags.insert(key.into(), value.into());
        self
    }
}

/// How a repository is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteOptions {
    /// Delete its images too, instead of refusing.
    pub force: bool,
}

impl DeleteOptions {
    /// These options with `force` on or off.
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

/// An image of a repository: one manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its tags, in the order of their bytes.
    pub tags: Vec<Tag>,
    /// In bytes: manifest, configuration and layers as they are stored; of an index, its images' too.
    pub size: u64,
    /// When its manifest was put.
    pub pushed_at: SystemTime,
    /// The media type of its manifest.
    pub media_type: String,
    /// What it runs on; more than one for an index, none where neither says.
    pub platforms: Vec<Platform>,
}

impl Image {
    /// An untagged image.
    pub fn new(
        digest: Digest,
        media_type: impl Into<String>,
        size: u64,
        pushed_at: SystemTime,
    ) -> Self {
        Self {
            digest,
            tags: Vec::new(),
            size,
            pushed_at,
            media_type: media_type.into(),
            platforms: Vec::new(),
        }
    }
}

/// What an image runs on, in the words of the OCI image specification: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor, such as `amd64`.
    pub architecture: String,
    /// The processor's variant, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
