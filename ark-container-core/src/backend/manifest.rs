//! [`ManifestContent`]: the fields of a manifest or index that registries and descriptions of images need.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use super::Image;
use crate::model::{Descriptor, Digest, Platform, media_type};

/// The media types of configurations that name a platform.
const IMAGE_CONFIGS: [&str; 2] = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG];

/// The media types of layers that may not be redistributed, and so may be stored elsewhere.
const FOREIGN_LAYERS: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.",
    "application/vnd.docker.image.rootfs.foreign.",
];

/// A manifest or index of OCI or docker.
///
/// It is more lenient than [`Descriptor`](crate::model::Descriptor): fields that a registry does not
/// need are ignored and may have any type.
///
/// Sources: <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>,
/// <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md>,
/// <https://distribution.github.io/distribution/spec/manifest-v2-2/>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestContent {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Content>,
    layers: Option<Vec<Content>>,
    manifests: Option<Vec<Content>>,
    subject: Option<Content>,
    annotations: Option<BTreeMap<String, String>>,
}

/// A descriptor in a manifest or index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Content {
    media_type: String,
    digest: Digest,
    #[serde(default, deserialize_with = "number_or_zero")]
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    platform: Option<PlatformFields>,
}

/// Reads a size; anything but a size is 0.
fn number_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.as_u64().unwrap_or_default())
}

/// The platform fields of a configuration or descriptor.
#[derive(Debug, Deserialize)]
struct PlatformFields {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl PlatformFields {
    /// Returns the platform. Builders write `unknown/unknown` for an artifact without one, such as an
    /// attestation.
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
    fn descriptor(&self) -> Descriptor {
        let mut descriptor =
            Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size);
        descriptor.platform = self.platform();
        descriptor
    }

    #[cfg(feature = "local")]
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn platform(&self) -> Option<Platform> {
        self.platform.as_ref()?.known()
    }

    /// Whether it is a manifest. The index of a build cache has blobs among its manifests.
    pub(crate) fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type)
    }

    /// Whether the layer may be missing, because it has URLs to download it from.
    pub(crate) fn may_be_missing(&self) -> bool {
        let foreign = FOREIGN_LAYERS.iter().any(|prefix| self.media_type.starts_with(prefix));
        foreign && self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// Returns the platform in an image's configuration, if it names one.
pub(crate) fn configured_platform(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice::<PlatformFields>(config).ok()?.known()
}

impl ManifestContent {
    /// Parses a manifest that was sent with this media type.
    ///
    /// # Errors
    /// The reason why it is invalid.
    #[cfg(feature = "local")]
    pub(crate) fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, String> {
        let invalid = |problem: String| Err(problem);
        if !media_type::is_manifest(media_type) && !media_type::is_index(media_type) {
            return invalid(format!("{media_type:?} is not the media type of a manifest or index"));
        }
        // JSON is UTF-8, also in the fields that are ignored here.
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
        // A text that is valid as a manifest and as an index would be two images.
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
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Content> {
        self.config.iter().chain(self.layers.iter().flatten())
    }

    /// The manifests of an index.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Content> {
        self.manifests.iter().flatten()
    }

    /// Returns the digest of the configuration, if its type names a platform.
    pub(crate) fn image_config(&self) -> Option<&Digest> {
        let config = self.config.as_ref();
        let config = config.filter(|config| IMAGE_CONFIGS.contains(&config.media_type.as_str()))?;
        Some(&config.digest)
    }

    pub(crate) fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref().map(|subject| &subject.digest)
    }

    /// Returns the artifact type in listings of referrers; the default is the type of the configuration.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>
    pub(crate) fn artifact_type(&self) -> Option<&str> {
        let own = self.artifact_type.as_deref().filter(|own| !own.is_empty());
        own.or_else(|| self.config.as_ref().map(|config| config.media_type.as_str()))
    }

    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.clone().unwrap_or_default()
    }
}

impl Image {
    /// Sets what the manifest of this image tells: children, subject, artifact type, and the platforms
    /// where none are known.
    ///
    /// # Errors
    /// The reason why it is no manifest.
    pub(crate) fn set_manifest(&mut self, manifest: &[u8]) -> serde_json::Result<()> {
        let content: ManifestContent = serde_json::from_slice(manifest)?;
        self.children = content.children().map(Content::descriptor).collect();
        self.subject = content.subject().cloned();
        self.artifact_type = content.artifact_type().map(str::to_owned);
        if self.platforms.is_empty() {
            let platforms: BTreeSet<_> = content.children().filter_map(Content::platform).collect();
            self.platforms = platforms.into_iter().collect();
        }
        Ok(())
    }
}

#[cfg(feature = "_fuzzing")]
pub(super) mod fuzzing {
    //! Private parsers of the store, for the fuzz targets.

    use super::{ManifestContent, configured_platform};
    use crate::model::{Digest, Platform};

    /// The blobs and then the manifests that a manifest of this type names; an error where it is none.
    pub fn manifest(media_type: &str, bytes: &[u8]) -> Result<(Vec<Digest>, Vec<Digest>), String> {
        let content = ManifestContent::parse(media_type, bytes)?;
        let blobs = content.blobs().map(|blob| blob.digest().clone()).collect();
        Ok((blobs, content.children().map(|child| child.digest().clone()).collect()))
    }

    /// The platform that a configuration names.
    pub fn platform(config: &[u8]) -> Option<Platform> {
        configured_platform(config)
    }
}

#[cfg(test)]
#[cfg(feature = "local")]
mod tests {
    use super::*;
    use crate::model::media_type::{
        DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST,
    };

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn descriptor(media_type: &str) -> String {
        let hex = "ab".repeat(32);
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{hex}","size":1}}"#)
    }

    fn manifest_of(media_type: &str) -> String {
        let (config, layer) = (descriptor(OCI_CONFIG), descriptor(LAYER));
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layer}]}}"#
        )
    }

    fn index_of(media_type: &str, child: &str) -> String {
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{child}]}}"#)
    }

    fn problem(media_type: &str, text: &str) -> String {
        ManifestContent::parse(media_type, text.as_bytes()).unwrap_err()
    }

    #[test]
    fn all_four_media_types_are_read() {
        for kind in [OCI_MANIFEST, DOCKER_MANIFEST] {
            let content = ManifestContent::parse(kind, manifest_of(kind).as_bytes()).unwrap();
            assert_eq!((content.blobs().count(), content.children().count()), (2, 0));
        }
        for kind in [OCI_INDEX, DOCKER_MANIFEST_LIST] {
            let text = index_of(kind, &descriptor(OCI_MANIFEST));
            let content = ManifestContent::parse(kind, text.as_bytes()).unwrap();
            assert_eq!((content.blobs().count(), content.children().count()), (0, 1));
        }
        // The media type may be left out, and Go writes null for an empty list.
        let text =
            format!(r#"{{"schemaVersion":2,"config":{},"layers":null}}"#, descriptor(OCI_CONFIG));
        assert!(ManifestContent::parse(OCI_MANIFEST, text.as_bytes()).is_ok());
    }

    #[test]
    fn invalid_manifest_is_rejected_with_reason() {
        let (manifest, index) = (manifest_of(OCI_MANIFEST), index_of(OCI_INDEX, ""));
        assert!(problem("text/plain", &manifest).contains("\"text/plain\" is not the media type"));
        assert!(problem(OCI_MANIFEST, "{").contains("EOF"));
        assert!(problem(DOCKER_MANIFEST, &manifest).contains("and came as"));
        assert!(problem(OCI_INDEX, r#"{"schemaVersion":2}"#).ends_with("an index needs manifests"));
        assert!(problem(OCI_MANIFEST, r#"{"schemaVersion":2}"#).ends_with("needs a config"));
        assert!(problem(OCI_MANIFEST, r#"{"schemaVersion":1}"#).ends_with("is 1, not 2"));
        let both = manifest.replace(r#""layers""#, r#""manifests":[],"layers""#);
        assert!(problem(OCI_MANIFEST, &both).ends_with("only an index has manifests"));
        let both = index.replace(r#""manifests""#, r#""layers":[],"manifests""#);
        assert!(problem(OCI_INDEX, &both).ends_with("neither config nor layers"));
        let twice = manifest.replace(r#""layers""#, r#""layers":[],"layers""#);
        assert!(problem(OCI_MANIFEST, &twice).contains("duplicate field"));
        let digest = manifest.replace("sha256:", "md5:");
        assert!(problem(OCI_MANIFEST, &digest).contains("neither sha256 nor sha512"));
    }

    #[test]
    fn manifest_sets_children_subject_and_artifact_type() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let read = |text: &str| {
            let mut image = Image::new(digest.clone(), "", 0, std::time::SystemTime::UNIX_EPOCH);
            image.set_manifest(text.as_bytes()).unwrap();
            image
        };
        let on = |platform: &str| {
            let platform = format!(r#"{{"platform":{platform},"#);
            descriptor(OCI_MANIFEST).replacen('{', &platform, 1)
        };
        let children = [
            on(r#"{"os":"linux","architecture":"amd64"}"#),
            on(r#"{"os":"unknown","architecture":"unknown"}"#),
            descriptor(OCI_MANIFEST).replace(r#""size":1"#, r#""size":"x""#),
        ];
        let index = read(&index_of(OCI_INDEX, &children.join(",")));
        let platforms: Vec<_> = index.children.iter().map(|child| &child.platform).collect();
        assert_eq!(platforms, [&"linux/amd64".parse().ok(), &None, &None]);
        let sizes: Vec<_> = index.children.iter().map(|child| child.size).collect();
        assert_eq!(sizes, [1, 1, 0]);
        assert_eq!(index.platforms, ["linux/amd64".parse().unwrap()]);
        assert_eq!((index.subject, index.artifact_type), (None, None));
        let subject = format!(r#""subject":{},"layers""#, descriptor(OCI_MANIFEST));
        let image = read(&manifest_of(OCI_MANIFEST).replace(r#""layers""#, &subject));
        assert_eq!(image.subject, Some(digest.clone()));
        assert_eq!(image.artifact_type.as_deref(), Some(OCI_CONFIG));
        let signature = manifest_of(OCI_MANIFEST).replacen('{', r#"{"artifactType":"sig","#, 1);
        assert_eq!(read(&signature).artifact_type.as_deref(), Some("sig"));
    }

    #[test]
    fn only_foreign_layers_with_an_address_may_be_elsewhere() {
        let content = |media_type: &str, urls: &str| -> Content {
            let text = descriptor(media_type);
            serde_json::from_str(&text.replacen('{', &format!("{{\"urls\":{urls},"), 1)).unwrap()
        };
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let restricted = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        let urls = r#"["https://example.com/x"]"#;
        assert!(content(foreign, urls).may_be_missing());
        assert!(content(restricted, urls).may_be_missing());
        assert!(!content(foreign, "[]").may_be_missing());
        assert!(!content(foreign, "null").may_be_missing());
        assert!(!content(LAYER, urls).may_be_missing());
    }

    #[test]
    fn what_is_not_utf_8_is_no_manifest_wherever_it_stands() {
        let manifest = manifest_of(OCI_MANIFEST);
        let ignored = manifest.replace(r#""layers""#, r#""x":"?","layers""#);
        assert!(ManifestContent::parse(OCI_MANIFEST, ignored.as_bytes()).is_ok());
        let bytes = ignored.bytes().map(|byte| if byte == b'?' { 0xff } else { byte });
        let problem = ManifestContent::parse(OCI_MANIFEST, &bytes.collect::<Vec<_>>()).unwrap_err();
        assert!(problem.contains("it is not UTF-8"), "{problem}");
    }

    #[test]
    fn platforms_that_say_nothing_are_none() {
        let platform = |text: &str| configured_platform(text.as_bytes()).map(|p| p.to_string());
        let full = r#"{"os":"linux","architecture":"arm","variant":"v7","rootfs":{}}"#;
        assert_eq!(platform(full).as_deref(), Some("linux/arm/v7"));
        let empty = r#"{"os":"linux","architecture":"amd64","variant":""}"#;
        assert_eq!(platform(empty).as_deref(), Some("linux/amd64"));
        assert_eq!(platform(r#"{"os":"unknown","architecture":"unknown"}"#), None);
        assert_eq!(platform("{}"), None);
        assert_eq!(platform("not json"), None);
    }
}
