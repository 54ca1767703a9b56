//! [`Store`]: the repositories, blobs, uploads and manifests of a local registry, as files.
//!
//! ```text
//! version                                   the format of the folder
//! <stage>/<organization>/<name…>/_lock      held by the process that changes the repository
//! <stage>/<organization>/<name…>/_reservations  held by the process that changes reservations or removes blobs
//! <stage>/<organization>/<name…>/_repository/
//!     repository.json                       the settings; without it there is no repository
//!     blobs/<algorithm>/<hex>
//!     reservations/<algorithm>/<hex>        the clients that rely on the blob
//!     manifests/<algorithm>/<hex>           one line of JSON about the manifest, then the manifest
//!     tags/<tag>                            the digest of its manifest; `+v` for `V` on macOS
//!     referrers/<algorithm>/<hex>/<digest>  an entry for each referrer of the first digest
//!     uploads/<id>
//!     imports/<id>                          blobs that are being copied from files of this machine
//! _tmp/                                     files and folders that are being written
//! _trash/                                   folders that are being deleted
//! ```
//!
//! Any number of processes may use the folder at once. Every change is synced first and then becomes visible by
//! one rename. A process may be killed at any moment: readers see the old state or the new one. Readers take no
//! lock. A change of manifests, tags or repositories holds the repository's lock, so that the checks of the
//! change are still true when it is published.
//!
//! Two repositories share the file of a blob only after a mount within an organization. Symbolic links are never
//! followed, because a link could lead out of the folder or to another organization.

mod blobs;
mod collection;
mod files;
mod images;
mod layout;
mod manifests;
mod repositories;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::token::random_bits;
use crate::error::{Error, Result};
use crate::files::trusted::read_trusted;
use crate::files::{Directory, has_name};
use crate::identity::{HAD_MEMBERSHIPS_FILE, MEMBERSHIPS_FILE};
use crate::model::Organizations;
use blobs::UploadHashes;
use collection::{References, ReservationHolder};
use files::{Temporary, cannot, is_folder, none_if_missing};
use layout::{RepositoryFolder, Walk, folder_names};

pub(crate) use blobs::{Upload, UploadId};
pub(crate) use manifests::PutManifestError;
pub(crate) use repositories::RepositoryRecord;

/// The format that this program reads and writes.
const VERSION: &str = "1";
const VERSION_FILE: &str = "version";
const TEMPORARY: &str = "_tmp";
const TRASH: &str = "_trash";
/// The entries that are allowed in a folder without a version file: leftovers of an interrupted creation, memberships,
/// and `lost+found`. An audit file, which ends in `.jsonl`, is allowed too.
const UNVERSIONED: [&str; 5] =
    [TEMPORARY, TRASH, MEMBERSHIPS_FILE, HAD_MEMBERSHIPS_FILE, "lost+found"];

/// The name of the folder in errors.
pub(crate) const REGISTRY_FOLDER: &str = "folder of the registry";

/// The maximum size of a file directly in the folder.
const MAX_SMALL_FILE_BYTES: usize = 4 * 1024;

/// The folder of a local registry. Clones are cheap; all of its functions block.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: Arc<Path>,
    upload_hashes: UploadHashes,
    references: References,
    reservation_holder: ReservationHolder,
    /// Whether a memberships file is in effect. If so, each change records that in the folder.
    has_memberships: Arc<AtomicBool>,
}

impl Store {
    /// Opens the folder of a registry without writing. A missing or empty folder has no repositories.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be read or has an unsupported format; [`Error::InvalidInput`] if
    /// the folder has files but is not the folder of a registry.
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        // A later change of the working directory must not change the registry.
        let root = std::path::absolute(&root).map_err(cannot("find", &root))?;
        let store = Self {
            root: root.into(),
            upload_hashes: UploadHashes::default(),
            references: References::default(),
            reservation_holder: ReservationHolder::new(),
            has_memberships: Arc::default(),
        };
        store.has_version()?;
        Ok(store)
    }

    /// Creates the folder with mode 0700, and its missing entries. Every change calls this function first.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Error::Failed`] if the folder cannot be created or written.
    pub(crate) fn create(&self) -> Result<()> {
        let has_version = self.has_version()?;
        let folder = Directory::create_trusted(&self.root, REGISTRY_FOLDER)?;
        if self.has_memberships.load(Ordering::Relaxed) {
            self.mark_memberships(&folder)?;
        }
        for folder in [TEMPORARY, TRASH].map(|name| self.root.join(name)) {
            files::require_folder(&folder).map_err(cannot("create", &folder))?;
        }
        if has_version {
            return Ok(());
        }
        self.publish(&self.root.join(VERSION_FILE), VERSION.as_bytes())
    }

    /// Makes each change record that the registry has memberships, and records it now if `at_once` is set. A failure
    /// to record it now is ignored; changes fail until it is recorded.
    pub(crate) fn record_memberships(&self, at_once: bool) {
        self.has_memberships.store(true, Ordering::Relaxed);
        if !at_once {
            return;
        }
        let folder = Directory::open_trusted(&self.root, REGISTRY_FOLDER);
        if let Err(error) = folder.and_then(|folder| self.mark_memberships(&folder)) {
            tracing::debug!(%error, "the memberships of the registry are not recorded");
        }
    }

    fn mark_memberships(&self, folder: &Directory) -> Result<()> {
        match has_name(&self.root.join(HAD_MEMBERSHIPS_FILE)) {
            true => Ok(()),
            false => folder.replace(HAD_MEMBERSHIPS_FILE, b""),
        }
    }

    /// Returns the absolute path of the folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether the folder has a version file with the supported format.
    fn has_version(&self) -> Result<bool> {
        match Directory::open_trusted(&self.root, REGISTRY_FOLDER) {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let path = self.root.join(VERSION_FILE);
        let version = match self.read(VERSION_FILE)? {
            Some(version) => version,
            None => match self.foreign_entry()? {
                None => return Ok(false),
                // Another process may have created the registry meanwhile.
                Some(entry) => self.read(VERSION_FILE)?.ok_or_else(|| {
                    Error::invalid(format!(
                        "{} is not the folder of a registry: it has {}, and no file {VERSION_FILE:?}; \
                         name a folder that is empty or does not exist",
                        self.root.display(),
                        entry.display(),
                    ))
                })?,
            },
        };
        if version.trim_ascii() == VERSION.as_bytes() {
            return Ok(true);
        }
        let problem = format!(
            "the file says {:?}; this program supports {VERSION:?}",
            String::from_utf8_lossy(version.trim_ascii())
        );
        let message = format!("{} names an unsupported format of the folder", path.display());
        Err(Error::failed(message).with_source(problem))
    }

    /// Returns the name of an entry that is not allowed in a registry without a version file.
    fn foreign_entry(&self) -> Result<Option<OsString>> {
        for entry in fs::read_dir(&self.root).map_err(cannot("read", &self.root))? {
            let name = entry.map_err(cannot("read", &self.root))?.file_name();
            let is_audit = Path::new(&name).extension().is_some_and(|ending| ending == "jsonl");
            if !is_audit && !UNVERSIONED.iter().any(|known| name == *known) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Opens a lock file in the registry's folder and creates it if it is missing.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if another user can replace it, [`Error::Failed`] if it cannot be opened.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File> {
        Directory::open_trusted(&self.root, REGISTRY_FOLDER)?.open_lock(name)
    }

    /// Reads a small file in the registry's folder; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if another user can have written it, [`Error::Failed`] if it cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match read_trusted(&self.root.join(name), "file", MAX_SMALL_FILE_BYTES) {
            Ok(content) => Ok(Some(content.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file in the registry's folder atomically.
    pub(crate) fn publish(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        Temporary::file(self.temporary_path()?, bytes)
            .and_then(|file| file.publish_as(path))
            .map_err(cannot("write", path))
    }

    fn temporary_path(&self) -> Result<PathBuf> {
        Ok(self.root.join(TEMPORARY).join(format!("{:032x}", random_bits()?)))
    }

    fn trash_path(&self) -> Result<PathBuf> {
        Ok(self.root.join(TRASH).join(format!("{:032x}", random_bits()?)))
    }
}

/// The numbers of entries that a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SweepResult {
    /// Abandoned uploads.
    pub(crate) uploads: usize,
    /// Blobs that no manifest names.
    pub(crate) blobs: usize,
    /// Deleted repositories and temporary files that a killed process left.
    pub(crate) leftovers: usize,
}

impl Store {
    /// Removes abandoned and leftover files:
    /// - uploads that no process has open, if the last write is at least `older_than` ago;
    /// - blobs that no manifest names, if they were stored and last reserved at least `older_than` ago;
    /// - temporary files that are at least `older_than` old;
    /// - the content of the trash.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be read. The next sweep retries a failed removal.
    pub(crate) fn sweep(&self, older_than: Duration) -> Result<SweepResult> {
        let mut swept = SweepResult::default();
        let before = SystemTime::now().checked_sub(older_than);
        let Some(before) = before else { return Ok(swept) };
        for stage in folder_names(self.root())?.iter().filter_map(|name| name.parse().ok()) {
            for path in Walk::new(self.root(), &stage, &Organizations::All)? {
                let path = path?;
                let folder = self.repository_folder(&path);
                for uploads in [folder.uploads(), folder.imports()] {
                    swept.uploads += sweep_uploads(&folder, &uploads, before)?;
                }
                match self.lock(&path).and_then(|it| self.collect(&it, &BTreeSet::new(), before)) {
                    Ok(blobs) => swept.blobs += blobs,
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => {
                        tracing::warn!(repository = %path, %error, "blobs are not collected");
                    }
                }
            }
        }
        swept.leftovers += sweep_folder(&self.root().join(TEMPORARY), Some(before))?;
        // Everything in the trash is deleted. Another process may be removing it at the same time.
        swept.leftovers += sweep_folder(&self.root().join(TRASH), None)?;
        Ok(swept)
    }
}

fn sweep_uploads(folder: &RepositoryFolder, uploads: &Path, before: SystemTime) -> Result<usize> {
    let mut removed = 0;
    for name in folder.file_names(uploads)? {
        let path = uploads.join(name);
        let opened = files::open_file(&path, OpenOptions::new().write(true))
            .map_err(cannot("open", &path))?;
        let Some((file, metadata)) = opened else { continue };
        let abandoned = |metadata: Metadata| metadata.modified().is_ok_and(|time| time <= before);
        // The lock is held during the removal, so that no other process opens the upload. Another process may
        // have written to the upload before the lock was taken, so its age is checked again.
        if abandoned(metadata)
            && file.try_lock().is_ok()
            && file.metadata().is_ok_and(abandoned)
            && fs::remove_file(&path).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}

fn sweep_folder(folder: &Path, before: Option<SystemTime>) -> Result<usize> {
    if !is_folder(folder).map_err(cannot("read", folder))? {
        return Ok(0);
    }
    let Some(entries) = none_if_missing(fs::read_dir(folder)).map_err(cannot("read", folder))?
    else {
        return Ok(0);
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names: Vec<OsString> = names.collect::<Result<_, _>>().map_err(cannot("read", folder))?;
    let mut removed = 0;
    for path in names.into_iter().map(|name| folder.join(name)) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let old = before.is_none_or(|before| metadata.modified().is_ok_and(|time| time <= before));
        if !old {
            continue;
        }
        let gone =
            if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match gone {
            Ok(()) => removed += 1,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "cannot remove a leftover");
            }
        }
    }
    Ok(removed)
}
