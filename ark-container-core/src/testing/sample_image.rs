//! [`SampleImage`]: a small, reproducible image, and its builder.

#![expect(clippy::expect_used, reason = "test code: writes to memory cannot fail")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::bytes::Bytes;

use crate::digester::Digester;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::{
    Algorithm, Descriptor, Digest, ImageManifest, Index, ManifestContent, Platform, media_type,
};

const CREATED: &str = "2026-01-01T00:00:00Z";

/// A reproducible image that is valid for every tool that supports OCI images.
///
/// The image is in memory, and contains the given files and no program.
///
/// ```
/// use ark_container_core::testing::SampleImage;
///
/// let image = SampleImage::new("hello");
/// assert_eq!(image.digest(), SampleImage::new("hello").digest());
/// assert_eq!(image.blobs().count(), 2);
/// let index = SampleImage::index(&[&image, &SampleImage::for_architecture("hello", "arm64")]);
/// assert_eq!(index.blobs().count(), 0);
/// assert_eq!(index.children().len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct SampleImage {
    root: Manifest,
    platforms: Vec<Platform>,
    blobs: Vec<(Digest, Bytes)>,
    children: Vec<Self>,
}

impl SampleImage {
    /// Creates an image for `linux/amd64` with one file that contains `text`. The same text results in the
    /// same image.
    pub fn new(text: &str) -> Self {
        Self::for_architecture(text, "amd64")
    }

    /// Creates the same image for Linux on another processor, such as `arm64`.
    pub fn for_architecture(text: &str, architecture: &str) -> Self {
        Self::builder()
            .with_layer([("sample.txt", text)])
            .with_platforms([linux(architecture)])
            .build()
    }

    /// Creates an index of two images, for `linux/amd64` and `linux/arm64`, with two shared layers and one
    /// separate layer each.
    pub fn for_two_platforms() -> Self {
        Self::builder()
            .with_layer([("etc/greeting", "hello\n"), ("srv/data/empty", "")])
            .with_random_layer(300_000)
            .with_own_layer()
            .with_platforms([linux("amd64"), linux("arm64")])
            .build()
    }

    /// Returns a builder of an image for `linux/amd64` without layers.
    pub fn builder() -> SampleImageBuilder {
        SampleImageBuilder::new()
    }

    /// Creates an index of images. The images must be uploaded, by digest, before the index.
    pub fn index(images: &[&Self]) -> Self {
        let entry = |image: &&Self| {
            let mut entry = image.descriptor();
            entry.platform = image.platforms.first().cloned();
            entry
        };
        Self {
            root: in_memory(Index::new(images.iter().map(entry).collect()).to_manifest()),
            platforms: images.iter().flat_map(|image| image.platforms.clone()).collect(),
            blobs: Vec::new(),
            children: images.iter().map(|image| (*image).clone()).collect(),
        }
    }

    /// Returns the digest of the manifest or index.
    pub fn digest(&self) -> Digest {
        self.root.digest.clone()
    }

    /// Returns the manifest or index, with its type and digest.
    pub fn root(&self) -> &Manifest {
        &self.root
    }

    /// Returns the content of the manifest or index.
    pub fn manifest(&self) -> &[u8] {
        &self.root.bytes
    }

    /// Returns the media type of the manifest or index.
    pub fn media_type(&self) -> &str {
        &self.root.media_type
    }

    /// Returns the configuration and layers, each once with its digest. An index has none.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, &[u8])> {
        self.blobs.iter().map(|(digest, content)| (digest.clone(), &content[..]))
    }

    /// Returns the images of an index. An image has none.
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// Returns the platforms of the image.
    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// Returns the size of manifest and blobs in bytes, without children.
    pub fn size(&self) -> u64 {
        let blobs: usize = self.blobs.iter().map(|(_, content)| content.len()).sum();
        (self.root.bytes.len() + blobs) as u64
    }

    /// Writes the image and its children to a folder in the OCI layout. Keeps the images that the folder contains.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be written.
    pub fn write_oci_layout(&self, folder: &Path, name: Option<&str>) -> Result<()> {
        let written = || -> io::Result<()> {
            let blobs = folder.join("blobs/sha256");
            fs::create_dir_all(&blobs)?;
            fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
            self.write_contents(&blobs)?;
            let path = folder.join("index.json");
            let mut index = match fs::read(&path) {
                Ok(index) => {
                    let index = ManifestContent::parse(media_type::OCI_INDEX, &index);
                    Index::new(index.map_err(io::Error::other)?.into_listed())
                }
                Err(_) => Index::new(Vec::new()),
            };
            let mut entry = self.descriptor();
            if let Some(name) = name {
                let key = "org.opencontainers.image.ref.name".to_owned();
                entry.annotations.insert(key, name.to_owned());
            }
            index.manifests.push(entry);
            fs::write(path, serde_json::to_vec(&index)?)
        };
        written().map_err(|error| {
            Error::failed(format!("cannot write {}", folder.display())).with_source(error)
        })
    }

    /// Writes the image in the format that `docker save` used before OCI layouts, with a folder for each layer. For
    /// an index, writes its first image.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be written.
    pub fn write_docker_archive(&self, file: &Path, repo_tags: &[&str]) -> Result<()> {
        if let Some(first) = self.children.first() {
            return first.write_docker_archive(file, repo_tags);
        }
        let written = || -> io::Result<()> {
            let content = self.root.content().map_err(io::Error::other)?;
            let ManifestContent::Image(manifest) = content else {
                return Err(io::Error::other("an index without images"));
            };
            let config = format!("{}.json", manifest.config.digest.hex());
            let layer = |digest: &Digest| format!("{}/layer.tar", digest.hex());
            let mut builder = tar::Builder::new(fs::File::create(file)?);
            for (digest, content) in &self.blobs {
                let is_config = *digest == manifest.config.digest;
                let name = if is_config { config.clone() } else { layer(digest) };
                append(&mut builder, &name, content)?;
            }
            let layers: Vec<_> = manifest.layers.iter().map(|found| layer(&found.digest)).collect();
            let listing = json!([{"Config": config, "RepoTags": repo_tags, "Layers": layers}]);
            append(&mut builder, "manifest.json", listing.to_string().as_bytes())?;
            builder.into_inner()?.sync_all()
        };
        written().map_err(|error| {
            Error::failed(format!("cannot write {}", file.display())).with_source(error)
        })
    }

    fn write_contents(&self, folder: &Path) -> io::Result<()> {
        for child in &self.children {
            child.write_contents(folder)?;
        }
        let root = (&self.root.digest, &self.root.bytes);
        let blobs = self.blobs.iter().map(|(digest, content)| (digest, content));
        for (digest, content) in blobs.chain([root]) {
            fs::write(folder.join(digest.hex()), content)?;
        }
        Ok(())
    }

    fn descriptor(&self) -> Descriptor {
        let Manifest { digest, media_type, bytes } = &self.root;
        Descriptor::new(media_type, digest.clone(), bytes.len() as u64)
    }

    /// Adds a blob, unless it exists, and returns its descriptor.
    fn keep(blobs: &mut Vec<(Digest, Bytes)>, media_type: &str, content: Bytes) -> Descriptor {
        let digest = Digester::digest(Algorithm::Sha256, &content);
        let descriptor = Descriptor::new(media_type, digest.clone(), content.len() as u64);
        if !blobs.iter().any(|(known, _)| *known == digest) {
            blobs.push((digest, content));
        }
        descriptor
    }
}

/// Builds a [`SampleImage`].
///
/// ```
/// use ark_container_core::testing::SampleImage;
///
/// let image = SampleImage::builder()
///     .with_layer([("bin/tool", "#!/bin/sh\n"), ("etc/tool.toml", "")])
///     .with_random_layer(1 << 20)
///     .build();
/// assert_eq!(image.blobs().count(), 3);
///
/// let labelled = SampleImage::builder()
///     .with_label("org.opencontainers.image.version", "1.2")
///     .with_config("Entrypoint", vec!["/bin/tool"])
///     .build();
/// let (_, config) = labelled.blobs().next().unwrap();
/// let config: serde_json::Value = serde_json::from_slice(config)?;
/// assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], "1.2");
/// assert_eq!(config["config"]["Entrypoint"][0], "/bin/tool");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SampleImageBuilder {
    seed: u64,
    platforms: Vec<Platform>,
    layers: Vec<Layer>,
    config: BTreeMap<String, Value>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
enum Layer {
    Files(Vec<(String, Vec<u8>)>),
    Random(usize),
    Own,
}

impl SampleImageBuilder {
    fn new() -> Self {
        Self {
            seed: 0,
            platforms: vec![linux("amd64")],
            layers: Vec::new(),
            config: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Sets the seed of random layers: another seed results in other content of the same size.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Adds a layer with these files.
    pub fn with_layer<N: Into<String>, C: Into<Vec<u8>>>(
        mut self,
        files: impl IntoIterator<Item = (N, C)>,
    ) -> Self {
        let files = files.into_iter().map(|(name, content)| (name.into(), content.into()));
        self.layers.push(Layer::Files(files.collect()));
        self
    }

    /// Adds a layer with a file of `size` random bytes, which cannot be compressed.
    pub fn with_random_layer(mut self, size: usize) -> Self {
        self.layers.push(Layer::Random(size));
        self
    }

    /// Adds a layer that differs for each platform.
    pub fn with_own_layer(mut self) -> Self {
        self.layers.push(Layer::Own);
        self
    }

    /// Sets the platforms. The result is an index.
    pub fn with_platforms(self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        Self { platforms: platforms.into_iter().collect(), ..self }
    }

    /// Sets a field of `config`, such as `Env`, `Entrypoint` or `User`. Replaces an earlier value.
    ///
    /// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md#properties>
    pub fn with_config(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Adds a label.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Builds the image in memory.
    ///
    /// # Panics
    /// If the name of a file is invalid in an archive: empty, absolute, or outside the root.
    pub fn build(&self) -> SampleImage {
        let images: Vec<_> =
            self.platforms.iter().map(|platform| self.build_for(platform)).collect();
        match <[_; 1]>::try_from(images) {
            Ok([image]) => image,
            Err(images) => SampleImage::index(&images.iter().collect::<Vec<_>>()),
        }
    }

    fn build_for(&self, platform: &Platform) -> SampleImage {
        let mut blobs = Vec::new();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let archive = match layer {
                Layer::Files(files) => archive(files),
                Layer::Random(size) => {
                    let content = random(self.seed.wrapping_add(index as u64), *size);
                    archive(&[(format!("random-{index}"), content)])
                }
                Layer::Own => {
                    archive(&[("platform".to_owned(), format!("{platform}\n").into_bytes())])
                }
            };
            layers.push(SampleImage::keep(&mut blobs, media_type::OCI_LAYER, archive));
        }
        let config = self.config(platform, &layers);
        let config = SampleImage::keep(&mut blobs, media_type::OCI_CONFIG, config);
        SampleImage {
            root: in_memory(ImageManifest::new(config, layers).to_manifest()),
            platforms: vec![platform.clone()],
            blobs,
            children: Vec::new(),
        }
    }

    fn config(&self, platform: &Platform, layers: &[Descriptor]) -> Bytes {
        let mut config = self.config.clone();
        if !self.labels.is_empty() {
            config.insert("Labels".to_owned(), json!(self.labels));
        }
        let config = Config {
            created: CREATED,
            platform,
            config,
            rootfs: RootFs {
                r#type: "layers",
                diff_ids: layers.iter().map(|layer| &layer.digest).collect(),
            },
            history: vec![Step { created: CREATED, created_by: "sample" }; layers.len()],
        };
        serde_json::to_vec(&config).expect("writes to memory cannot fail").into()
    }
}

/// Returns the platform of Linux on a processor, such as `amd64`.
fn linux(architecture: &str) -> Platform {
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
}

/// Returns a manifest that was written to memory.
fn in_memory<T>(written: Result<T>) -> T {
    written.expect("writes to memory cannot fail")
}

/// An image configuration with a fixed order of fields, so that the digest does not depend on the order of a map.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md>
#[derive(Serialize)]
struct Config<'a> {
    created: &'a str,
    #[serde(flatten)]
    platform: &'a Platform,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config: BTreeMap<String, Value>,
    rootfs: RootFs<'a>,
    history: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: Vec<&'a Digest>,
}

#[derive(Clone, Serialize)]
struct Step<'a> {
    created: &'a str,
    created_by: &'a str,
}

fn archive(files: &[(String, Vec<u8>)]) -> Bytes {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut builder, name, content).expect("the name can be in an archive");
    }
    builder.into_inner().expect("writes to memory cannot fail").into()
}

/// Appends a file. The header contains nothing that depends on the machine or the time.
fn append<W: io::Write>(
    builder: &mut tar::Builder<W>,
    name: &str,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    builder.append_data(&mut header, name, content)
}

/// Returns pseudo-random bytes by SplitMix64. The same seed results in the same bytes.
///
/// Source: <https://prng.di.unimi.it/splitmix64.c>
fn random(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        content.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    content.truncate(size);
    content
}
