//! [`ResolvedImage`] and [`Inspected`]: describe an image by its manifests, configurations and referrers.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::blob::Blob;
use super::image::{Image, Source};
use super::platforms::{self, PlatformChoice};
use crate::distribution::{Client, Manifest};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, ImageManifest, ManifestContent, Platform, Tag};

/// The maximum number of configurations or lists of referrers that are read concurrently.
const CONCURRENT_READS: usize = 4;
/// The maximum total size of the configurations of an image, which are held in memory.
const MAX_CONFIGS_BYTES: usize = 32 * 1024 * 1024;

/// The image at a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResolvedImage {
    /// The image by digest, `<repository URL>@<digest>`, which pins the image. The type is not
    /// [`ImageUrl`](crate::model::ImageUrl), since the repository may belong to no organization.
    pub url: String,
    digest: Digest,
    /// The media type of the manifest or index.
    pub media_type: String,
    /// The total size of the stored manifests, configurations and layers, without duplicates, in bytes.
    pub size: u64,
    /// The platforms: several for an index, none if they are unknown. JSON has their names.
    #[serde(serialize_with = "as_names")]
    pub platforms: Vec<Platform>,
}

fn as_names<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(Platform::to_string))
}

impl ResolvedImage {
    /// Returns the digest of the manifest or index of the image.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Resolves the image at `root`, or its image for `platform`.
    pub(crate) async fn read(
        source: &dyn Source,
        root: Manifest,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let image = read_image(source, root, platform).await?;
        let platforms = platforms::platforms(source, image.root()).await?;
        Ok(Self::new(source, &image, platforms))
    }

    fn new(source: &dyn Source, image: &Image, platforms: Vec<Platform>) -> Self {
        let root = image.root();
        let manifests = image.children().iter().chain([root]);
        let manifests = manifests.map(|manifest| manifest.bytes.len() as u64);
        Self {
            size: manifests.chain(image.blobs().iter().map(Blob::size)).sum(),
            url: format!("{}@{}", source.name(), root.digest),
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
            platforms,
        }
    }
}

async fn read_image(
    source: &dyn Source,
    root: Manifest,
    platform: Option<&Platform>,
) -> Result<Image> {
    let choice = platform.cloned().map_or(PlatformChoice::AsIs, PlatformChoice::One);
    Image::read(source, root, &choice).await
}

/// The description of an image from its manifests, configurations and referrers. No layer is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Inspected {
    /// The whole image. JSON has its fields at the top level.
    #[serde(flatten)]
    pub image: ResolvedImage,
    /// Annotations of the manifest or index.
    pub annotations: BTreeMap<String, String>,
    /// The image manifests: all in an index at any depth, or the only one.
    pub manifests: Vec<InspectedManifest>,
    /// The referrers of the image and of its manifests, such as signatures.
    pub referrers: Vec<InspectedReferrer>,
    /// The text of each manifest, index and configuration, if requested. JSON has parsed values instead of text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "as_json")]
    pub documents: BTreeMap<Digest, String>,
}

/// One image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedManifest {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The media type of the manifest.
    pub media_type: String,
    /// The total size of the stored manifest, configuration and layers, in bytes.
    pub size: u64,
    /// The platform, from the index or the configuration. JSON has its name.
    #[serde(serialize_with = "as_name")]
    pub platform: Option<Platform>,
    /// The artifact type, or the media type of the configuration if there is no artifact type.
    pub artifact_type: String,
    /// The creation time in the configuration.
    pub created: Option<String>,
    /// The configuration; `None` for an artifact, which has no image configuration.
    pub config: Option<InspectedConfig>,
    /// The layers, from the lowest to the highest.
    pub layers: Vec<InspectedLayer>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The configuration of a container that runs the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedConfig {
    /// The digest of the configuration.
    pub digest: Digest,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments, or the program and its arguments if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment variables, as `NAME=VALUE`.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// The user, optionally with a group: `USER:GROUP`.
    pub user: Option<String>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedLayer {
    /// The digest of the stored layer.
    pub digest: Digest,
    /// The size of the stored layer, in bytes.
    pub size: u64,
    /// The media type.
    pub media_type: String,
}

/// A manifest that refers to another manifest, its subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedReferrer {
    /// The digest of the referrer.
    pub digest: Digest,
    /// The media type of the manifest.
    pub media_type: String,
    /// The artifact type, if the registry lists it.
    pub artifact_type: Option<String>,
    /// The size of the manifest, in bytes.
    pub size: u64,
    /// The digest of the subject.
    pub subject: Digest,
    /// The tag that contains the digest of the subject, for a signature that the registry does not list as a referrer.
    pub tag: Option<Tag>,
}

fn as_name<S: Serializer>(platform: &Option<Platform>, serializer: S) -> Result<S::Ok, S::Error> {
    platform.as_ref().map(Platform::to_string).serialize(serializer)
}

fn as_json<S: Serializer>(
    documents: &BTreeMap<Digest, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // Text that is not valid JSON becomes a string.
    let json = |text: &String| serde_json::from_str(text).unwrap_or(Value::String(text.clone()));
    serializer.collect_map(documents.iter().map(|(digest, text)| (digest, json(text))))
}

impl Inspected {
    /// Inspects the image at `root`, or its image for `platform`.
    pub(crate) async fn read(
        source: &dyn Source,
        root: Manifest,
        platform: Option<&Platform>,
        with_documents: bool,
    ) -> Result<Self> {
        let image = read_image(source, root, platform).await?;
        let all: Vec<&Manifest> = image.children().iter().chain([image.root()]).collect();
        let mut documents = BTreeMap::new();
        if with_documents {
            documents.extend(all.iter().map(|found| (found.digest.clone(), text(&found.bytes))));
        }
        let (mut platforms, mut images) = (HashMap::new(), Vec::new());
        for manifest in &all {
            match manifest.content()? {
                ManifestContent::Image(content) => images.push((*manifest, content)),
                ManifestContent::Index(index) => {
                    let listed = index.manifests.into_iter();
                    let listed = listed.map(|listed| (listed.digest, listed.platform));
                    platforms.extend(listed.filter_map(|(digest, found)| Some((digest, found?))));
                }
            }
        }
        let configs = images.iter().map(|(_, content)| read_config(source, content));
        let mut configs = stream::iter(configs.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
        let (mut manifests, mut configs_bytes) = (Vec::new(), 0);
        for (manifest, content) in &images {
            let config = configs.try_next().await?.flatten();
            configs_bytes += config.as_ref().map_or(0, Vec::len);
            if configs_bytes > MAX_CONFIGS_BYTES {
                let name = source.name();
                let problem = "the configurations have more than";
                return Err(Error::failed(format!("{name}: {problem} {MAX_CONFIGS_BYTES} bytes")));
            }
            let platform = platforms.remove(&manifest.digest);
            manifests.push(InspectedManifest::new(manifest, content, config.as_deref(), platform)?);
            if let Some(config) = config.filter(|_| with_documents) {
                documents.insert(content.config.digest.clone(), text(&config));
            }
        }
        let referrers = all.iter().map(|manifest| referrers(source, &manifest.digest));
        let referrers = stream::iter(referrers.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
        let referrers = referrers.try_collect::<Vec<_>>().await?.concat();
        let platforms = manifests.iter().filter_map(|manifest| manifest.platform.clone()).collect();
        Ok(Self {
            annotations: image.root().content()?.annotations().clone(),
            image: ResolvedImage::new(source, &image, platforms),
            manifests,
            referrers,
            documents,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads the configuration of an image; `None` for an artifact.
async fn read_config(source: &dyn Source, content: &ImageManifest) -> Result<Option<Vec<u8>>> {
    match content.has_image_config() {
        true => source.config(&content.config).await.map(Some),
        false => Ok(None),
    }
}

/// Lists the referrers of `subject`, and the signatures at tags.
async fn referrers(source: &dyn Source, subject: &Digest) -> Result<Vec<InspectedReferrer>> {
    let referrer = |found: Descriptor, tag| InspectedReferrer {
        digest: found.digest,
        media_type: found.media_type,
        artifact_type: found.artifact_type,
        size: found.size,
        subject: subject.clone(),
        tag,
    };
    let listed = source.referrers(subject).await?;
    let mut referrers: Vec<_> = listed.into_iter().map(|found| referrer(found, None)).collect();
    for tag in Client::signature_tags(subject) {
        if let Some(manifest) = source.tagged(&tag).await? {
            referrers.push(referrer(manifest.descriptor(), Some(tag)));
        }
    }
    Ok(referrers)
}

/// The fields of an image configuration that [`InspectedManifest`] contains.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md#properties>
#[derive(Default, Deserialize)]
struct ImageConfig {
    created: Option<String>,
    config: Option<ExecutionParameters>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecutionParameters {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

impl InspectedManifest {
    fn new(
        manifest: &Manifest,
        content: &ImageManifest,
        config: Option<&[u8]>,
        platform: Option<Platform>,
    ) -> Result<Self> {
        let digest = &content.config.digest;
        let invalid =
            |error| Error::failed(format!("configuration {digest} is invalid")).with_source(error);
        let read =
            config.map(serde_json::from_slice::<ImageConfig>).transpose().map_err(invalid)?;
        let platform = platform.or_else(|| Platform::of_config(config?));
        let mut created = None;
        let config = read.map(|read| {
            created = read.created;
            let runs = read.config.unwrap_or_default();
            let named = |text: Option<String>| text.filter(|text| !text.is_empty());
            InspectedConfig {
                digest: digest.clone(),
                entrypoint: runs.entrypoint.unwrap_or_default(),
                cmd: runs.cmd.unwrap_or_default(),
                env: runs.env.unwrap_or_default(),
                labels: runs.labels.unwrap_or_default(),
                working_dir: named(runs.working_dir),
                user: named(runs.user),
            }
        });
        let layers = content.layers.iter().map(|layer| InspectedLayer {
            digest: layer.digest.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
        });
        let layers: Vec<_> = layers.collect();
        let blobs = layers.iter().map(|layer| layer.size).chain([content.config.size]);
        Ok(Self {
            digest: manifest.digest.clone(),
            media_type: manifest.media_type.clone(),
            size: blobs.fold(manifest.bytes.len() as u64, u64::saturating_add),
            platform: platform.filter(Platform::is_known),
            artifact_type: content
                .artifact_type
                .as_ref()
                .unwrap_or(&content.config.media_type)
                .clone(),
            created,
            config,
            layers,
            annotations: content.annotations.clone(),
        })
    }
}
