//! Blobs as files, for a transfer in this process.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::files::cannot;
use super::super::{Store, sweep_uploads};
use super::{Upload, UploadId};
use crate::backend::local::LocalBackend;
use crate::backend::local::registry::{STORAGE_FULL, is_storage_full};
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::files::{self, Writeback};
use crate::model::{Algorithm, Digest, RepositoryPath};

impl Store {
    /// Returns the registry's folder and the path of a blob below it; `None` if the repository does not have the blob.
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
    /// returning `false`. Partial copies of killed processes are removed first.
    ///
    /// # Errors
    /// Those of [`Upload::finish`]; [`Error::Failed`] if the file cannot be copied.
    fn import_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
        (source, range): (&File, Range<u64>),
        copied: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        let mut upload = self.start_import(path)?;
        let mut digester = Digester::new(digest.algorithm());
        let size = range.end - range.start;
        let written = files::copy((source, range), (&upload.file, 0), &mut digester, copied);
        if let Err(error) = written {
            let error = cannot("write", &upload.path)(error);
            upload.remove()?;
            return Err(error);
        }
        upload.size = size;
        upload.sha256 = (digest.algorithm() == Algorithm::Sha256).then_some(digester);
        upload.finish(digest)
    }

    fn start_import(&self, path: &RepositoryPath) -> Result<Upload> {
        let folder = self.folder(path)?;
        if let Some(before) = SystemTime::now().checked_sub(ABANDONED_AGE) {
            sweep_uploads(&folder, &folder.imports(), before)?;
        }
        let id = UploadId::random()?;
        let path = folder.imports().join(id.to_string());
        folder.create_parents(&path)?;
        let mut options = OpenOptions::new();
        let created = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = created.map_err(folder.cannot("create", &path))?;
        // The lock ends with the process, and shows that the file is in use.
        file.lock().map_err(cannot("lock", &path))?;
        let store = self.clone();
        let writeback = Writeback::of_size(0);
        Ok(Upload { folder, path, id, file, size: 0, writeback, sha256: None, store })
    }
}

/// The minimum age of an abandoned copy, which no process has open.
const ABANDONED_AGE: Duration = Duration::from_secs(60);

impl LocalBackend {
    /// Ends the reservations that this transfer has in a repository.
    pub(crate) async fn end_reservations(&self, path: &RepositoryPath) {
        let ended =
            self.with_repository(path, |store, path| store.end_all_reservations(path)).await;
        if let Err(error) = ended {
            tracing::debug!(%path, %error, "cannot end reservations of blobs; they expire later");
        }
    }

    /// Returns the registry's folder and the path of a blob below it; `None` if the repository does not have the blob.
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
