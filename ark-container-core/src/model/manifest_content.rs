//! [`ManifestContent`]: the one parser of manifests and indexes, for registries, clients and transfers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::manifest_keys::check_keys;
use super::parse::{annotations, null_as_default};
use super::{Descriptor, media_type};

/// The media types of configurations that name a platform.
const IMAGE_CONFIGS: [&str; 2] = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG];

/// The content of a manifest or index of OCI or docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestContent {
    Image(ImageManifest),
    Index(Index),
}

/// The content of an image manifest: one configuration, and layers from the lowest up.
///
/// Its fields are written in this order, and must be for ever: the digest of the same image would
/// change with it.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    schema_version: u8,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The content of an index: its manifests. A list of referrers has the same form.
///
/// Its fields are written in this order.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    schema_version: u8,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// An OCI manifest.
    #[cfg(feature = "push")]
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// An OCI index.
    #[cfg(feature = "testing")]
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

const SCHEMA_VERSION: u8 = 2;

/// The fields of a manifest or index, before it is known which of them it is.
///
/// Go programs write `null` for an empty list or map, so that `null` stands for an absent value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "null_as_default")]
    media_type: String,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Vec<Descriptor>>>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
}

/// Tells a value of `null` from a missing one: an index without manifests has at least their key.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Vec<Descriptor>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ManifestContent {
    /// Parses a manifest or index that a descriptor or `Content-Type` declares to be of this media type.
    ///
    /// # Errors
    /// The reason why it is invalid. Its media type, its declared media type and its fields must agree,
    /// and its keys must be unambiguous.
    pub(crate) fn parse(declared: &str, bytes: &[u8]) -> Result<Self, String> {
        let is_index = media_type::is_index(declared);
        if !is_index && !media_type::is_manifest(declared) {
            return Err(format!("{declared:?} is not the media type of a manifest or index"));
        }
        // JSON is UTF-8, also in the fields that are ignored here.
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no JSON, for it is not UTF-8")?;
        let fields = check_keys(text).and_then(|()| serde_json::from_str(text));
        let Fields {
            schema_version,
            media_type,
            artifact_type,
            config,
            layers,
            manifests,
            subject,
            annotations,
        } = fields.map_err(|error| error.to_string())?;
        if let Some(version) =
            schema_version.filter(|version| *version != u64::from(SCHEMA_VERSION))
        {
            return Err(format!("its schema version is {version}, not {SCHEMA_VERSION}"));
        }
        if !media_type.is_empty() && media_type != declared {
            return Err(format!("it says that it is {media_type:?}, and came as {declared:?}"));
        }
        let (schema_version, media_type) = (SCHEMA_VERSION, declared.to_owned());
        let artifact_type = artifact_type.filter(|own| !own.is_empty());
        // Content that is valid as a manifest and as an index would be two images.
        // Source: https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh
        match (config, manifests) {
            (None, Some(manifests)) if is_index && layers.is_none() => Ok(Self::Index(Index {
                schema_version,
                media_type,
                artifact_type,
                manifests: manifests.unwrap_or_default(),
                subject,
                annotations,
            })),
            (None, None) if is_index && layers.is_none() => {
                Err("an index needs manifests".to_owned())
            }
            _ if is_index => Err("an index has neither config nor layers".to_owned()),
            (_, Some(Some(_))) => Err("only an index has manifests".to_owned()),
            (None, _) => Err("a manifest needs a config".to_owned()),
            (Some(config), _) => Ok(Self::Image(ImageManifest {
                schema_version,
                media_type,
                artifact_type,
                config,
                layers: layers.unwrap_or_default(),
                subject,
                annotations,
            })),
        }
    }

    /// Returns the blobs that must be stored before this: configuration and layers, or what an index lists
    /// besides manifests. The index of a build cache lists blobs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match self {
            Self::Image(image) => (Some(&image.config), image.layers.as_slice()),
            Self::Index(_) => (None, [].as_slice()),
        };
        let listed = self.listed().iter().filter(|child| !child.is_manifest());
        config.into_iter().chain(layers).chain(listed)
    }

    /// Returns the manifests and indexes that an index lists.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Descriptor> {
        self.listed().iter().filter(|child| child.is_manifest())
    }

    /// Returns what an index lists: manifests, indexes and blobs.
    pub(crate) fn listed(&self) -> &[Descriptor] {
        match self {
            Self::Image(_) => &[],
            Self::Index(index) => &index.manifests,
        }
    }

    /// Returns what an index lists.
    #[cfg(feature = "push")]
    pub(crate) fn into_listed(self) -> Vec<Descriptor> {
        match self {
            Self::Image(_) => Vec::new(),
            Self::Index(index) => index.manifests,
        }
    }

    /// Returns the configuration, if its type names a platform.
    pub(crate) fn image_config(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(ImageManifest { config, .. }) => {
                IMAGE_CONFIGS.contains(&config.media_type.as_str()).then_some(config)
            }
            Self::Index(_) => None,
        }
    }

    /// Returns the manifest that this one refers to.
    pub(crate) fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(ImageManifest { subject, .. }) | Self::Index(Index { subject, .. }) => {
                subject.as_ref()
            }
        }
    }

    /// Returns the artifact type in listings of referrers; the default is the type of the configuration.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>
    pub(crate) fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Image(ImageManifest { artifact_type, config, .. }) => {
                Some(artifact_type.as_deref().unwrap_or(&config.media_type))
            }
            Self::Index(index) => index.artifact_type.as_deref(),
        }
    }

    pub(crate) fn annotations(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Image(ImageManifest { annotations, .. })
            | Self::Index(Index { annotations, .. }) => annotations,
        }
    }
}

#[cfg(feature = "_fuzzing")]
pub(crate) mod fuzzing {
    //! Private parsers of manifests and configurations, for the fuzz targets.

    use super::ManifestContent;
    use crate::model::{Descriptor, Digest, Platform};

    /// The blobs and then the manifests that a manifest of this type names; an error where it is none.
    pub fn manifest(media_type: &str, bytes: &[u8]) -> Result<(Vec<Digest>, Vec<Digest>), String> {
        let content = ManifestContent::parse(media_type, bytes)?;
        let digests = |found: &mut dyn Iterator<Item = &Descriptor>| {
            found.map(|found| found.digest.clone()).collect()
        };
        Ok((digests(&mut content.blobs()), digests(&mut content.manifests())))
    }

    /// The platform that a configuration names.
    pub fn platform(config: &[u8]) -> Option<Platform> {
        Platform::of_config(config)
    }
}
