//! [`SampleImage`]: a small real image, the same on every machine.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use tokio_util::bytes::Bytes;

use super::sample::{self, SampleImageBuilder};
use crate::digester::Digester;
use crate::distribution::{ImageManifest, Index, Manifest};
use crate::error::{Error, Result};
use crate::model::Descriptor;
use crate::model::{Algorithm, Digest, Platform};

/// A real image, valid for every tool that knows OCI images, that comes out the same each time.
///
/// It is wholly in memory. It has nothing to run: its files are what it was built from.
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
    pub(super) root: Manifest,
    pub(super) platforms: Vec<Platform>,
    pub(super) blobs: Vec<(Digest, Bytes)>,
    pub(super) children: Vec<Self>,
}

impl SampleImage {
    /// An image for `linux/amd64` whose one file says `text`; the same text makes the same image.
    pub fn new(text: &str) -> Self {
        Self::for_architecture(text, "amd64")
    }

    /// The same for Linux on another processor, such as `arm64`.
    pub fn for_architecture(text: &str, architecture: &str) -> Self {
        Self::builder()
            .with_layer([("sample.txt", text)])
            .with_platforms([sample::linux(architecture)])
            .build()
    }

    /// An index of two images, for `linux/amd64` and `linux/arm64`, with two layers that they share
    /// and one of each's own.
    pub fn for_two_platforms() -> Self {
        Self::builder()
            .with_layer([("etc/greeting", "hello\n"), ("srv/data/empty", "")])
            .with_random_layer(300_000)
            .with_own_layer()
            .with_platforms([sample::linux("amd64"), sample::linux("arm64")])
            .build()
    }

    /// An image that is made to measure, from no layers for `linux/amd64` on.
    pub fn builder() -> SampleImageBuilder {
        SampleImageBuilder::new()
    }

    /// An index of images. They are to be put, by digest, before it is.
    pub fn index(images: &[&Self]) -> Self {
        let entry = |image: &&Self| {
            let mut entry = image.descriptor();
            entry.platform = image.platforms.first().cloned();
            entry
        };
        Self {
            root: sample::whole(Index::new(images.iter().map(entry).collect()).to_manifest()),
            platforms: images.iter().flat_map(|image| image.platforms.clone()).collect(),
            blobs: Vec::new(),
            children: images.iter().map(|image| (*image).clone()).collect(),
        }
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> Digest {
        self.root.digest.clone()
    }

    /// Its manifest, or index, with type and digest.
    pub fn root(&self) -> &Manifest {
        &self.root
    }

    /// Its manifest, or index.
    pub fn manifest(&self) -> &[u8] {
        &self.root.bytes
    }

    /// The media type of its manifest.
    pub fn media_type(&self) -> &str {
        &self.root.media_type
    }

    /// Its configuration and layers, each with its digest and once; none of an index.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, &[u8])> {
        self.blobs.iter().map(|(digest, content)| (digest.clone(), &content[..]))
    }

    /// The images that an index names; none of another.
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// What it runs on.
    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// In bytes: manifest and blobs, without those of its children.
    pub fn size(&self) -> u64 {
        let blobs: usize = self.blobs.iter().map(|(_, content)| content.len()).sum();
        (self.root.bytes.len() + blobs) as u64
    }

    /// Writes the image, with its children, into a folder in the OCI layout, beside the images that
    /// are there already.
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
                Ok(index) => serde_json::from_slice(&index)?,
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
            Error::failed(format!("writing {}", folder.display())).with_source(error)
        })
    }

    /// Writes the image as `docker save` did before it knew OCI layouts, with its layers in folders of
    /// their own; of an index, its first image.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be written.
    pub fn write_docker_archive(&self, file: &Path, repo_tags: &[&str]) -> Result<()> {
        if let Some(first) = self.children.first() {
            return first.write_docker_archive(file, repo_tags);
        }
        let written = || -> io::Result<()> {
            let manifest: ImageManifest = serde_json::from_slice(&self.root.bytes)?;
            let config = format!("{}.json", manifest.config.digest.hex());
            let layer = |digest: &Digest| format!("{}/layer.tar", digest.hex());
            let mut builder = tar::Builder::new(fs::File::create(file)?);
            for (digest, content) in &self.blobs {
                let is_config = *digest == manifest.config.digest;
                let name = if is_config { config.clone() } else { layer(digest) };
                sample::append(&mut builder, &name, content)?;
            }
            let layers: Vec<_> = manifest.layers.iter().map(|found| layer(&found.digest)).collect();
            let listing = json!([{"Config": config, "RepoTags": repo_tags, "Layers": layers}]);
            sample::append(&mut builder, "manifest.json", listing.to_string().as_bytes())?;
            builder.into_inner()?.sync_all()
        };
        written().map_err(|error| {
            Error::failed(format!("writing {}", file.display())).with_source(error)
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

    /// Takes a blob in, unless it is there, and describes it.
    pub(super) fn keep(
        blobs: &mut Vec<(Digest, Bytes)>,
        media_type: &str,
        content: Bytes,
    ) -> Descriptor {
        let digest = Digester::digest(Algorithm::Sha256, &content);
        let descriptor = Descriptor::new(media_type, digest.clone(), content.len() as u64);
        if !blobs.iter().any(|(known, _)| *known == digest) {
            blobs.push((digest, content));
        }
        descriptor
    }
}
