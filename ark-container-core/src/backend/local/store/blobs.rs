//! Blobs: one file each in every repository that has them.
//!
//! A mount is another name for the same file, so that the file system counts who still needs it:
//! deleting is unlinking, and nothing has to be collected.

use std::fs::{self, File};
use std::io::ErrorKind;

use super::Store;
use super::durable::{cannot, remove_file, sync_parent};
use super::layout::RepositoryFolder;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Digest, RepositoryPath};

impl Store {
    /// A blob, open for reading, and its size in bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the blob.
    pub(crate) fn open_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<(File, u64)> {
        let folder = self.folder(path)?;
        match folder.open(&folder.blob(digest))? {
            Some((file, metadata)) => Ok((file, metadata.len())),
            None => Err(missing_blob(&folder, digest)),
        }
    }

    /// Makes a blob of one repository one of another too; `false` where it has to be uploaded.
    ///
    /// That is so where `from` does not have it, or is of another organization: what an
    /// organization stores is never to be seen from another, whoever asks.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no repository `to`.
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
        target_folder.make_way(&target)?;
        match fs::hard_link(&source, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if target_folder.metadata(&target)?.is_none() {
                    return Ok(false);
                }
            }
            // Deleted meanwhile, or a file system without links or with no more for this file.
            Err(error) => {
                target_folder.confirm()?;
                tracing::debug!(%digest, %from, %to, %error, "a blob could not be mounted");
                return Ok(false);
            }
        }
        sync_parent(&target).map_err(target_folder.cannot("write", &target))?;
        Ok(true)
    }

    /// Deletes a blob from one repository; images that need it can no longer be pulled from there.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the blob.
    pub(crate) fn delete_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<()> {
        let locked = self.lock(path)?;
        let blob = locked.folder.blob(digest);
        let exists = locked.folder.metadata(&blob)?.is_some();
        if exists && remove_file(&blob).map_err(cannot("delete", &blob))? {
            Ok(())
        } else {
            Err(missing_blob(&locked.folder, digest))
        }
    }
}

fn missing_blob(folder: &RepositoryFolder, digest: &Digest) -> Error {
    match folder.confirm() {
        Ok(()) => Error::not_found(ResourceKind::Blob, digest),
        Err(gone) => gone,
    }
}

#[cfg(test)]
mod tests;
