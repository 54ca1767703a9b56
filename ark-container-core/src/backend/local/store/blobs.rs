//! Blobs, and the uploads that become blobs.
//!
//! A blob is one file in each repository that has it. A mount is a hard link, so that the file system counts the
//! repositories: a repository removes a blob by unlinking its own file.
//!
//! An upload is a file that grows until its digest is known.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Store;
use super::collection::{ReservationReason, missing_blob};
use super::files::{self, cannot};
use super::layout::RepositoryFolder;
use crate::backend::local::token::random_bits;
use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};
use crate::files::Writeback;
use crate::model::{Algorithm, Digest, ParseError, RepositoryPath};

impl Store {
    /// Opens a blob for reading and returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist.
    pub(crate) fn open_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<(File, u64)> {
        let folder = self.folder(path)?;
        match folder.open(&folder.blob(digest))? {
            Some((file, metadata)) => Ok((file, metadata.len())),
            None => Err(missing_blob(&folder, digest)),
        }
    }

    /// Mounts a blob of one repository in another. Returns `false` if it has to be uploaded instead.
    ///
    /// An upload is required if `from` does not have the blob or belongs to another organization: an organization must
    /// not find out which blobs another one stores.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository `to` does not exist.
    pub(crate) fn mount_blob(
        &self,
        from: &RepositoryPath,
        to: &RepositoryPath,
        digest: &Digest,
    ) -> Result<bool> {
        let target_folder = self.folder(to)?;
        if from.stage() != to.stage() || from.organization() != to.organization() {
            return Ok(false);
        }
        let source_folder = match self.folder(from) {
            Err(Error::NotFound { .. }) => return Ok(false),
            folder => folder?,
        };
        let (source, target) = (source_folder.blob(digest), target_folder.blob(digest));
        if source_folder.metadata(&source)?.is_none() {
            return Ok(false);
        }
        target_folder.create_parents(&target)?;
        let reservations = target_folder.lock_reservations()?;
        match fs::hard_link(&source, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if target_folder.metadata(&target)?.is_none() {
                    return Ok(false);
                }
            }
            // The blob was deleted meanwhile, or the file system supports no further hard link.
            Err(error) => {
                target_folder.confirm()?;
                tracing::debug!(%digest, %from, %to, %error, "cannot mount a blob");
                return Ok(false);
            }
        }
        reservations.add(digest, &self.reservation_holder, ReservationReason::Found)?;
        Ok(true)
    }
}

/// The id of a running upload: 128 random bits, written as 32 lower-case hexadecimal digits.
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
        // The text is the name of a file, so that only one spelling is valid.
        bits.map(Self).filter(|id| id.to_string() == input).ok_or_else(|| {
            ParseError::new("upload", input, "expected 32 hexadecimal digits in lower case")
        })
    }
}

/// An open upload. No other handle of this or another process can write to the upload meanwhile.
///
/// Dropping the handle keeps the written bytes, so that the upload can be resumed.
#[derive(Debug)]
pub(crate) struct Upload {
    folder: RepositoryFolder,
    path: PathBuf,
    id: UploadId,
    /// The locked file.
    file: File,
    size: u64,
    writeback: Writeback,
    /// `None` if another process wrote some of the bytes.
    sha256: Option<Digester>,
    store: Store,
}

/// A state to which an upload can be rolled back.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    size: u64,
    sha256: Option<Digester>,
}

impl Store {
    /// Starts an empty upload.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn start_upload(&self, path: &RepositoryPath) -> Result<UploadId> {
        let folder = self.folder(path)?;
        let id = UploadId::random()?;
        let file = folder.upload(&id);
        folder.create_parents(&file)?;
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).mode(0o600).open(&file);
        created.map_err(folder.cannot("create", &file))?;
        Ok(id)
    }

    /// Returns the number of stored bytes of an upload.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the upload does not exist.
    pub(crate) fn upload_size(&self, path: &RepositoryPath, id: &UploadId) -> Result<u64> {
        let folder = self.folder(path)?;
        match folder.metadata(&folder.upload(id))? {
            Some(metadata) => Ok(metadata.len()),
            None => Err(missing_upload(&folder, id)),
        }
    }

    /// Opens an upload to resume it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the upload does not exist; [`Error::Conflict`] if another handle of
    /// this or another process has the upload open.
    pub(crate) fn open_upload(&self, path: &RepositoryPath, id: &UploadId) -> Result<Upload> {
        let folder = self.folder(path)?;
        let path = folder.upload(id);
        let reached = folder.is_reachable(&path)?;
        let opened = files::open_file(&path, OpenOptions::new().read(true).append(true))
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
        // The size is read under the lock, because others may have written before.
        let size = file.metadata().map_err(cannot("read", &path))?.len();
        let sha256 = match size {
            0 => Some(Digester::new(Algorithm::Sha256)),
            _ => self.upload_hashes.take(*id, size),
        };
        let (writeback, store) = (Writeback::of_size(size), self.clone());
        let upload = Upload { folder, path, id: *id, file, size, writeback, sha256, store };
        upload.confirm()?;
        Ok(upload)
    }

    /// Cancels an upload and deletes its bytes.
    ///
    /// # Errors
    /// Those of [`open_upload`](Self::open_upload).
    pub(crate) fn cancel_upload(&self, path: &RepositoryPath, id: &UploadId) -> Result<()> {
        self.open_upload(path, id)?.remove()
    }
}

impl Upload {
    /// Returns the number of stored bytes, which is the offset of the next byte.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends all of the bytes, or none after an error.
    ///
    /// # Errors
    /// [`Error::Failed`] if the bytes cannot be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // A client that resumes requests the size first, which must not include some of these bytes.
            let cut = self.file.set_len(self.size);
            if let Err(error) = cut {
                tracing::warn!(path = %self.path.display(), %error, "cannot truncate an upload");
                self.sha256 = None;
            }
            return Err(cannot("write", &self.path)(error));
        }
        self.size += bytes.len() as u64;
        self.writeback.grown(&self.file, self.size);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        Ok(())
    }

    /// Returns the current position.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { size: self.size, sha256: self.sha256.clone() }
    }

    /// Removes the bytes that were written since `checkpoint`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be truncated.
    pub(crate) fn roll_back(&mut self, checkpoint: Checkpoint) -> Result<()> {
        self.file.set_len(checkpoint.size).map_err(cannot("truncate", &self.path))?;
        (self.size, self.sha256) = (checkpoint.size, checkpoint.sha256);
        Ok(())
    }

    /// Turns the upload into a blob. An existing blob is not replaced.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the bytes do not have this digest, after which the upload is deleted;
    /// [`Error::NotFound`] if the repository or the upload was deleted meanwhile.
    pub(crate) fn finish(mut self, digest: &Digest) -> Result<()> {
        let actual = self.digest(digest.algorithm())?;
        if actual != *digest {
            self.remove()?;
            let message = format!("the digest of the uploaded bytes is {actual}, not {digest}");
            return Err(Error::invalid(message));
        }
        let blob = self.folder.blob(digest);
        let old = self.store.reserve_stored(&self.folder, digest, ReservationReason::Uploaded)?;
        if old.is_some_and(|old| old.len() == self.size) {
            return self.remove();
        }
        self.file.sync_all().map_err(cannot("write", &self.path))?;
        self.folder.create_parents(&blob)?;
        self.confirm()?;
        let reservations = self.folder.lock_reservations()?;
        reservations.add(digest, &self.store.reservation_holder, ReservationReason::Uploaded)?;
        // The manifest that names the blob syncs the rename: see `put_manifest`.
        fs::rename(&self.path, &blob).map_err(self.folder.cannot("write", &blob))
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

    /// Returns an error if the upload has become a blob or was deleted meanwhile.
    fn confirm(&self) -> Result<()> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let own = self.file.metadata().map(identity).map_err(cannot("read", &self.path))?;
        match self.folder.metadata(&self.path)?.map(identity) {
            Some(current) if current == own => self.folder.confirm(),
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
    /// Caches the hash while the file is still locked, so that the next handle finds the hash.
    fn drop(&mut self) {
        if let Some(sha256) = self.sha256.take() {
            self.store.upload_hashes.store(self.id, self.size, sha256);
        }
    }
}

fn missing_upload(folder: &RepositoryFolder, id: &UploadId) -> Error {
    match folder.confirm() {
        Ok(()) => Error::not_found(ResourceKind::Upload, id),
        Err(gone) => gone,
    }
}

/// The maximum number of cached hashes, more than clients have concurrent uploads. An upload without a cached hash is
/// read again at its end.
const MAX_CACHED_HASHES: usize = 256;

/// A cache of the hashes of uploads without an open handle, so that an upload in several requests, as by docker, is not
/// read again at its end.
///
/// An upload is never shorter than its hashed bytes, and its id is never reused, so that the hashed bytes stay its first
/// bytes. A cached hash is valid for one length only.
#[derive(Debug, Clone, Default)]
pub(super) struct UploadHashes(Arc<Mutex<VecDeque<(UploadId, u64, Digester)>>>);

impl UploadHashes {
    /// Stores the hash of the first `size` bytes. A full cache evicts its oldest hash.
    pub(super) fn store(&self, id: UploadId, size: u64, hasher: Digester) {
        let mut hashes = self.lock();
        if hashes.len() == MAX_CACHED_HASHES {
            hashes.pop_front();
        }
        hashes.push_back((id, size, hasher));
    }

    /// Removes the hash of an upload, and returns the hash if it covers exactly the first `size` bytes.
    pub(super) fn take(&self, id: UploadId, size: u64) -> Option<Digester> {
        let mut hashes = self.lock();
        let position = hashes.iter().position(|(other, ..)| *other == id)?;
        let (_, hashed, hasher) = hashes.remove(position)?;
        (hashed == size).then_some(hasher)
    }

    /// Locks the list. A poisoned lock is safe, because no thread panics while it changes the list.
    fn lock(&self) -> MutexGuard<'_, VecDeque<(UploadId, u64, Digester)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
#[cfg(feature = "push")]
mod transfer;
