//! [`Image`]: the manifests of an image and the blobs that they name; and [`Source`]: reads manifests and blobs.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blob::Blob;
use super::platforms::{self, PlatformChoice};
use super::source::{self, ImageSource};
use crate::distribution::{Client, Manifest, ManifestBounds};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Descriptor, Digest, Tag, media_type};

/// The maximum number of manifests that are read concurrently.
const CONCURRENT_READS: usize = 8;
/// The maximum size of a configuration.
pub(crate) const MAX_CONFIG_BYTES: usize = 8 * 1024 * 1024;

/// A source of the manifests and blobs of images: a repository, a layout or an archive.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Returns the name of the source for errors.
    fn name(&self) -> String;

    /// Reads a manifest or index, whose digest and size are verified.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the source does not have the manifest.
    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest>;

    /// Reads the content of a configuration, whose digest is verified.
    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>>;

    /// Returns whether the source has this manifest or blob. A registry is asked only for a non-distributable layer,
    /// since it verifies all other content of a manifest.
    async fn has(&self, content: &Descriptor) -> Result<bool>;

    /// Returns a blob, whose content is read during the transfer.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the source is on this machine and does not have the blob.
    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob>;

    /// Returns whether the source normally lacks platforms of an image. Docker pulls only one of them.
    fn may_lack_platforms(&self) -> bool {
        false
    }

    /// Lists the manifests that refer to `subject`.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>>;

    /// Reads the manifest at a tag; `None` if the tag does not exist.
    async fn tagged(&self, tag: &Tag) -> Result<Option<Manifest>>;
}

/// An image with consistent manifests.
///
/// The manifests are in memory. The blobs are at the source, and are verified during the transfer.
#[derive(Debug, Clone)]
pub struct Image {
    root: Manifest,
    children: Vec<Manifest>,
    referrers: Vec<Manifest>,
    signatures: Vec<(Tag, Manifest)>,
    blobs: Vec<Blob>,
}

impl Image {
    /// Opens the image that `source` names, for the chosen platforms, with its referrers.
    ///
    /// An archive in a file is read in place. Standard input, images of docker and podman, and the content of
    /// compressed archives are stored in an unnamed temporary file, which is deleted when the image is dropped.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the file does not exist, or docker or podman does not have the image.
    /// - [`Error::InvalidInput`] if the source does not have the selected image or platform, or has several and none is
    ///   selected.
    /// - [`Error::Failed`] if the source is damaged or has another format, if docker or podman is not installed or
    ///   fails, or if the disk of the temporary file is full.
    pub async fn open(source: &ImageSource, platforms: &PlatformChoice) -> Result<Self> {
        let (source, root) = source::open(source, platforms).await?;
        let reading =
            async { Self::read(&*source, root, platforms).await?.with_referrers(&*source).await };
        reading.await.map_err(|error| incomplete(&*source, error))
    }

    /// Reads the manifests of an image below `root`, or of the chosen platforms in it.
    pub(crate) async fn read(
        source: &dyn Source,
        root: Manifest,
        platforms: &PlatformChoice,
    ) -> Result<Self> {
        let root = platforms::select(source, root, platforms).await?;
        let mut reader = Reader::new(source);
        let children = reader.children(&root).await?;
        let blobs = reader.blobs().await?;
        Ok(Self { root, children, referrers: Vec::new(), signatures: Vec::new(), blobs })
    }

    /// Adds the referrers of all manifests, the referrers of those referrers, and the signatures at tags.
    pub(crate) async fn with_referrers(mut self, source: &dyn Source) -> Result<Self> {
        let own = self.children.iter().chain([&self.root]);
        let mut level: Vec<Digest> = own.clone().map(|manifest| manifest.digest.clone()).collect();
        let mut reader = Reader::new(source);
        for manifest in own {
            reader.count(&manifest.descriptor(), 0)?;
        }
        reader.seen.extend(level.iter().cloned());
        reader.seen.extend(self.blobs.iter().map(|blob| blob.digest().clone()));
        let tags: Vec<Tag> = level.iter().flat_map(Client::signature_tags).collect();
        let lookups = tags.iter().map(|tag| source.tagged(tag)).collect::<Vec<_>>();
        let lookups = stream::iter(lookups).buffered(CONCURRENT_READS);
        let tagged: Vec<Option<Manifest>> = lookups.try_collect().await?;
        for (tag, manifest) in tags.into_iter().zip(tagged) {
            let Some(manifest) = manifest else { continue };
            self.referrers.extend(reader.children(&manifest).await?);
            self.signatures.push((tag, manifest));
        }
        while !level.is_empty() {
            let listed = level.iter().map(|subject| referrers(source, subject));
            let listed = stream::iter(listed.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
            let mut listed = listed.try_collect::<Vec<_>>().await?.concat();
            listed.retain(|(_, referrer)| reader.seen.insert(referrer.digest.clone()));
            for (_, referrer) in &listed {
                reader.count(referrer, 0)?;
            }
            let reading =
                listed.iter().map(|(subject, referrer)| read_referrer(source, subject, referrer));
            let reading = stream::iter(reading.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
            let found: Vec<Option<Manifest>> = reading.try_collect().await?;
            let found: Vec<Manifest> = found.into_iter().flatten().collect();
            level = found.iter().map(|manifest| manifest.digest.clone()).collect();
            for manifest in found {
                self.referrers.extend(reader.children(&manifest).await?);
                self.referrers.push(manifest);
            }
        }
        self.blobs.extend(reader.blobs().await?);
        Ok(self)
    }

    /// Returns the manifest or index of the whole image.
    pub fn root(&self) -> &Manifest {
        &self.root
    }

    /// Returns the manifests and indexes below the root, each after the manifests that it names.
    pub fn children(&self) -> &[Manifest] {
        &self.children
    }

    /// Returns the referrers of these manifests, such as signatures, each after its subject.
    pub fn referrers(&self) -> &[Manifest] {
        &self.referrers
    }

    /// Returns the signatures, attestations and SBOMs, with their tags.
    pub(crate) fn signatures(&self) -> &[(Tag, Manifest)] {
        &self.signatures
    }

    /// Returns all manifests, each after the manifests that it names. The root is the last.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        let tagged = self.signatures.iter().map(|(_, manifest)| manifest);
        self.children.iter().chain(&self.referrers).chain(tagged).chain([&self.root])
    }

    /// Returns configurations and layers, including those of referrers, each once.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Returns the image after the compression of its layers; `None` if `compressed` lacks a layer.
    ///
    /// `compressed` maps the diff IDs of the layers to their descriptors after compression.
    ///
    /// # Errors
    /// [`Error::Failed`] if a manifest cannot be written.
    pub(super) fn with_compressed_layers(
        &self,
        compressed: &HashMap<&Digest, &Descriptor>,
    ) -> Result<Option<Self>> {
        let mut uncompressed = self.blobs.iter().filter(|blob| blob.is_tar()).peekable();
        if uncompressed.peek().is_none() {
            return Ok(Some(self.clone()));
        }
        if !uncompressed.all(|blob| compressed.contains_key(blob.digest())) {
            return Ok(None);
        }
        let mut replaced: HashMap<Digest, Descriptor> = HashMap::new();
        let mut rewrite = |manifest: &Manifest| {
            let written = rewritten(manifest, compressed, &replaced)?;
            if written.digest != manifest.digest {
                replaced.insert(manifest.digest.clone(), written.descriptor());
            }
            Ok::<_, Error>(written)
        };
        let children = self.children.iter().map(&mut rewrite).collect::<Result<_>>()?;
        let root = rewrite(&self.root)?;
        Ok(Some(Self { root, children, ..self.clone() }))
    }
}

/// Returns the error of a source that lacks a file which its manifests name.
pub(super) fn incomplete(source: &dyn Source, error: Error) -> Error {
    match error {
        Error::NotFound { kind: ResourceKind::File, name: missing, .. } => {
            let name = source.name();
            Error::failed(format!("{name}: the layout is incomplete, it lacks the file {missing}"))
        }
        error => error,
    }
}

/// Lists the referrers of `subject`, each with `subject`.
async fn referrers(source: &dyn Source, subject: &Digest) -> Result<Vec<(Digest, Descriptor)>> {
    let listed = source.referrers(subject).await?;
    Ok(listed.into_iter().map(|referrer| (subject.clone(), referrer)).collect())
}

/// Reads a manifest that is listed as a referrer of `subject`; `None` if it has another subject or does not exist.
async fn read_referrer(
    source: &dyn Source,
    subject: &Digest,
    referrer: &Descriptor,
) -> Result<Option<Manifest>> {
    let manifest = match source.manifest(referrer).await {
        // The index at the referrers tag may name a deleted manifest.
        Err(Error::NotFound { .. }) => return Ok(None),
        manifest => manifest?,
    };
    let is_referrer = manifest.content()?.subject().is_some_and(|found| found.digest == *subject);
    Ok(is_referrer.then_some(manifest))
}

/// Reads manifests of one source, without duplicates.
struct Reader<'a> {
    source: &'a dyn Source,
    seen: HashSet<Digest>,
    bounds: ManifestBounds,
    blobs: Vec<Descriptor>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a dyn Source) -> Self {
        Self { source, seen: HashSet::new(), bounds: ManifestBounds::default(), blobs: Vec::new() }
    }

    /// Reads the manifests below `root`, and returns them, each after the manifests that it names.
    async fn children(&mut self, root: &Manifest) -> Result<Vec<Manifest>> {
        self.seen.insert(root.digest.clone());
        let mut found: HashMap<Digest, (Manifest, Vec<Digest>)> = HashMap::new();
        let mut level = vec![root.clone()];
        for depth in 0.. {
            let mut wanted = Vec::new();
            for manifest in &level {
                let below = self.add_content(manifest, &mut wanted)?;
                found.insert(manifest.digest.clone(), (manifest.clone(), below));
            }
            if wanted.is_empty() {
                break;
            }
            for descriptor in &wanted {
                self.count(descriptor, depth + 1)?;
            }
            let source = self.source;
            let reading = wanted.iter().map(|descriptor| source.manifest(descriptor));
            let reading = stream::iter(reading.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
            level = reading.try_collect().await?;
        }
        let mut ordered = Vec::new();
        take_after_children(&root.digest, &mut found, &mut ordered);
        ordered.pop();
        Ok(ordered)
    }

    /// Adds the blobs of a manifest to `blobs` and its manifests to `wanted`, without duplicates. Returns the digests
    /// of all manifests that the manifest names.
    fn add_content(
        &mut self,
        manifest: &Manifest,
        wanted: &mut Vec<Descriptor>,
    ) -> Result<Vec<Digest>> {
        let content = manifest.content()?;
        for child in content.manifests().filter(|child| self.seen.insert(child.digest.clone())) {
            wanted.push(child.clone());
        }
        for blob in content.blobs().filter(|blob| self.seen.insert(blob.digest.clone())) {
            self.blobs.push(blob.clone());
        }
        Ok(content.manifests().map(|child| child.digest.clone()).collect())
    }

    /// Counts a manifest before it is read, since the source verifies its size.
    fn count(&mut self, manifest: &Descriptor, depth: usize) -> Result<()> {
        let counted = self.bounds.add(manifest.size, depth);
        counted.map_err(|problem| Error::failed(format!("{}: {problem}", self.source.name())))
    }

    /// Returns the blobs of all manifests that were read.
    async fn blobs(&mut self) -> Result<Vec<Blob>> {
        let mut blobs = Vec::new();
        for descriptor in std::mem::take(&mut self.blobs) {
            // The source may lack a non-distributable layer, which is then not transferred.
            if descriptor.may_be_missing() && !self.source.has(&descriptor).await? {
                continue;
            }
            blobs.push(self.source.blob(&descriptor).await?);
        }
        Ok(blobs)
    }
}

/// Moves a manifest to `ordered`, after the manifests that it names.
fn take_after_children(
    digest: &Digest,
    found: &mut HashMap<Digest, (Manifest, Vec<Digest>)>,
    ordered: &mut Vec<Manifest>,
) {
    let Some((manifest, below)) = found.remove(digest) else { return };
    for child in &below {
        take_after_children(child, found, ordered);
    }
    ordered.push(manifest);
}

/// A manifest or index whose descriptors are replaced. Fields are written in this order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewritten {
    schema_version: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Descriptor>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Descriptor>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Returns a manifest with the new descriptors of `layers` and `manifests`.
fn rewritten(
    manifest: &Manifest,
    layers: &HashMap<&Digest, &Descriptor>,
    manifests: &HashMap<Digest, Descriptor>,
) -> Result<Manifest> {
    let mut content: Rewritten = serde_json::from_slice(&manifest.bytes).map_err(|error| {
        Error::failed(format!("manifest {} is invalid", manifest.digest)).with_source(error)
    })?;
    let is_docker = manifest.media_type == media_type::DOCKER_MANIFEST;
    let mut is_changed = false;
    for layer in content.layers.iter_mut().flatten() {
        let Some(compressed) = layers.get(&layer.digest) else { continue };
        if compressed.digest == layer.digest {
            continue;
        }
        layer.media_type = match is_docker {
            true => media_type::docker_layer(&compressed.media_type).to_owned(),
            false => compressed.media_type.clone(),
        };
        (layer.digest, layer.size) = (compressed.digest.clone(), compressed.size);
        is_changed = true;
    }
    for child in content.manifests.iter_mut().flatten() {
        if let Some(replaced) = manifests.get(&child.digest) {
            (child.digest, child.size) = (replaced.digest.clone(), replaced.size);
            is_changed = true;
        }
        // An attestation names its image in an annotation.
        for value in child.annotations.values_mut() {
            let named = value.parse::<Digest>().ok();
            if let Some(replaced) = named.and_then(|digest| manifests.get(&digest)) {
                *value = replaced.digest.to_string();
                is_changed = true;
            }
        }
    }
    if !is_changed {
        return Ok(manifest.clone());
    }
    let bytes = serde_json::to_vec(&content)
        .map_err(|error| Error::failed("cannot write a manifest").with_source(error))?;
    Ok(Manifest::new(&manifest.media_type, bytes))
}
