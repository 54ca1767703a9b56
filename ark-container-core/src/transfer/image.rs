//! [`Image`]: the manifests of an image and the blobs that they name; and [`Source`], where these are read from.

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

/// The number of manifests that are read at once.
const CONCURRENT_READS: usize = 8;
/// The maximum size of a configuration that is read.
pub(crate) const MAX_CONFIG_BYTES: usize = 8 * 1024 * 1024;

/// A source of the manifests and blobs of images: a repository, a layout or an archive.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Returns the name of the source for errors.
    fn name(&self) -> String;

    /// Reads a manifest or index, whose digest and size are verified.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the source does not have it.
    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest>;

    /// Reads the content of a configuration, whose digest is verified.
    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>>;

    /// Returns whether the source has this manifest or blob. A registry is not asked: it has what it names.
    async fn has(&self, content: &Descriptor) -> Result<bool>;

    /// Returns a blob, which is read when it is transferred.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the source is on this machine and does not have it.
    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob>;

    /// Returns whether it is normal that the source lacks platforms of an image: docker pulls one of them.
    fn may_lack_platforms(&self) -> bool {
        false
    }

    /// Lists the manifests that refer to `subject`.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>>;

    /// Reads the manifest at a tag, if there is one.
    async fn tagged(&self, tag: &Tag) -> Result<Option<Manifest>>;
}

/// An image whose manifests were read and are consistent.
///
/// Its manifests are in memory. Its blobs are still at the source: they are verified while they are
/// transferred.
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
    /// compressed archives are kept in an unnamed temporary file for as long as the image exists.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such file, or docker or podman has no such image;
    /// [`Error::InvalidInput`] if the source has several images or platforms and none, or another one, is
    /// named; [`Error::Failed`] if it is damaged or of another format, if docker or podman is missing or
    /// fails, or if there is no room to keep it.
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

    /// Adds what refers to the image: referrers of its manifests, the referrers of those, and signatures
    /// under tags.
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

    /// Returns the manifests and indexes below the root, each after those that it names.
    pub fn children(&self) -> &[Manifest] {
        &self.children
    }

    /// Returns the referrers of these manifests, such as signatures, each after its subject.
    pub fn referrers(&self) -> &[Manifest] {
        &self.referrers
    }

    /// Returns the signatures, attestations and material lists that are found by their tags.
    pub(crate) fn signatures(&self) -> &[(Tag, Manifest)] {
        &self.signatures
    }

    /// Returns all manifests, each after those that it names. The root is the last.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        let tagged = self.signatures.iter().map(|(_, manifest)| manifest);
        self.children.iter().chain(&self.referrers).chain(tagged).chain([&self.root])
    }

    /// Returns configurations and layers, including those of referrers, each once.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Returns the image after the compression of its uncompressed layers, given what each became by its
    /// diff ID; `None` if one is missing.
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
        let mut became: HashMap<Digest, Descriptor> = HashMap::new();
        let mut rewrite = |manifest: &Manifest| {
            let written = rewritten(manifest, compressed, &became)?;
            if written.digest != manifest.digest {
                became.insert(manifest.digest.clone(), written.descriptor());
            }
            Ok::<_, Error>(written)
        };
        let children = self.children.iter().map(&mut rewrite).collect::<Result<_>>()?;
        let root = rewrite(&self.root)?;
        Ok(Some(Self { root, children, ..self.clone() }))
    }
}

/// Returns the error of a source that exists, but lacks a file that its manifests name.
pub(super) fn incomplete(source: &dyn Source, error: Error) -> Error {
    match error {
        Error::NotFound { kind: ResourceKind::File, name: missing, .. } => {
            let name = source.name();
            Error::failed(format!("{name}: the layout is incomplete, it lacks the file {missing}"))
        }
        error => error,
    }
}

/// Lists the manifests that refer to `subject`, each with it.
async fn referrers(source: &dyn Source, subject: &Digest) -> Result<Vec<(Digest, Descriptor)>> {
    let listed = source.referrers(subject).await?;
    Ok(listed.into_iter().map(|referrer| (subject.clone(), referrer)).collect())
}

/// Reads a manifest that is listed as a referrer of `subject`, unless it is none.
async fn read_referrer(
    source: &dyn Source,
    subject: &Digest,
    referrer: &Descriptor,
) -> Result<Option<Manifest>> {
    let manifest = match source.manifest(referrer).await {
        // The list that clients keep under a tag may name a manifest that was deleted.
        Err(Error::NotFound { .. }) => return Ok(None),
        manifest => manifest?,
    };
    let is_referrer = manifest.content()?.subject().is_some_and(|found| found.digest == *subject);
    Ok(is_referrer.then_some(manifest))
}

/// Reads manifests of one source, each once.
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

    /// Reads the manifests below `root`, and returns them, each after those that it names.
    async fn children(&mut self, root: &Manifest) -> Result<Vec<Manifest>> {
        self.seen.insert(root.digest.clone());
        let mut found: HashMap<Digest, (Manifest, Vec<Digest>)> = HashMap::new();
        let mut level = vec![root.clone()];
        for depth in 0.. {
            let mut wanted = Vec::new();
            for manifest in &level {
                let below = self.note_content(manifest, &mut wanted)?;
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

    /// Notes the blobs that a manifest names, adds the manifests that it names to `wanted` unless they were
    /// read before, and returns the digests of all of these.
    fn note_content(
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

    /// Counts a manifest against the bounds before it is read: the source verifies its size.
    fn count(&mut self, manifest: &Descriptor, depth: usize) -> Result<()> {
        let counted = self.bounds.add(manifest.size, depth);
        counted.map_err(|problem| Error::failed(format!("{}: {problem}", self.source.name())))
    }

    /// Returns the blobs that were noted, the largest first.
    async fn blobs(&mut self) -> Result<Vec<Blob>> {
        let mut blobs = Vec::new();
        for descriptor in std::mem::take(&mut self.blobs) {
            // A layer that may not be distributed stays where its author provides it.
            if descriptor.may_be_missing() && !self.source.has(&descriptor).await? {
                continue;
            }
            blobs.push(self.source.blob(&descriptor).await?);
        }
        Ok(blobs)
    }
}

/// Moves a manifest to `ordered`, after those that it names.
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

/// Returns a manifest in which `layers` and `manifests` are replaced by what they became.
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
        if let Some(became) = manifests.get(&child.digest) {
            (child.digest, child.size) = (became.digest.clone(), became.size);
            is_changed = true;
        }
        // An attestation names its image in an annotation.
        for value in child.annotations.values_mut() {
            let named = value.parse::<Digest>().ok();
            if let Some(became) = named.and_then(|digest| manifests.get(&digest)) {
                *value = became.digest.to_string();
                is_changed = true;
            }
        }
    }
    if !is_changed {
        return Ok(manifest.clone());
    }
    let bytes = serde_json::to_vec(&content)
        .map_err(|error| Error::failed("writing a manifest").with_source(error))?;
    Ok(Manifest::new(&manifest.media_type, bytes))
}
