//! [`ManifestContent`]: what a registry needs to know of a manifest's text.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::manifests::PutManifestError;
use crate::model::{Digest, Platform, media_type};

/// Configurations that say what the image runs on.
const IMAGE_CONFIGS: [&str; 2] = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG];

/// Layers that may be somewhere else: their bytes may not be given away by everyone.
const FOREIGN_LAYERS: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.",
    "application/vnd.docker.image.rootfs.foreign.",
];

/// The text of a manifest or index, OCI's or docker's.
///
/// Unlike [`Descriptor`](crate::model::Descriptor), which is for content that is moved, it takes all
/// that tools write: fields that say nothing to a registry are ignored, whatever is in them.
///
/// Sources: <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>,
/// <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md>,
/// <https://distribution.github.io/distribution/spec/manifest-v2-2/>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestContent {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Content>,
    layers: Option<Vec<Content>>,
    manifests: Option<Vec<Content>>,
    subject: Option<Content>,
    annotations: Option<BTreeMap<String, String>>,
}

/// A descriptor: something that a manifest refers to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    urls: Option<Vec<String>>,
    platform: Option<PlatformFields>,
}

/// What an image runs on, as far as it is said.
#[derive(Debug, Deserialize)]
struct PlatformFields {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl PlatformFields {
    /// The platform, if there is one: builders write `unknown/unknown` for what runs nowhere, such
    /// as an attestation.
    fn known(&self) -> Option<Platform> {
        let known = |text: &str| !text.is_empty() && text != "unknown";
        (known(&self.os) && known(&self.architecture)).then(|| Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
        })
    }
}

impl Content {
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn platform(&self) -> Option<Platform> {
        self.platform.as_ref()?.known()
    }

    /// Whether it is a manifest itself, and not a blob that an index has among its manifests, as
    /// build caches do.
    pub(super) fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type)
    }

    /// Whether it may be missing, since clients know where else to get it.
    pub(super) fn is_elsewhere(&self) -> bool {
        let foreign = FOREIGN_LAYERS.iter().any(|prefix| self.media_type.starts_with(prefix));
        foreign && self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// The platform that an image's configuration names, if it does.
pub(super) fn configured_platform(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice::<PlatformFields>(config).ok()?.known()
}

impl ManifestContent {
    /// Reads a manifest that came with this media type.
    ///
    /// # Errors
    /// [`PutManifestError::Invalid`] with what is wrong with it.
    pub(super) fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, PutManifestError> {
        let invalid = |problem: String| Err(PutManifestError::Invalid(problem));
        if !media_type::is_manifest(media_type) && !media_type::is_index(media_type) {
            return invalid(format!("{media_type:?} is not the media type of a manifest or index"));
        }
        // JSON is UTF-8, also in the fields that are ignored here and that others read.
        let Ok(text) = std::str::from_utf8(bytes) else {
            return invalid("it is no JSON, for it is not UTF-8".to_owned());
        };
        let content: Self = match serde_json::from_str(text) {
            Ok(content) => content,
            Err(error) => return invalid(error.to_string()),
        };
        if content.schema_version != 2 {
            return invalid(format!("its schema version is {}, not 2", content.schema_version));
        }
        if let Some(own) = content.media_type.as_ref().filter(|own| *own != media_type) {
            return invalid(format!("it says that it is {own:?}, and came as {media_type:?}"));
        }
        // One text that is a manifest to some and an index to others would be two images.
        // Source: https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh
        let image = content.config.is_some() || content.layers.is_some();
        match (media_type::is_index(media_type), image, &content.manifests) {
            (true, false, Some(_)) => Ok(content),
            (true, true, _) => invalid("an index has neither config nor layers".to_owned()),
            (true, false, None) => invalid("an index needs manifests".to_owned()),
            (false, _, Some(_)) => invalid("only an index has manifests".to_owned()),
            (false, _, None) if content.config.is_none() => {
                invalid("a manifest needs a config".to_owned())
            }
            (false, _, None) => Ok(content),
        }
    }

    /// The configuration and the layers.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Content> {
        self.config.iter().chain(self.layers.iter().flatten())
    }

    /// What an index refers to.
    pub(super) fn children(&self) -> impl Iterator<Item = &Content> {
        self.manifests.iter().flatten()
    }

    /// The configuration, if it is one that says what the image runs on.
    pub(super) fn image_config(&self) -> Option<&Digest> {
        let config = self.config.as_ref();
        let config = config.filter(|config| IMAGE_CONFIGS.contains(&config.media_type.as_str()))?;
        Some(&config.digest)
    }

    pub(super) fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref().map(|subject| &subject.digest)
    }

    /// What listings of referrers say that it is: of a manifest without a type, its configuration's.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>
    pub(super) fn artifact_type(&self) -> Option<&str> {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.or_else(|| self.config.as_ref().map(|config| config.media_type.as_str()))
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
