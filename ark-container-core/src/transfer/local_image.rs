//! [`LocalImage`]: all that makes up an image, and where on this machine it is.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use futures_util::Stream;
use tokio_util::bytes::Bytes;

use super::local_file::open_regular;
use super::local_file::{Cursor, OpenFile};
use super::local_file::{MAX_PIECES_WHILE_SENDING, read_ahead};
use super::source::{self, ImageSource};
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, ImageManifest, Platform};

/// An image of this machine whose manifests were read and are consistent.
///
/// Its manifests are in memory. Its blobs are still in the source and have not been read: their digests
/// are verified while they are sent.
#[derive(Debug, Clone)]
pub struct LocalImage(Form);

#[derive(Debug, Clone)]
enum Form {
    /// Its manifests exist, so every digest is known.
    Whole {
        manifests: Vec<Manifest>,
        root: Manifest,
        referrers: Vec<Manifest>,
        blobs: Vec<LocalBlob>,
    },
    /// Its manifest is written when its layers have been compressed.
    InParts { config: Descriptor, config_blob: LocalBlob, layers: Vec<Layer> },
}

/// A layer of an image whose manifest is yet to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// A layer that is sent as it is, under the digest of its descriptor.
    Ready(Descriptor, LocalBlob),
    /// A tar file that is compressed while it is sent. Its digest is its diff ID until then.
    Tar(LocalBlob),
}

/// A blob of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A configuration or layer that is sent as it is.
    Blob(&'a LocalBlob),
    /// A layer that is compressed first. Its digest is its diff ID.
    Tar(&'a LocalBlob),
}

impl LocalImage {
    /// Opens the image that a source names, which must be for one platform.
    ///
    /// # Errors
    /// Those of [`open_for`](Self::open_for).
    pub async fn open(source: &ImageSource) -> Result<Self> {
        Self::open_for(source, &PlatformChoice::default()).await
    }

    /// Opens the image that a source names, for the chosen platforms.
    ///
    /// An archive in a file is read in place. Standard input, images of docker and podman, and the content of
    /// compressed archives are kept in an unnamed temporary file for as long as the image exists.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such file, or docker or podman has no such image;
    /// [`Error::InvalidInput`] if it has several images or platforms and none, or another one, is named,
    /// or if it is not clear what is meant; [`Error::Failed`] if it is damaged or not what it should be,
    /// if docker or podman is missing or fails, or if there is no room to keep it.
    pub async fn open_for(source: &ImageSource, platforms: &PlatformChoice) -> Result<Self> {
        source::open(source, platforms).await
    }

    pub(super) fn whole(
        manifests: Vec<Manifest>,
        root: Manifest,
        referrers: Vec<Manifest>,
        blobs: Vec<LocalBlob>,
    ) -> Self {
        Self(Form::Whole { manifests, root, referrers, blobs })
    }

    pub(super) fn in_parts(config: Descriptor, config_blob: LocalBlob, layers: Vec<Layer>) -> Self {
        Self(Form::InParts { config, config_blob, layers })
    }

    /// Returns the manifest or index of the whole image, unless it is yet to be written.
    pub fn root(&self) -> Option<&Manifest> {
        match &self.0 {
            Form::Whole { root, .. } => Some(root),
            Form::InParts { .. } => None,
        }
    }

    /// Returns the manifests and indexes below the root, each after those that it names.
    pub fn children(&self) -> &[Manifest] {
        match &self.0 {
            Form::Whole { manifests, .. } => manifests,
            Form::InParts { .. } => &[],
        }
    }

    /// Returns the referrers of these manifests in the source, such as signatures, each after its subject.
    pub fn referrers(&self) -> &[Manifest] {
        match &self.0 {
            Form::Whole { referrers, .. } => referrers,
            Form::InParts { .. } => &[],
        }
    }

    /// Returns configurations and layers, including those of referrers, each once.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let parts: Vec<Part<'_>> = match &self.0 {
            Form::Whole { blobs, .. } => blobs.iter().map(Part::Blob).collect(),
            Form::InParts { config_blob, layers, .. } => {
                let layers = layers.iter().map(|layer| match layer {
                    Layer::Ready(_, blob) => Part::Blob(blob),
                    Layer::Tar(tar) => Part::Tar(tar),
                });
                std::iter::once(Part::Blob(config_blob)).chain(layers).collect()
            }
        };
        let mut seen = HashSet::new();
        parts.into_iter().filter(|part| seen.insert(part.local().digest())).collect()
    }

    /// Returns the root, given the descriptor of each compressed layer; `None` if one is missing.
    ///
    /// # Errors
    /// [`Error::Failed`] if the manifest cannot be written.
    pub fn root_with<'a>(
        &self,
        compressed: impl Fn(&Digest) -> Option<&'a Descriptor>,
    ) -> Result<Option<Manifest>> {
        let (config, layers) = match &self.0 {
            Form::Whole { root, .. } => return Ok(Some(root.clone())),
            Form::InParts { config, layers, .. } => (config, layers),
        };
        let layers = layers.iter().map(|layer| match layer {
            Layer::Ready(descriptor, _) => Some(descriptor.clone()),
            Layer::Tar(tar) => compressed(tar.digest()).cloned(),
        });
        match layers.collect::<Option<Vec<_>>>() {
            Some(layers) => ImageManifest::new(config.clone(), layers).to_manifest().map(Some),
            None => Ok(None),
        }
    }
}

impl<'a> Part<'a> {
    /// Returns the blob on this machine.
    pub fn local(self) -> &'a LocalBlob {
        match self {
            Self::Blob(blob) | Self::Tar(blob) => blob,
        }
    }
}

/// A configuration or layer: a file, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBlob {
    digest: Digest,
    size: u64,
    location: BlobLocation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BlobLocation {
    File(PathBuf),
    /// In an archive, from `offset` on.
    Member {
        archive: OpenFile,
        offset: u64,
        name: String,
    },
}

impl LocalBlob {
    pub(super) fn file(digest: Digest, size: u64, file: PathBuf) -> Self {
        Self { digest, size, location: BlobLocation::File(file) }
    }

    pub(super) fn member(
        digest: Digest,
        size: u64,
        archive: &OpenFile,
        offset: u64,
        name: String,
    ) -> Self {
        Self {
            digest,
            size,
            location: BlobLocation::Member { archive: archive.clone(), offset, name },
        }
    }

    /// Returns the digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file that it is in, with its name there if that is an archive.
    pub fn place(&self) -> String {
        match &self.location {
            BlobLocation::File(path) => path.display().to_string(),
            BlobLocation::Member { archive, name, .. } => format!("{name} in {}", archive.name()),
        }
    }

    /// Returns its content from byte `from` on, in pieces that a thread reads ahead.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file is gone, [`Error::Failed`] if it cannot be read; the stream fails
    /// if the file ends too early.
    pub async fn pieces(
        &self,
        from: u64,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        self.read(from..self.size, None).await
    }

    /// Returns a range of its content in pieces to send. The number of pieces in memory is bounded: the next
    /// one is read when another is dropped.
    ///
    /// Errors are those of [`pieces`](Self::pieces).
    pub(super) async fn to_send(
        &self,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        self.read(range, Some(MAX_PIECES_WHILE_SENDING)).await
    }

    /// Returns a range of its content, in a bounded number of pieces at once.
    async fn read(
        &self,
        range: Range<u64>,
        most: Option<usize>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        let file = self.open(range.start).await?;
        Ok(read_ahead(file, range.end.saturating_sub(range.start), most))
    }

    /// Opens the file that it is in at its byte `from`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file is gone, [`Error::Failed`] if it cannot be opened.
    pub(super) async fn open(&self, from: u64) -> Result<Cursor> {
        match &self.location {
            BlobLocation::File(path) => {
                let path = path.clone();
                let opening = tokio::task::spawn_blocking(move || open_regular(&path));
                let opened = opening
                    .await
                    .map_err(|error| Error::failed("opening a blob").with_source(error))?;
                Ok(Cursor::new(opened?.0, from))
            }
            BlobLocation::Member { archive, offset, .. } => Ok(archive.at(offset + from)),
        }
    }
}

/// The choice of platforms where the index of an image has several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformChoice {
    /// The image as it is, which must be for one platform. With several platforms, it is an error.
    ///
    /// An index is pushed whole, with the attestations of its image. Where an index names several
    /// platforms and only one of them is on this machine, as in docker after a pull, that one is pushed.
    #[default]
    Only,
    /// The image for this platform, without the index around it.
    One(Platform),
    /// The whole index with everything in it.
    All,
}
