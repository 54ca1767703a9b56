//! Images in an OCI layout: in a folder, or in an archive of one.
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
/// The whole name, where docker writes only the tag into the other annotation.
///
/// Source: <https://github.com/containerd/containerd/blob/v2.0.0/core/images/annotations.go>
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An OCI layout as a source of images.
#[derive(Debug)]
pub(super) struct LayoutSource {
    layout: Layout,
    /// The manifests in `index.json`.
    top: Vec<Descriptor>,
    /// The manifests in `index.json` that refer to another one, by its digest.
    referrers: HashMap<Digest, Vec<Descriptor>>,
    /// Whether layers that are not compressed are to be compressed, as in what docker saves.
    compresses: bool,
}

impl LayoutSource {
    /// Opens a layout whose images are transferred as they are.
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
        // A single manifest is the image.
        for descriptor in top.iter().filter(|_| top.len() > 1) {
            if let Some(subject) = layout.subject(descriptor)
                && seen.insert(&descriptor.digest)
            {
                referrers.entry(subject).or_default().push(descriptor.clone());
            }
        }
        Ok(Self { layout, top, referrers, compresses: false })
    }

    /// Opens the layout in an archive of docker, which made up layers that are not compressed.
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
            // People write the whole name where there is one.
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
        // In the words of OCI and of docker.
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

/// The file that makes a folder or an archive a layout.
pub(super) const MARKER: &str = "oci-layout";

/// The files of a layout.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// In a folder.
    Folder(Directory),
    /// In an archive, which is not unpacked.
    Archive(Arc<Archive>),
}

impl Layout {
    /// What errors call it.
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Folder(directory) => directory.path().to_string_lossy(),
            Self::Archive(archive) => archive.file().name().into(),
        }
    }

    /// What errors call a file of it.
    fn location(&self, name: &str) -> String {
        match self {
            Self::Folder(directory) => directory.path().join(name).display().to_string(),
            Self::Archive(archive) => format!("{name} in {}", archive.file().name()),
        }
    }

    /// Whether it has a file of this name.
    fn has(&self, name: &str) -> Result<bool> {
        match self {
            Self::Folder(directory) => directory.has(name),
            Self::Archive(archive) => Ok(archive.has(name)),
        }
    }

    /// A file that is to be held in memory: no larger than a manifest may be.
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Folder(directory) => directory.read(name, Manifest::MAX_LEN),
            Self::Archive(archive) => archive.read(name, Manifest::MAX_LEN),
        }
    }

    /// A manifest or index, which is what its descriptor says.
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

    /// A configuration or layer, whose content is yet to be looked at.
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

    /// Returns what a manifest refers to. One that cannot be read refers to nothing.
    fn subject(&self, descriptor: &Descriptor) -> Option<Digest> {
        if !descriptor.is_manifest() {
            return None;
        }
        let content = self.manifest(descriptor).ok()?.content().ok()?;
        Some(content.subject()?.digest.clone())
    }

    fn check_size(&self, descriptor: &Descriptor, found: u64) -> Result<()> {
        let promised = descriptor.size;
        if found == promised {
            return Ok(());
        }
        let problem = format!("it has {found} bytes, and should have {promised}");
        Err(damaged(self.location(&blob_name(&descriptor.digest)), problem))
    }
}

/// The file of a blob.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
