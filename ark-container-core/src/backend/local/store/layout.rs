//! [`RepositoryFolder`]: what is where in a repository's folder.

use std::ffi::OsString;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::durable::{cannot, file_metadata, found, is_folder, require_folder};
use super::uploads::UploadId;
use super::{RepositoryRecord, Store, durable};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Algorithm, Digest, RepositoryPath, Tag};

/// Starts with `_`, as no part of a name can: `a` and `a/b` may both be repositories.
pub(super) const REPOSITORY: &str = "_repository";
const LOCK: &str = "_lock";
pub(super) const RECORD: &str = "repository.json";

/// The folder of one repository, which may be gone at any moment unless it is [locked](Locked).
#[derive(Debug, Clone)]
pub(super) struct RepositoryFolder {
    path: RepositoryPath,
    folder: PathBuf,
}

/// A repository's folder that no other process or thread changes, but for blobs and uploads that come.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) folder: RepositoryFolder,
    _lock: File,
}

impl Store {
    /// Where a repository is or would be.
    pub(super) fn place_of(&self, path: &RepositoryPath) -> RepositoryFolder {
        let folder = self.root().join(path.to_string()).join(REPOSITORY);
        RepositoryFolder { path: path.clone(), folder }
    }

    /// The folder of a repository that exists, reached without following a link.
    pub(super) fn folder(&self, path: &RepositoryPath) -> Result<RepositoryFolder> {
        let folder = self.place_of(path);
        let mut ancestor = self.root().to_path_buf();
        for part in path.to_string().split('/') {
            ancestor.push(part);
            if !is_folder(&ancestor).map_err(cannot("read", &ancestor))? {
                return Err(folder.missing());
            }
        }
        folder.confirm()?;
        Ok(folder)
    }

    /// The folder of a repository that exists, once nobody else holds its lock.
    pub(super) fn lock(&self, path: &RepositoryPath) -> Result<Locked> {
        let folder = self.folder(path)?;
        let lock = folder.lock()?;
        // It may have been deleted while the lock was another's.
        folder.confirm()?;
        Ok(Locked { folder, _lock: lock })
    }

    /// As [`lock`](Self::lock), whether or not the repository exists.
    pub(super) fn lock_place(&self, path: &RepositoryPath) -> Result<Locked> {
        let folder = self.place_of(path);
        let mut ancestor = self.root().to_path_buf();
        for part in path.to_string().split('/') {
            ancestor.push(part);
            require_folder(&ancestor).map_err(cannot("create", &ancestor))?;
        }
        let lock = folder.lock()?;
        Ok(Locked { folder, _lock: lock })
    }
}

impl RepositoryFolder {
    pub(super) fn path(&self) -> &RepositoryPath {
        &self.path
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.folder
    }

    /// What a repository that is not there is called.
    pub(super) fn missing(&self) -> Error {
        Error::not_found(ResourceKind::Repository, &self.path)
    }

    /// Makes sure that the repository still exists.
    ///
    /// Whoever finds something missing asks this first, so that a repository which was deleted
    /// meanwhile is never taken for an empty one.
    pub(super) fn confirm(&self) -> Result<()> {
        let record = self.record();
        let exists = is_folder(&self.folder).map_err(cannot("read", &self.folder))?
            && file_metadata(&record).map_err(cannot("read", &record))?.is_some();
        if exists { Ok(()) } else { Err(self.missing()) }
    }

    fn lock(&self) -> Result<File> {
        let path = self.folder.with_file_name(LOCK);
        let lock = durable::open_lock(&path)?;
        lock.lock().map_err(cannot("lock", &path))?;
        Ok(lock)
    }

    /// The record that makes it a repository.
    pub(super) fn record(&self) -> PathBuf {
        self.folder.join(RECORD)
    }

    /// What the repository was created with; `None` if there is none.
    pub(super) fn read_record(&self) -> Result<Option<RepositoryRecord>> {
        if !is_folder(&self.folder).map_err(cannot("read", &self.folder))? {
            return Ok(None);
        }
        let path = self.record();
        let Some(bytes) = durable::read_file(&path).map_err(cannot("read", &path))? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes)
            .map_err(|error| Error::failed(format!("{} is damaged", path.display()), error))?;
        Ok(Some(record))
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.by_digest("blobs", digest)
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    pub(super) fn manifest(&self, digest: &Digest) -> PathBuf {
        self.by_digest("manifests", digest)
    }

    pub(super) fn tags(&self) -> PathBuf {
        self.folder.join("tags")
    }

    pub(super) fn tag(&self, tag: &Tag) -> PathBuf {
        self.tags().join(tag.as_str())
    }

    /// The folder of the manifests that name `subject` as theirs.
    pub(super) fn referrers(&self, subject: &Digest) -> PathBuf {
        self.by_digest("referrers", subject)
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.to_string())
    }

    /// Makes the names of all blobs last.
    pub(super) fn sync_blobs(&self) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.folder.join("blobs").join(algorithm.as_str());
            found(File::open(&folder).and_then(|folder| folder.sync_all()))
                .map_err(cannot("write", &folder))?;
        }
        Ok(())
    }

    fn by_digest(&self, kind: &str, digest: &Digest) -> PathBuf {
        let mut path = self.folder.join(kind);
        path.push(digest.algorithm().as_str());
        path.push(digest.hex());
        path
    }

    /// The folders between the repository's and `path`, from the outside in.
    fn between(&self, path: &Path) -> Vec<PathBuf> {
        let inside = path.ancestors().skip(1).take_while(|ancestor| *ancestor != self.folder);
        let mut folders: Vec<_> = inside.map(Path::to_path_buf).collect();
        folders.reverse();
        folders
    }

    /// Whether `path` is reached without following a link.
    pub(super) fn reaches(&self, path: &Path) -> Result<bool> {
        for folder in self.between(path) {
            if !is_folder(&folder).map_err(cannot("read", &folder))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates what is missing of the folders that `path` is to be in.
    ///
    /// Never the repository's own: one that was deleted does not come back as a torso.
    pub(super) fn make_way(&self, path: &Path) -> Result<()> {
        for folder in self.between(path) {
            require_folder(&folder).map_err(self.cannot("create", &folder))?;
        }
        Ok(())
    }

    /// The error of a change inside the folder, which was there when the change began.
    ///
    /// Where something is missing, the repository was deleted meanwhile, even if there is one of
    /// that name again.
    pub(super) fn cannot(
        &self,
        verb: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Error {
        let failed = cannot(verb, path);
        move |error| match error.kind() {
            ErrorKind::NotFound => self.missing(),
            _ => failed(error),
        }
    }

    /// Opens a file for reading, with what is known of it.
    pub(super) fn open(&self, path: &Path) -> Result<Option<(File, fs::Metadata)>> {
        if !self.reaches(path)? {
            return Ok(None);
        }
        durable::open_file(path, OpenOptions::new().read(true)).map_err(cannot("read", path))
    }

    /// What is known of a file.
    pub(super) fn metadata(&self, path: &Path) -> Result<Option<fs::Metadata>> {
        if !self.reaches(path)? {
            return Ok(None);
        }
        file_metadata(path).map_err(cannot("read", path))
    }

    /// The names of the regular files in a folder; none where there is no such folder.
    pub(super) fn file_names(&self, folder: &Path) -> Result<Vec<OsString>> {
        if !self.reaches(&folder.join("_"))? {
            return Ok(Vec::new());
        }
        durable::names(folder, FileType::is_file)
    }
}
