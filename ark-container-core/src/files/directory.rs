//! [`Directory`] as the source and target of images. Another user may have prepared its content.

use std::fs::{self, File, Metadata};
use std::mem;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use super::trusted::read_limited;
use super::{Directory, cannot, is_own, kind_of, own_uid};
use crate::error::{Error, Result};

impl Directory {
    /// Opens the directory at a path that the user chose, and creates it with its missing parents.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| cannot("create", path, error))?;
        Self::open(path)
    }

    /// Returns whether the directory has no entries.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let failed = |error| cannot("read", &self.path, error);
        for entry in self.readable().and_then(Dir::new).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if ![c".", c".."].contains(&name.as_c_str()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file does not exist; [`Error::Failed`] if it is not a regular file.
    pub(crate) fn file(&self, relative: impl AsRef<Path>) -> Result<(File, Metadata)> {
        let (parent, name) = self.parent_of(relative.as_ref(), false)?;
        parent.open_at(name, OFlags::RDONLY, FileType::RegularFile)
    }

    /// Returns whether a file exists.
    ///
    /// # Errors
    /// Those of [`file`](Self::file), except [`Error::NotFound`].
    pub(crate) fn has(&self, relative: impl AsRef<Path>) -> Result<bool> {
        match self.file(relative) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// The errors of [`file`](Self::file), and [`Error::Failed`] if the file is larger than `limit`.
    pub(crate) fn read(&self, relative: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>> {
        let path = self.path.join(&relative);
        let (file, metadata) = self.file(relative)?;
        let content = read_limited(&file, &metadata, limit);
        let content = content.map_err(|error| cannot("read", &path, error))?;
        let too_large =
            || Error::failed(format!("{} is larger than {limit} bytes", path.display()));
        content.map(|mut content| mem::take(&mut *content)).ok_or_else(too_large)
    }

    /// Opens a file for reading and writing, and creates it if it does not exist.
    ///
    /// Writing to a file with a second hard link changes the file at both names: see [`is_own`].
    ///
    /// # Errors
    /// [`Error::Failed`] if it is not a regular file.
    pub(crate) fn open_or_create(&self, relative: impl AsRef<Path>) -> Result<(File, Metadata)> {
        let (parent, name) = self.parent_of(relative.as_ref(), true)?;
        parent.open_at(name, OFlags::RDWR | OFlags::CREATE, FileType::RegularFile)
    }

    /// Opens a file to resume writing to it, and creates it if it does not exist.
    ///
    /// An existing entry is kept only if it is a regular file and [`is_own`] is true for it. Any other entry is removed
    /// first, so that writing changes no other file.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is a folder.
    pub(crate) fn resume(&self, relative: impl AsRef<Path>) -> Result<File> {
        let (parent, name) = self.parent_of(relative.as_ref(), true)?;
        let kind = FileType::RegularFile;
        match parent.stat(name) {
            Ok(stat)
                if kind_of(&stat) == kind && stat.st_uid == own_uid() && stat.st_nlink == 1 =>
            {
                let (file, metadata) = parent.open_at(name, OFlags::RDWR, kind)?;
                if is_own(&metadata) {
                    return Ok(file);
                }
            }
            Err(Errno::NOENT) => {}
            _ => rustix::fs::unlinkat(&*parent.handle, name, AtFlags::empty())
                .map_err(|error| parent.problem("remove", name, kind, error))?,
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(parent.open_at(name, flags, kind)?.0)
    }

    /// Removes an empty folder.
    pub(crate) fn remove_directory(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.unlink(relative.as_ref(), AtFlags::REMOVEDIR)
    }
}
