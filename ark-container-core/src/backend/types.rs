//! What goes into a [`RegistryBackend`](super::RegistryBackend) and comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Platform, RepositoryUrl, Tag, TagPattern};

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

/// With which key a registry encrypts the images of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Encryption {
    /// A key of the registry's own.
    Aes256,
    /// A key of AWS KMS.
    Kms {
        /// Its ARN, id or alias; `None` for the key that KMS keeps for ECR.
        key: Option<String>,
    },
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aes256 => f.write_str("AES256"),
            Self::Kms { key: None } => f.write_str("KMS"),
            Self::Kms { key: Some(key) } => write!(f, "KMS with the key {key}"),
        }
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
    /// The tags for which it is the other way round.
    pub mutability_exclusions: BTreeSet<TagPattern>,
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
            mutability_exclusions: BTreeSet::new(),
            resource_tags: None,
        }
    }
}

/// How a repository is to be created.
///
/// What a registry does not have, such as encryption in a folder, it refuses with
/// [`Error::InvalidInput`](crate::Error::InvalidInput).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Whether its tags can be moved.
    pub tag_mutability: TagMutability,
    /// The tags for which it is the other way round; 5 at most.
    pub mutability_exclusions: BTreeSet<TagPattern>,
    /// Resource tags to put on it; keys that start with `ark:` are the backend's own.
    pub resource_tags: BTreeMap<String, String>,
    /// With which key its images are encrypted; `None` for the registry's default.
    pub encryption: Option<Encryption>,
    /// Scan each image for vulnerabilities when it is pushed; off leaves it to the registry's settings.
    pub scan_on_push: bool,
    /// Which images expire, as the JSON text of an ECR lifecycle policy.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>
    pub lifecycle_policy: Option<String>,
}

impl CreateOptions {
    /// The most [`mutability_exclusions`](Self::mutability_exclusions) that a repository has.
    ///
    /// Source: `ImageTagMutabilityExclusionFilters` in the ECR service model.
    pub const MAX_MUTABILITY_EXCLUSIONS: usize = 5;

    /// These options with another tag mutability.
    pub fn with_tag_mutability(mut self, tag_mutability: TagMutability) -> Self {
        self.tag_mutability = tag_mutability;
        self
    }

    /// These options with one more exception to the tag mutability.
    pub fn with_mutability_exclusion(mut self, pattern: TagPattern) -> Self {
        self.mutability_exclusions.insert(pattern);
        self
    }

    /// These options with one more resource tag.
    pub fn with_resource_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource_tags.insert(key.into(), value.into());
        self
    }

    /// These options with a key for encryption.
    pub fn with_encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// These options with scanning on push on or off.
    pub fn with_scan_on_push(mut self, scan_on_push: bool) -> Self {
        self.scan_on_push = scan_on_push;
        self
    }

    /// These options with a lifecycle policy, as JSON text.
    pub fn with_lifecycle_policy(mut self, lifecycle_policy: impl Into<String>) -> Self {
        self.lifecycle_policy = Some(lifecycle_policy.into());
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
    /// The media type of its manifest; empty where the registry does not tell.
    pub media_type: String,
    /// What it runs on; more than one for an index, none where nothing says.
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
