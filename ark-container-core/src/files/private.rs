//! [`Directory`] as a private folder of this user, for secrets, locks and caches.

use std::os::unix::fs::MetadataExt as _;
#[cfg(any(feature = "ecr", feature = "push"))]
use std::path::Path;

#[cfg(any(feature = "ecr", feature = "push"))]
use rustix::fs::Dir;
use rustix::fs::{FileType, OFlags};
use secrecy::zeroize::Zeroizing;

#[cfg(any(feature = "ecr", feature = "push"))]
use super::NEW_PREFIX;
#[cfg(any(feature = "ecr", feature = "push"))]
use super::trusted::{PathWalk, Trust};
use super::trusted::{quote, read_limited};
use super::{Directory, cannot, is_own};
use crate::error::{Error, Result};

/// The mode bits that give other users access.
const OPEN_TO_OTHERS: u32 = 0o077;

impl Directory {
    /// Reads a file of at most `limit` bytes that only this user can access and that has no second hard link.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the file does not exist.
    /// - [`Error::InvalidInput`] if the file belongs to another user, is accessible to other users, has a second hard
    ///   link, or is larger than `limit`.
    /// - [`Error::Failed`] if the file cannot be read or is not a regular file.
    pub(crate) fn read_private(&self, name: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
        let (file, metadata) =
            self.open_at(name.as_ref(), OFlags::RDONLY, FileType::RegularFile)?;
        let path = self.path.join(name);
        let shown = path.display();
        if !is_own(&metadata) {
            let problem = format!("{shown} belongs to another user, or has a second hard link");
            return Err(
                Error::invalid(problem).with_help(format!("remove it: rm {}", quote(&path)))
            );
        }
        if metadata.mode() & OPEN_TO_OTHERS != 0 {
            let problem = format!("other users can read or write {shown}");
            let help = format!("restrict its permissions: chmod 600 {}", quote(&path));
            return Err(Error::invalid(problem).with_help(help));
        }
        read_limited(&file, &metadata, limit)
            .map_err(|error| cannot("read", &path, error))?
            .ok_or_else(|| Error::invalid(format!("{shown} is larger than {limit} bytes")))
    }
}

#[cfg(any(feature = "ecr", feature = "push"))]
impl Directory {
    /// Opens a folder that belongs to this user, is not a link, and that only this user can write to. Its parent
    /// folders may belong to any user. If `create` is set, missing folders are created.
    ///
    /// # Errors
    /// Those of [`open_trusted`](self::open_trusted).
    pub(crate) fn open_private(path: &Path, kind: &str, create: bool) -> Result<Self> {
        PathWalk { path, kind, trust: Trust::Links, create, follow_last: false }.open_folder()
    }

    /// Returns the names of the entries, except those that are not UTF-8.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |error| cannot("read", &self.path, error);
        let entries = self.readable().and_then(Dir::new).map_err(failed)?;
        let names = entries
            .map(|entry| Ok(entry.map_err(failed)?.file_name().to_str().map(str::to_owned).ok()));
        let names = names.filter_map(Result::transpose);
        names.filter(|name| !matches!(name.as_deref(), Ok("." | ".."))).collect()
    }

    /// Writes or replaces a file without waiting for the disk. After a loss of power, the file may be incomplete.
    pub(crate) fn replace_without_sync(&self, name: &str, content: &[u8]) -> Result<()> {
        self.create_new(name)?.write_and_move(content, false)
    }

    /// Moves a file without waiting for the disk, and replaces a file at the new path.
    pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.move_file(from.as_ref(), to.as_ref()).map(drop)
    }
}

/// Returns whether a name is that of a temporary file, such as a leftover of a killed process.
#[cfg(any(feature = "ecr", feature = "push"))]
pub(crate) fn is_temporary_name(name: &str) -> bool {
    let random = name.strip_prefix(NEW_PREFIX).unwrap_or_default();
    random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}
