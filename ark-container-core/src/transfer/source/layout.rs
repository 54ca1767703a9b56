//! [`LayoutSource`]: an OCI layout in a folder or in an archive.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::archive::Archive;
use super::damaged;
use super::select::Candidate;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::files::Directory;
use crate::model::{Descriptor, Digest, ManifestContent, Tag, media_type};
use crate::transfer::blob::Blob;
use crate::transfer::image::Source;
use crate::transfer::in_background;

const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the full name. Docker writes only the tag into the other annotation.
///
/// Source: <https://github.com/containerd/containerd/blob/v2.0.0/core/images/annotations.go>
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An OCI layout as a source of images.
#[derive(Debug)]
pub(super) struct LayoutSource {
    layout: Layout,
    /// The manifests in `index.json`.
    top: Vec<Descriptor>,
    /// The manifests in `index.json` with a subject, by the digest of the subject.
    referrers: HashMap<Digest, Vec<Descriptor>>,
    /// Whether uncompressed layers are compressed before they are sent, as those of `docker save`.
    compresses: bool,
}

impl LayoutSource {
    /// Opens a layout whose images are transferred unchanged.
    pub(super) fn open(layout: Layout) -> Result<Self> {
        if !layout.has(MARKER)? {
            let problem = format!("it is not an OCI layout: the file {MARKER} is missing");
            return Err(damaged(layout.name(), problem));
        }
        let index = ManifestContent::parse(media_type::OCI_INDEX, &layout.read(INDEX)?);
        let invalid =
            |problem| Error::failed(format!("{} is invalid: {problem}", layout.location(INDEX)));
        let top = index.map_err(invalid)?.into_listed();
        let mut referrers: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
        let mut seen = HashSet::new();
        // A single manifest is the image, even if it has a subject.
        for descriptor in top.iter().filter(|_| top.len() > 1) {
            if let Some(subject) = layout.subject(descriptor)
                && seen.insert(&descriptor.digest)
            {
                referrers.entry(subject).or_default().push(descriptor.clone());
            }
        }
        Ok(Self { layout, top, referrers, compresses: false })
    }

    /// Opens the layout in an archive of docker, whose uncompressed layers are compressed before they are sent.
    pub(super) fn of_docker(archive: &Arc<Archive>) -> Result<Self> {
        Ok(Self { compresses: true, ..Self::open(Layout::Archive(Arc::clone(archive)))? })
    }

    /// Returns the images that can be selected, in the order of `index.json`.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let referring: HashSet<&Digest> =
            self.referrers.values().flatten().map(|referrer| &referrer.digest).collect();
        let annotation = |image: &Descriptor, key: &str| image.annotations.get(key).cloned();
        let candidate = |image: &Descriptor| Candidate {
            id: None,
            is_referrer: referring.contains(&image.digest),
            // The full name first, since errors suggest the first name.
            names: [annotation(image, CONTAINERD_NAME), annotation(image, REF_NAME)]
                .into_iter()
                .flatten()
                .collect(),
            descriptor: image.clone(),
        };
        self.top.iter().map(candidate).collect()
    }
}

#[async_trait]
impl Source for LayoutSource {
    fn name(&self) -> String {
        self.layout.name().into_owned()
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let (layout, descriptor) = (self.layout.clone(), descriptor.clone());
        in_background(move || layout.manifest(&descriptor)).await
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.manifest(config).await?.bytes.into())
    }

    async fn has(&self, content: &Descriptor) -> Result<bool> {
        let (layout, name) = (self.layout.clone(), blob_name(&content.digest));
        in_background(move || layout.has(&name)).await
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let blob = self.layout.blob(descriptor)?;
        // The media types of uncompressed layers have the same suffix in OCI and in docker.
        let is_tar = self.compresses && descriptor.media_type.ends_with(".tar");
        Ok(if is_tar { blob.compressed_when_sent() } else { blob })
    }

    fn may_lack_platforms(&self) -> bool {
        self.compresses
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        Ok(self.referrers.get(subject).cloned().unwrap_or_default())
    }

    async fn tagged(&self, tag: &Tag) -> Result<Option<Manifest>> {
        let is_tagged = |image: &&Descriptor| {
            image.annotations.get(REF_NAME).is_some_and(|name| name == tag.as_str())
        };
        match self.top.iter().find(is_tagged) {
            Some(descriptor) => self.manifest(descriptor).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The file that identifies a folder or archive as a layout.
pub(super) const MARKER: &str = "oci-layout";

/// The files of a layout.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// A folder.
    Folder(Directory),
    /// An archive, which is not unpacked.
    Archive(Arc<Archive>),
}

impl Layout {
    /// Returns the name of the layout for errors.
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Folder(directory) => directory.path().to_string_lossy(),
            Self::Archive(archive) => archive.file().name().into(),
        }
    }

    /// Returns the name of a file of the layout for errors.
    fn location(&self, name: &str) -> String {
        match self {
            Self::Folder(directory) => directory.path().join(name).display().to_string(),
            Self::Archive(archive) => format!("{name} in {}", archive.file().name()),
        }
    }

    /// Returns whether the layout has a file of this name.
    fn has(&self, name: &str) -> Result<bool> {
        match self {
            Self::Folder(directory) => directory.has(name),
            Self::Archive(archive) => Ok(archive.has(name)),
        }
    }

    /// Reads a file of at most the size of a manifest.
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Folder(directory) => directory.read(name, Manifest::MAX_LEN),
            Self::Archive(archive) => archive.read(name, Manifest::MAX_LEN),
        }
    }

    /// Reads a manifest or index, and compares it with its descriptor.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.read(&name)?;
        let algorithm = descriptor.digest.algorithm();
        let manifest = Manifest::with_algorithm(&descriptor.media_type, bytes, algorithm);
        if manifest.digest != descriptor.digest {
            let problem = format!("its content is {}", manifest.digest);
            return Err(damaged(self.location(&name), problem));
        }
        self.check_size(descriptor, manifest.bytes.len() as u64)?;
        Ok(manifest)
    }

    /// Returns a configuration or layer. Its content is not verified yet.
    fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let name = blob_name(&descriptor.digest);
        match self {
            Self::Folder(directory) => {
                let (_, metadata) = directory.file(&name)?;
                self.check_size(descriptor, metadata.len())?;
                Ok(Blob::file(descriptor, directory, name))
            }
            Self::Archive(archive) => {
                let region = archive.find(&name)?;
                self.check_size(descriptor, region.size)?;
                Ok(Blob::member(descriptor, archive.file(), region.offset, name))
            }
        }
    }

    /// Returns the subject of a manifest; `None` also if the manifest cannot be read.
    fn subject(&self, descriptor: &Descriptor) -> Option<Digest> {
        if !descriptor.is_manifest() {
            return None;
        }
        let content = self.manifest(descriptor).ok()?.content().ok()?;
        Some(content.subject()?.digest.clone())
    }

    fn check_size(&self, descriptor: &Descriptor, found: u64) -> Result<()> {
        let expected = descriptor.size;
        if found == expected {
            return Ok(());
        }
        let problem = format!("it has {found} bytes, and should have {expected}");
        Err(damaged(self.location(&blob_name(&descriptor.digest)), problem))
    }
}

/// Returns the file name of a blob.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
