//! Uploads: files that grow until their digest is known, and then become blobs.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::str::FromStr;

use super::Store;
use super::durable::{self, cannot, sync_parent};
use super::layout::RepositoryFolder;
use super::unfinished::Unfinished;
use crate::backend::local::random::random_bits;
use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Algorithm, Digest, ParseError, RepositoryPath};

/// Names a running upload: 128 random bits, as 32 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UploadId(u128);

impl UploadId {
    fn random() -> Result<Self> {
        random_bits().map(Self)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for UploadId {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let bits = u128::from_str_radix(input, 16).ok();
        // One spelling only: the text is the name of a file.
        bits.map(Self).filter(|id| id.to_string() == input).ok_or_else(|| {
            ParseError::new("upload", input, "expected 32 hexadecimal digits in lower case")
        })
    }
}

/// A running upload that this handle alone may write to, whichever process others are in.
///
/// Dropping it keeps what was written, so that the upload can go on.
#[derive(Debug)]
pub(crate) struct Upload {
    folder: RepositoryFolder,
    path: PathBuf,
    id: UploadId,
    /// Locked for as long as it is open.
    file: File,
    size: u64,
    /// `None` once bytes are on the disk that this store did not write.
    sha256: Option<Digester>,
    unfinished: Unfinished,
}

/// A point that an upload can be set back to.
#[derive(Debug)]
pub(crate) struct Mark {
    size: u64,
    sha256: Option<Digester>,
}

impl Store {
    /// Starts an upload without bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn start_upload(&self, path: &RepositoryPath) -> Result<UploadId> {
        let folder = self.folder(path)?;
        let id = UploadId::random()?;
        let file = folder.upload(&id);
        folder.make_way(&file)?;
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).mode(0o600).open(&file);
        created.map_err(folder.cannot("create", &file))?;
        Ok(id)
    }

    /// How many bytes of an upload are stored.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the upload.
    pub(crate) fn upload_size(&self, path: &RepositoryPath, id: &UploadId) -> Result<u64> {
        let folder = self.folder(path)?;
        match folder.metadata(&folder.upload(id))? {
            Some(metadata) => Ok(metadata.len()),
            None => Err(missing_upload(&folder, id)),
        }
    }

    /// Opens an upload to go on with it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the upload; [`Error::Conflict`] while another
    /// handle of this or another process has it open.
    pub(crate) fn open_upload(&self, path: &RepositoryPath, id: &UploadId) -> Result<Upload> {
        let folder = self.folder(path)?;
        let path = folder.upload(id);
        let reached = folder.reaches(&path)?;
        let opened = durable::open_file(&path, OpenOptions::new().read(true).append(true))
            .map_err(cannot("open", &path))?;
        let Some((file, _)) = opened.filter(|_| reached) else {
            return Err(missing_upload(&folder, id));
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict(ResourceKind::Upload, id, "is in use"));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", &path)(error)),
        }
        // Read under the lock: others wrote to it before.
        let size = file.metadata().map_err(cannot("read", &path))?.len();
        let sha256 = match size {
            0 => Some(Digester::new(Algorithm::Sha256)),
            _ => self.unfinished.recall(*id, size),
        };
        let unfinished = self.unfinished.clone();
        let upload = Upload { folder, path, id: *id, file, size, sha256, unfinished };
        upload.confirm()?;
        Ok(upload)
    }

    /// Ends an upload and forgets its bytes.
    ///
    /// # Errors
    /// Those of [`open_upload`](Self::open_upload).
    pub(crate) fn cancel_upload(&self, path: &RepositoryPath, id: &UploadId) -> Result<()> {
        self.open_upload(path, id)?.remove()
    }
}

impl Upload {
    /// How many bytes are stored: where to go on.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes: all of them, or none if it fails.
    ///
    /// # Errors
    /// [`Error::Failed`] if the disk does not take them.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // A client that goes on asks for the size first, and must not find half of these.
            let cut = self.file.set_len(self.size);
            if let Err(error) = cut {
                tracing::warn!(path = %self.path.display(), %error, "an upload could not be cut");
                self.sha256 = None;
            }
            return Err(cannot("write", &self.path)(error));
        }
        self.size += bytes.len() as u64;
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        Ok(())
    }

    /// How far the upload is.
    pub(crate) fn mark(&self) -> Mark {
        Mark { size: self.size, sha256: self.sha256.clone() }
    }

    /// Drops what was written since `mark`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be cut.
    pub(crate) fn set_back(&mut self, mark: Mark) -> Result<()> {
        self.file.set_len(mark.size).map_err(cannot("cut", &self.path))?;
        (self.size, self.sha256) = (mark.size, mark.sha256);
        Ok(())
    }

    /// Makes the upload a blob; where the repository has that blob already, the old one stays.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the bytes do not have this digest: the upload is gone;
    /// [`Error::NotFound`] if the repository or the upload was deleted meanwhile.
    pub(crate) fn finish(mut self, digest: &Digest) -> Result<()> {
        let actual = self.digest(digest.algorithm())?;
        if actual != *digest {
            self.remove()?;
            let message = format!("the digest of the uploaded bytes is {actual}, not {digest}");
            return Err(Error::invalid(message));
        }
        let blob = self.folder.blob(digest);
        let old = self.folder.metadata(&blob)?;
        if old.is_some_and(|old| old.len() == self.size) {
            // Whoever put it there may have been killed before it was to last.
            sync_parent(&blob).map_err(self.folder.cannot("write", &blob))?;
            return self.remove();
        }
        self.file.sync_all().map_err(cannot("write", &self.path))?;
        self.folder.make_way(&blob)?;
        self.confirm()?;
        fs::rename(&self.path, &blob)
            .and_then(|()| sync_parent(&blob))
            .map_err(self.folder.cannot("write", &blob))
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        match self.sha256.take() {
            Some(sha256) if algorithm == Algorithm::Sha256 => Ok(sha256.finish()),
            _ => self
                .file
                .rewind()
                .and_then(|()| Digester::digest_of_stream(algorithm, &self.file))
                .map_err(cannot("read", &self.path)),
        }
    }

    /// Makes sure that the file is still the upload: it may have become a blob, or have been deleted.
    fn confirm(&self) -> Result<()> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let own = self.file.metadata().map(identity).map_err(cannot("read", &self.path))?;
        match self.folder.metadata(&self.path)?.map(identity) {
            Some(there) if there == own => self.folder.confirm(),
            _ => Err(missing_upload(&self.folder, &self.id)),
        }
    }

    fn remove(mut self) -> Result<()> {
        self.sha256 = None;
        self.confirm()?;
        fs::remove_file(&self.path).map_err(self.folder.cannot("delete", &self.path))
    }
}

impl Drop for Upload {
    /// While the file is still locked: the next to open it finds what is remembered here.
    fn drop(&mut self) {
        if let Some(sha256) = self.sha256.take() {
            self.unfinished.remember(self.id, self.size, sha256);
        }
    }
}

fn missing_upload(folder: &RepositoryFolder, id: &UploadId) -> Error {
    match folder.confirm() {
        Ok(()) => Error::not_found(ResourceKind::Upload, id),
        Err(gone) => gone,
    }
}

#[cfg(test)]
mod tests;
