//! [`Store`]: the repositories, blobs, uploads and manifests of a local registry, as files.
//!
//! ```text
//! version                                   the format of the folder
//! <stage>/<organization>/<name…>/_lock      who changes the repository holds it
//! <stage>/<organization>/<name…>/_repository/
//!     repository.json                       makes it a repository
//!     blobs/<algorithm>/<hex>
//!     manifests/<algorithm>/<hex>           a line of JSON on the manifest, and the manifest
//!     tags/<tag>                            the digest that it stands for
//!     referrers/<algorithm>/<hex>/<digest>  the manifests that have the first as their subject
//!     uploads/<id>
//! _tmp/                                     what is being written
//! _trash/                                   what is being removed
//! ```
//!
//! Any number of processes may use the folder at once. Whatever becomes visible does so by one
//! rename, after it was synced, so that a process may be killed at any moment: there is the old or
//! the new, never half of it. Readers take no lock. Those who change which manifests, tags and
//! repositories there are hold the repository's lock, so that what they have checked still holds
//! when they publish.
//!
//! Blobs are files of their repository; two share one only by a mount, within an organization. Links
//! in the tree are never followed, so that none leads out of the folder, or from one organization
//! into another.

mod blobs;
mod durable;
#[cfg(feature = "_fuzzing")]
pub(super) mod fuzzing;
mod images;
mod layout;
mod manifest_content;
mod manifest_file;
mod manifests;
mod referrers;
mod repositories;
mod rfc3339;
mod sweep;
mod tags;
mod unfinished;
mod uploads;
mod walk;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::random::random_bits;
use crate::error::{Error, Result};
use durable::{Temporary, cannot};
use unfinished::Unfinished;

pub(crate) use manifests::PutManifestError;
pub(crate) use repositories::RepositoryRecord;
pub(crate) use uploads::{Upload, UploadId};

/// The format that this program reads and writes.
const VERSION: &str = "1";
const VERSION_FILE: &str = "version";
const TEMPORARY: &str = "_tmp";
const TRASH: &str = "_trash";

/// The folder of a local registry. Clones are cheap; all of its functions block.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: Arc<Path>,
    unfinished: Unfinished,
}

impl Store {
    /// Opens the folder of a registry; one that is missing is created, for its owner only.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be created, read or written, or is of another format.
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        // The working directory may change; the registry does not.
        let root = std::path::absolute(&root).map_err(cannot("find", &root))?;
        durable::create_private_folder(&root).map_err(cannot("create", &root))?;
        for folder in [TEMPORARY, TRASH].map(|name| root.join(name)) {
            durable::require_folder(&folder).map_err(cannot("create", &folder))?;
        }
        let store = Self { root: root.into(), unfinished: Unfinished::default() };
        store.check_version()?;
        Ok(store)
    }

    /// The folder, as an absolute path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn check_version(&self) -> Result<()> {
        let path = self.root.join(VERSION_FILE);
        let Some(version) = self.read(VERSION_FILE)? else {
            return self.publish(&path, VERSION.as_bytes());
        };
        if version.trim_ascii() == VERSION.as_bytes() {
            return Ok(());
        }
        let problem = format!(
            "it says {:?}, and this program knows {VERSION:?}",
            String::from_utf8_lossy(version.trim_ascii())
        );
        let message = format!("{} names another format of the folder", path.display());
        Err(Error::failed(message, problem))
    }

    /// Opens a file in the registry's folder that is there to be locked, creating it if need be.
    ///
    /// # Errors
    /// [`Error::Failed`] if that is not possible.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File> {
        durable::open_lock(&self.root.join(name))
    }

    /// The whole of a small file in the registry's folder; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(name);
        durable::read_file(&path).map_err(cannot("read", &path))
    }

    /// Writes a file in the registry's folder: the old one is there until the new one is, whole.
    pub(crate) fn publish(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        Temporary::file(self.temporary_path()?, bytes)
            .and_then(|file| file.place(path))
            .map_err(cannot("write", path))
    }

    fn temporary_path(&self) -> Result<PathBuf> {
        Ok(self.root.join(TEMPORARY).join(format!("{:032x}", random_bits()?)))
    }

    fn trash_path(&self) -> Result<PathBuf> {
        Ok(self.root.join(TRASH).join(format!("{:032x}", random_bits()?)))
    }
}
