//! What nobody needs any more: uploads that were given up, and what a killed process left behind.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::durable::{self, cannot, found, is_folder};
use super::layout::RepositoryFolder;
use super::walk::{Walk, folder_names};
use super::{Store, TEMPORARY, TRASH};
use crate::error::Result;
use crate::model::Organizations;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Uploads that nobody had written to for long.
    pub(crate) uploads: usize,
    /// Deleted repositories and temporary files whose process was killed.
    pub(crate) leftovers: usize,
}

impl Store {
    /// Removes uploads that are open nowhere and were last written to `older_than` ago, temporary
    /// files of that age, and what is in the trash.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if the folder cannot be read; what cannot be removed
    /// is left for the next time.
    pub(crate) fn sweep(&self, older_than: Duration) -> Result<Swept> {
        let mut swept = Swept::default();
        let before = SystemTime::now().checked_sub(older_than);
        let Some(before) = before else { return Ok(swept) };
        for stage in folder_names(self.root())?.iter().filter_map(|name| name.parse().ok()) {
            for path in Walk::new(self.root(), &stage, &Organizations::All)? {
                swept.uploads += sweep_uploads(&self.place_of(&path?), before)?;
            }
        }
        swept.leftovers += sweep_folder(&self.root().join(TEMPORARY), Some(before))?;
        // Whatever is in the trash was deleted, and may be in the course of it by another process.
        swept.leftovers += sweep_folder(&self.root().join(TRASH), None)?;
        Ok(swept)
    }
}

fn sweep_uploads(folder: &RepositoryFolder, before: SystemTime) -> Result<usize> {
    let uploads = folder.uploads();
    let mut removed = 0;
    for name in folder.file_names(&uploads)? {
        let path = uploads.join(name);
        let opened = durable::open_file(&path, OpenOptions::new().write(true))
            .map_err(cannot("open", &path))?;
        let Some((file, metadata)) = opened else { continue };
        let abandoned = |metadata: Metadata| metadata.modified().is_ok_and(|time| time <= before);
        // The lock is held while the file goes, so that nobody opens what is about to vanish. Others
        // may have held it, and written, since the file was looked at.
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
    let Some(entries) = found(fs::read_dir(folder)).map_err(cannot("read", folder))? else {
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
                tracing::debug!(path = %path.display(), %error, "a leftover stays for now");
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
