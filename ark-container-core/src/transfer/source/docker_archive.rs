//! [`DockerArchive`]: an archive of `docker save` or `podman save`, in the format with a `manifest.json`.
//!
//! Source: <https://github.com/moby/docker-image-spec/blob/v1.3.1/v1.2.md#combined-image-json--filesystem-changeset-format>

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::archive::{Archive, Region};
use super::damaged;
use super::select::Candidate;
use crate::digester::Digester;
use crate::distribution::Manifest;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Algorithm, Descriptor, Digest, ImageManifest, Platform, Tag, media_type};
use crate::transfer::blob::Blob;
use crate::transfer::decompress::CompressionFormat;
use crate::transfer::image::Source;

/// The file that identifies a docker archive: the listing of its images.
pub(super) const LISTING: &str = "manifest.json";
/// The maximum size of the listing and of a configuration. Docker has no limit.
const MAX_JSON_BYTES: usize = Manifest::MAX_LEN;

/// One image in the listing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// An archive without manifests as a source of images. The manifests are created from the listing, with the unchanged
/// layers of the archive.
#[derive(Debug)]
pub(super) struct DockerArchive {
    archive: Arc<Archive>,
    images: Vec<Candidate>,
    manifests: HashMap<Digest, Manifest>,
    blobs: HashMap<Digest, Blob>,
}

impl DockerArchive {
    pub(super) fn open(archive: &Arc<Archive>) -> Result<Self> {
        let listing: Vec<Listed> =
            parse(archive, LISTING, &archive.read(LISTING, MAX_JSON_BYTES)?)?;
        let mut source = Self {
            archive: Arc::clone(archive),
            images: Vec::new(),
            manifests: HashMap::new(),
            blobs: HashMap::new(),
        };
        for listed in listing {
            source.add(listed)?;
        }
        Ok(source)
    }

    /// Returns the images that can be selected, in the order of the listing.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.images.clone()
    }

    fn add(&mut self, listed: Listed) -> Result<()> {
        let archive = Arc::clone(&self.archive);
        let content = archive.read(&listed.config, MAX_JSON_BYTES)?;
        let config: Config = parse(&archive, &listed.config, &content)?;
        let platform = Platform::of_config(content.as_slice());
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        let names = listed.layers.unwrap_or_default();
        if diff_ids.len() != names.len() {
            let (expected, found) = (diff_ids.len(), names.len());
            let problem = format!("its configuration has {expected} layers, its listing {found}");
            return Err(damaged(archive.file().name(), problem));
        }
        let digest = Digester::digest(Algorithm::Sha256, &content);
        let region = archive.find(&listed.config)?;
        let config = Descriptor::new(media_type::OCI_CONFIG, digest, region.size);
        let id = config.digest.clone();
        self.blobs.insert(
            config.digest.clone(),
            Blob::member(&config, archive.file(), region.offset, &listed.config),
        );
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let (layer, blob) = layer(&archive, name, &diff_id)?;
            self.blobs.insert(layer.digest.clone(), blob);
            layers.push(layer);
        }
        let manifest = ImageManifest::new(config, layers).to_manifest()?;
        let size = manifest.bytes.len() as u64;
        let descriptor = Descriptor {
            platform,
            ..Descriptor::new(media_type::OCI_MANIFEST, manifest.digest.clone(), size)
        };
        self.manifests.insert(manifest.digest.clone(), manifest);
        self.images.push(Candidate {
            names: listed.repo_tags.unwrap_or_default(),
            descriptor,
            id: Some(id),
            is_referrer: false,
        });
        Ok(())
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::not_found(ResourceKind::Blob, format!("{digest} in {}", self.archive.file().name()))
    }
}

#[async_trait]
impl Source for DockerArchive {
    fn name(&self) -> String {
        self.archive.file().name().to_owned()
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let manifest = self.manifests.get(&descriptor.digest).cloned();
        manifest.ok_or_else(|| self.missing(&descriptor.digest))
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        use futures_util::TryStreamExt as _;

        let blob = self.blob(config).await?;
        let unreadable =
            |error| Error::failed(format!("{} cannot be read", blob.location())).with_source(error);
        let pieces = blob.pieces(0).await?.try_collect::<Vec<_>>().await;
        Ok(pieces.map_err(unreadable)?.concat())
    }

    async fn has(&self, content: &Descriptor) -> Result<bool> {
        let digest = &content.digest;
        Ok(self.manifests.contains_key(digest) || self.blobs.contains_key(digest))
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let blob = self.blobs.get(&descriptor.digest).cloned();
        blob.ok_or_else(|| self.missing(&descriptor.digest))
    }

    async fn referrers(&self, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    async fn tagged(&self, _: &Tag) -> Result<Option<Manifest>> {
        Ok(None)
    }
}

/// Returns a name as docker shows it: without the default registry, and with the default tag.
pub(in crate::transfer) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains(':') { short.to_owned() } else { format!("{short}:latest") }
}

fn parse<T: for<'de> Deserialize<'de>>(archive: &Archive, name: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        Error::failed(format!("{name} in {} is invalid", archive.file().name())).with_source(error)
    })
}

/// Returns a layer of the archive, to be compressed before it is sent unless it is compressed.
///
/// The content of a compressed layer is verified here, since only its diff ID is known.
fn layer(archive: &Archive, name: &str, diff_id: &Digest) -> Result<(Descriptor, Blob)> {
    let region = archive.find(name)?;
    let unreadable = |error| archive.unreadable(error);
    let mut start = Vec::new();
    let length = CompressionFormat::MAX_SIGNATURE_BYTES as u64;
    let first = Region { size: region.size.min(length), ..region };
    archive.reader(first).read_to_end(&mut start).map_err(unreadable)?;
    let Some(format) = CompressionFormat::detect(&start) else {
        let tar = Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), region.size);
        let blob = Blob::member(&tar, archive.file(), region.offset, name).compressed_when_sent();
        return Ok((tar, blob));
    };
    let registry_type = match format {
        CompressionFormat::Gzip => Some(media_type::OCI_LAYER_GZIP),
        CompressionFormat::Zstd => Some(media_type::OCI_LAYER_ZSTD),
        // Registries do not support these formats, so the layer is compressed again.
        CompressionFormat::Bzip2 | CompressionFormat::Xz => None,
    };
    let reader = archive.reader(region);
    let mut compressed = Hashing { reader, digester: Digester::new(Algorithm::Sha256) };
    let content = format.decoder(&mut compressed).map_err(unreadable)?;
    let mut digester = Digester::new(diff_id.algorithm());
    let size = digester.update_from(content).map_err(|error| {
        Error::failed(format!("{name} in {} is damaged", archive.file().name())).with_source(error)
    })?;
    let found = digester.finish();
    if found != *diff_id {
        let problem = format!("its member {name} is damaged: it is not {diff_id} but {found}");
        return Err(damaged(archive.file().name(), problem));
    }
    let Some(media_type) = registry_type else {
        let tar = Descriptor::new(media_type::OCI_LAYER, found, size);
        let blob = Blob::member(&tar, archive.file(), region.offset, name);
        return Ok((tar, blob.packed(format, region.size).compressed_when_sent()));
    };
    // The decoder may not have read the last bytes.
    io::copy(&mut compressed, &mut io::sink()).map_err(unreadable)?;
    let layer = Descriptor::new(media_type, compressed.digester.finish(), region.size);
    let blob = Blob::member(&layer, archive.file(), region.offset, name);
    Ok((layer, blob))
}

/// A reader that hashes its content.
struct Hashing<R> {
    reader: R,
    digester: Digester,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.digester.update(&buffer[..read]);
        Ok(read)
    }
}
