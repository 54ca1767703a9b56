//! [`LocalImage`]: all that makes up an image, and where on this machine it is.

use std::collections::HashSet;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::io::AsyncRead;

use super::regular_file;
use super::source::{self, ImageSource};
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::Digest;

/// An image of this machine, looked through and found to fit together.
///
/// Its manifests are in memory. Its blobs are where they were found, and their content has not been
/// read: whether it is what its digest says is for the registry to verify.
#[derive(Debug, Clone)]
pub struct LocalImage {
    manifests: Vec<Manifest>,
    root: Manifest,
    blobs: Vec<LocalBlob>,
}

impl LocalImage {
    /// Looks through a source for the image that it names.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such file; [`Error::InvalidInput`] if it has several images and
    /// none, or another one, is named; [`Error::Failed`] if it is damaged or not what it should be.
    pub async fn open(source: &ImageSource) -> Result<Self> {
        let source = source.clone();
        let opening = tokio::task::spawn_blocking(move || source::open(&source));
        opening.await.map_err(|error| Error::failed("looking through the image", error))?
    }

    pub(super) fn new(manifests: Vec<Manifest>, root: Manifest, blobs: Vec<LocalBlob>) -> Self {
        let mut seen = HashSet::new();
        let once = blobs.into_iter().filter(|blob| seen.insert(blob.digest.clone())).collect();
        Self { manifests, root, blobs: once }
    }

    /// What the image as a whole is called: the digest of its index, or of its only manifest.
    pub fn digest(&self) -> &Digest {
        &self.root.digest
    }

    /// The manifest or index that stands for the whole.
    pub fn root(&self) -> &Manifest {
        &self.root
    }

    /// The manifests and indexes below the root, each after those that it names.
    pub fn children(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Configurations and layers, each once.
    pub fn blobs(&self) -> &[LocalBlob] {
        &self.blobs
    }
}

/// A configuration or layer: a file, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBlob {
    digest: Digest,
    size: u64,
    file: PathBuf,
    offset: u64,
    member: Option<String>,
}

impl LocalBlob {
    pub(super) fn file(digest: Digest, size: u64, file: PathBuf) -> Self {
        Self { digest, size, file, offset: 0, member: None }
    }

    pub(super) fn member(
        digest: Digest,
        size: u64,
        archive: &Path,
        offset: u64,
        member: String,
    ) -> Self {
        Self { digest, size, file: archive.to_owned(), offset, member: Some(member) }
    }

    /// What it is called.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file that it is in, with its name there if that is an archive.
    pub fn place(&self) -> String {
        match &self.member {
            Some(member) => format!("{member} in {}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    /// Its content, from the first byte. More may follow behind its [`size`](Self::size).
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file is gone, [`Error::Failed`] if it cannot be read.
    pub async fn content(&self) -> Result<impl AsyncRead + Send + 'static> {
        let (path, offset) = (self.file.clone(), self.offset);
        let opening = tokio::task::spawn_blocking(move || {
            let (mut file, _) = regular_file::open(&path)?;
            file.seek(SeekFrom::Start(offset))
                .map_err(|error| regular_file::unreadable(&path, error))?;
            Ok(tokio::fs::File::from_std(file))
        });
        opening.await.map_err(|error| Error::failed("opening a blob", error))?
    }
}
