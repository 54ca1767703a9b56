//! The arguments and results of a [`RegistryBackend`](super::RegistryBackend): repositories, images and
//! options.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

#[cfg(any(feature = "ecr", feature = "local"))]
use crate::model::ManifestContent;
use crate::model::{Descriptor, Digest, Platform, RepositoryUrl, Tag, TagPattern};

/// Whether a tag can be moved to another image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TagMutability {
    /// A push moves the tag.
    #[default]
    Mutable,
    /// A tag keeps its first image. A push of another image to the tag is a conflict.
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

/// The key with which a registry encrypts the images of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Encryption {
    /// A key that the registry manages.
    Aes256,
    /// A key of AWS KMS.
    Kms {
        /// The ARN, id or alias of the key; `None` for the AWS managed key of ECR.
        key: Option<String>,
    },
    /// A key of AWS KMS, with two layers of encryption.
    KmsDsse {
        /// The ARN, id or alias of the key; `None` for the AWS managed key of ECR.
        key: Option<String>,
    },
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aes256 => f.write_str("AES256"),
            Self::Kms { key: None } => f.write_str("KMS"),
            Self::Kms { key: Some(key) } => write!(f, "KMS with the key {key}"),
            Self::KmsDsse { key: None } => f.write_str("KMS_DSSE"),
            Self::KmsDsse { key: Some(key) } => write!(f, "KMS_DSSE with the key {key}"),
        }
    }
}

/// A repository with its settings.
///
/// Serializes to `organization`, `name`, `url`, `created_at` (RFC 3339 in UTC, to the second),
/// `tag_mutability`, `mutability_exclusions` and `resource_tags`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repository {
    /// The URL that clients tag, push to and pull from.
    pub url: RepositoryUrl,
    /// The creation time, if the registry reports it.
    pub created_at: Option<SystemTime>,
    /// Whether tags of the repository can be moved.
    pub tag_mutability: TagMutability,
    /// The tags with the opposite mutability.
    pub mutability_exclusions: BTreeSet<TagPattern>,
    /// The resource tags; `None` in a listing if the registry does not list them.
    pub resource_tags: Option<BTreeMap<String, String>>,
}

impl Repository {
    /// Creates a repository with only the URL set.
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

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let path = self.url.path();
        let mut fields = serializer.serialize_struct("Repository", 7)?;
        fields.serialize_field("organization", &path.organization())?;
        fields.serialize_field("name", path.name())?;
        fields.serialize_field("url", &self.url)?;
        fields.serialize_field("created_at", &self.created_at.map(rfc3339))?;
        fields.serialize_field("tag_mutability", &self.tag_mutability)?;
        fields.serialize_field("mutability_exclusions", &self.mutability_exclusions)?;
        fields.serialize_field("resource_tags", &self.resource_tags)?;
        fields.end()
    }
}

/// Options for the creation of a repository.
///
/// A registry rejects an option that it does not support, such as encryption in a folder, with
/// [`Error::InvalidInput`](crate::Error::InvalidInput).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Whether tags of the repository can be moved.
    pub tag_mutability: TagMutability,
    /// The tags with the opposite mutability; at most
    /// [`MAX_MUTABILITY_EXCLUSIONS`](CreateOptions::MAX_MUTABILITY_EXCLUSIONS).
    pub mutability_exclusions: BTreeSet<TagPattern>,
    /// The resource tags of the repository. Keys that start with `ark:` are reserved for the backend.
    pub resource_tags: BTreeMap<String, String>,
    /// The key that encrypts the images; `None` for the registry's default.
    pub encryption: Option<Encryption>,
    /// Whether each pushed image is scanned for vulnerabilities. If off, the registry's settings decide.
    pub scan_on_push: bool,
    /// The JSON text of an ECR lifecycle policy, which says which images expire.
    ///
    /// A lifecycle policy deletes images. Its caller therefore also needs the permission to delete images.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>
    pub lifecycle_policy: Option<String>,
}

impl CreateOptions {
    /// The maximum number of [`mutability_exclusions`](Self::mutability_exclusions).
    ///
    /// Source: `ImageTagMutabilityExclusionFilters` in the ECR service model.
    pub const MAX_MUTABILITY_EXCLUSIONS: usize = 5;

    /// Sets the tag mutability.
    pub fn with_tag_mutability(mut self, tag_mutability: TagMutability) -> Self {
        self.tag_mutability = tag_mutability;
        self
    }

    /// Adds a pattern of tags with the opposite mutability.
    pub fn with_mutability_exclusion(mut self, pattern: TagPattern) -> Self {
        self.mutability_exclusions.insert(pattern);
        self
    }

    /// Adds a resource tag.
    pub fn with_resource_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource_tags.insert(key.into(), value.into());
        self
    }

    /// Sets the key for encryption.
    pub fn with_encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// Sets whether each pushed image is scanned for vulnerabilities.
    pub fn with_scan_on_push(mut self, scan_on_push: bool) -> Self {
        self.scan_on_push = scan_on_push;
        self
    }

    /// Sets the lifecycle policy, as JSON text.
    pub fn with_lifecycle_policy(mut self, lifecycle_policy: impl Into<String>) -> Self {
        self.lifecycle_policy = Some(lifecycle_policy.into());
        self
    }
}

/// Options for the deletion of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteOptions {
    /// Whether to delete a repository that has images, together with its images.
    pub force: bool,
}

impl DeleteOptions {
    /// Sets whether to delete a repository that has images.
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

/// Availability of the content of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImageState {
    /// Readable.
    #[default]
    Active,
    /// In the archive of AWS ECR. Clients get a "not found" response until the image is restored.
    Archived,
    /// In restoration from the archive.
    Activating,
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Archived => "archived",
            Self::Activating => "activating",
        })
    }
}

/// An image of a repository: one manifest or index.
///
/// [`describe_image`](super::RegistryBackend::describe_image) sets every field that the manifest contains.
/// A [listing](super::RegistryBackend::list_images) leaves `platforms`, `children`, `subject` and
/// `artifact_type` empty if the registry does not list them. A listing that sets the platforms of an image
/// also sets its subject.
///
/// Serializes to `tags`, `digest`, `size`, `pushed_at` (RFC 3339 in UTC, to the second),
/// `media_type`, `platforms` and `state`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The tags, sorted bytewise. AWS ECR has tags of up to 300 characters: a tag that is longer than OCI
    /// clients accept is listed, but cannot be parsed.
    pub tags: Vec<Tag>,
    /// The stored size in bytes of the manifest, configuration and layers; of an index, also of its images.
    pub size: u64,
    /// The time of the push of the manifest. The time of the last pull is unknown: local registries do not record it.
    pub pushed_at: SystemTime,
    /// The media type of the manifest; empty if the registry does not report it.
    pub media_type: String,
    /// The platforms: several for an index, none if unknown.
    pub platforms: Vec<Platform>,
    /// The manifests that an index refers to, in its order, with their platforms.
    pub children: Vec<Descriptor>,
    /// The image that this one refers to, such as the signed image of a signature.
    pub subject: Option<Digest>,
    /// The artifact type of the manifest, or else the media type of its configuration.
    pub artifact_type: Option<String>,
    /// Whether the content can be read.
    pub state: ImageState,
}

impl Image {
    /// Creates an untagged image.
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
            children: Vec::new(),
            subject: None,
            artifact_type: None,
            state: ImageState::default(),
        }
    }

    /// Sets the children, subject and artifact type of the manifest, and the platforms if they are unknown.
    /// An invalid manifest, which an older version may have stored, sets nothing.
    #[cfg(any(feature = "ecr", feature = "local"))]
    pub(crate) fn set_manifest(&mut self, media_type: &str, manifest: &[u8]) {
        let content = match ManifestContent::parse(media_type, manifest) {
            Ok(content) => content,
            Err(problem) => {
                tracing::debug!(digest = %self.digest, problem, "the manifest is invalid");
                return;
            }
        };
        self.children = content.listed().iter().map(described).collect();
        self.subject = content.subject().map(|subject| subject.digest.clone());
        self.artifact_type = content.artifact_type().map(str::to_owned);
        if self.platforms.is_empty() {
            let platforms = self.children.iter().filter_map(|child| child.platform.clone());
            self.platforms = platforms.collect::<BTreeSet<_>>().into_iter().collect();
        }
    }
}

/// Returns the required fields and the platform of a child.
#[cfg(any(feature = "ecr", feature = "local"))]
fn described(child: &Descriptor) -> Descriptor {
    let Descriptor { media_type, digest, size, platform, .. } = child;
    let platform = platform.clone().filter(Platform::is_known);
    Descriptor { platform, ..Descriptor::new(media_type, digest.clone(), *size) }
}

impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
        let mut fields = serializer.serialize_struct("Image", 7)?;
        fields.serialize_field("tags", &self.tags)?;
        fields.serialize_field("digest", &self.digest)?;
        fields.serialize_field("size", &self.size)?;
        fields.serialize_field("pushed_at", &rfc3339(self.pushed_at))?;
        fields.serialize_field("media_type", &self.media_type)?;
        fields.serialize_field("platforms", &platforms)?;
        fields.serialize_field("state", &self.state)?;
        fields.end()
    }
}

/// Formats a time as RFC 3339 in UTC, to the second. Clamps a time outside of the years 1970 to 9999.
fn rfc3339(time: SystemTime) -> String {
    let mut text = String::new();
    let after_epoch = time >= SystemTime::UNIX_EPOCH;
    if after_epoch && write!(text, "{}", humantime::format_rfc3339_seconds(time)).is_ok() {
        return text;
    }
    let nearest = if after_epoch { "9999-12-31T23:59:59Z" } else { "1970-01-01T00:00:00Z" };
    nearest.to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::to_string;

    use super::*;

    const EPOCH_AGE: Duration = Duration::from_millis(1_790_000_000_999);

    #[test]
    fn repository_serializes_to_documented_fields() {
        let url = "localhost:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a/b".parse().unwrap();
        let mut repository = Repository::new(url);
        let start = r#"{"organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","name":"a/b","url":"localhost:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a/b","#;
        let rest = r#""created_at":null,"tag_mutability":"mutable","mutability_exclusions":[],"resource_tags":null}"#;
        assert_eq!(to_string(&repository).unwrap(), format!("{start}{rest}"));
        repository.created_at = Some(SystemTime::UNIX_EPOCH + EPOCH_AGE);
        repository.tag_mutability = TagMutability::Immutable;
        repository.mutability_exclusions.insert("dev-*".parse().unwrap());
        repository.resource_tags = Some(BTreeMap::from([("team".to_owned(), "video".to_owned())]));
        let rest = r#""created_at":"2026-09-21T14:13:20Z","tag_mutability":"immutable","mutability_exclusions":["dev-*"],"resource_tags":{"team":"video"}}"#;
        assert_eq!(to_string(&repository).unwrap(), format!("{start}{rest}"));
    }

    #[test]
    fn image_serializes_to_documented_fields() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let time = SystemTime::UNIX_EPOCH + EPOCH_AGE;
        let mut image = Image::new(digest.clone(), "m", 12, time);
        image.tags = vec!["v1".parse().unwrap()];
        image.platforms = vec!["linux/arm64/v8".parse().unwrap()];
        image.subject = Some(digest.clone());
        let expected = format!(
            r#"{{"tags":["v1"],"digest":"{digest}","size":12,"pushed_at":"2026-09-21T14:13:20Z","media_type":"m","platforms":["linux/arm64/v8"],"state":"active"}}"#
        );
        assert_eq!(to_string(&image).unwrap(), expected);
    }

    #[test]
    #[cfg(any(feature = "ecr", feature = "local"))]
    fn manifest_sets_children_and_platforms() {
        use crate::model::media_type::{OCI_INDEX, OCI_MANIFEST};

        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let child = |platform: &str| {
            format!(
                r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":7,"urls":["x"],"platform":{platform}}}"#
            )
        };
        let children = [
            child(r#"{"os":"linux","architecture":"amd64"}"#),
            child(r#"{"os":"unknown","architecture":"unknown"}"#),
            child("null"),
        ];
        let index = format!(
            r#"{{"schemaVersion":2,"subject":{},"manifests":[{}]}}"#,
            child("null"),
            children.join(",")
        );
        let mut image = Image::new(digest.clone(), OCI_INDEX, 0, SystemTime::UNIX_EPOCH);
        let original = image.clone();
        image.set_manifest(OCI_INDEX, b"{}");
        assert_eq!(image, original);
        image.set_manifest(OCI_INDEX, index.as_bytes());
        let mut expected = vec![Descriptor::new(OCI_MANIFEST, digest.clone(), 7); 3];
        expected[0].platform = "linux/amd64".parse().ok();
        assert_eq!(image.children, expected);
        assert_eq!(image.platforms, ["linux/amd64".parse().unwrap()]);
        assert_eq!((image.subject, image.artifact_type), (Some(digest), None));
    }

    #[test]
    fn times_outside_of_rfc3339_are_clamped() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(rfc3339(epoch - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(epoch + Duration::from_secs(1 << 40)), "9999-12-31T23:59:59Z");
    }
}
