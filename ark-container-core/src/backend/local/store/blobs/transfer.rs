//! Blobs that a transfer in this process reads and writes as files.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::super::Store;
use super::super::files::cannot;
use crate::backend::local::LocalBackend;
use crate::backend::local::registry::{STORAGE_FULL, is_storage_full};
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::files;
use crate::model::{Algorithm, Digest, RepositoryPath};

impl Store {
    /// Returns the registry's folder, and the path of a blob below it, if the repository has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    fn find_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
    ) -> Result<Option<(PathBuf, PathBuf)>> {
        let folder = self.folder(path)?;
        let blob = folder.blob(digest);
        let relative = blob.strip_prefix(self.root()).ok().map(PathBuf::from);
        let found = folder.metadata(&blob)?.and(relative);
        Ok(found.map(|relative| (self.root().to_owned(), relative)))
    }

    /// Stores a range of a file as a blob. `copied` is called with the length of each piece, and ends the copy by
    /// returning `false`.
    ///
    /// # Errors
    /// Those of [`Upload::finish`](super::Upload::finish); [`Error::Failed`] if the file cannot be copied.
    fn import_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
        (source, range): (&File, Range<u64>),
        copied: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        let id = self.start_upload(path)?;
        let mut upload = self.open_upload(path, &id)?;
        let mut digester = Digester::new(digest.algorithm());
        let size = range.end - range.start;
        // The kernel does not copy to a file that is opened for appending.
        let written = rustix::fs::fcntl_setfl(&upload.file, OFlags::empty());
        let written = written
            .map_err(io::Error::from)
            .and_then(|()| files::copy((source, range), (&upload.file, 0), &mut digester, copied));
        if let Err(error) = written {
            let error = cannot("write", &upload.path)(error);
            upload.remove()?;
            return Err(error);
        }
        upload.size = size;
        upload.sha256 = (digest.algorithm() == Algorithm::Sha256).then_some(digester);
        upload.finish(digest)
    }
}

impl LocalBackend {
    /// Returns the registry's folder, and the path of a blob below it, if the repository has it.
    pub(crate) async fn find_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
    ) -> Result<Option<(PathBuf, PathBuf)>> {
        let digest = digest.clone();
        self.with_repository(path, move |store, path| store.find_blob(path, &digest)).await
    }

    /// Stores a range of a file as a blob. `copied` is called with the length of each piece, and ends the copy by
    /// returning `false`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the content has another digest; [`Error::Temporary`] if the disk is full;
    /// [`Error::Failed`] if the content cannot be copied.
    pub(crate) async fn import_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
        (source, range): (Arc<File>, Range<u64>),
        copied: impl FnMut(u64) -> bool + Send + 'static,
    ) -> Result<()> {
        let digest = digest.clone();
        let import = move |store: &Store, path: &RepositoryPath| {
            store.import_blob(path, &digest, (&source, range), copied)
        };
        self.with_repository(path, import).await.map_err(|error| match is_storage_full(&error) {
            true => Error::temporary(STORAGE_FULL).with_source(error),
            false => error,
        })
    }
}
