//! [`Directory`] as a folder of this user alone, with secrets, locks and caches.

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

const OPEN_TO_OTHERS: u32 = 0o077;

impl Directory {
    /// Reads a file of at most `limit` bytes that only this user can read and that has no other name.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist; [`Error::InvalidInput`] if it belongs to or is open to somebody
    /// else, or is larger; [`Error::Failed`] if it cannot be read or is not a regular file.
    pub(crate) fn read_private(&self, name: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
        let (file, metadata) =
            self.open_at(name.as_ref(), OFlags::RDONLY, FileType::RegularFile)?;
        let path = self.path.join(name);
        let shown = path.display();
        if !is_own(&metadata) {
            let problem = format!("{shown} belongs to another user, or has a second name");
            return Err(
                Error::invalid(problem).with_help(format!("remove it: rm {}", quote(&path)))
            );
        }
        if metadata.mode() & OPEN_TO_OTHERS != 0 {
            let problem = format!("other users can read or write {shown}");
            let help = format!("close it to them: chmod 600 {}", quote(&path));
            return Err(Error::invalid(problem).with_help(help));
        }
        read_limited(&file, &metadata, limit)
            .map_err(|error| cannot("read", &path, error))?
            .ok_or_else(|| Error::invalid(format!("{shown} is larger than {limit} bytes")))
    }
}

#[cfg(any(feature = "ecr", feature = "push"))]
impl Directory {
    /// Opens a folder of this user, which only this user can write to. The folder itself is not a link; the folders
    /// on the way to it may belong to anybody. It is created with its missing parents if `create` is set.
    ///
    /// # Errors
    /// Those of [`open_trusted`](self::open_trusted).
    pub(crate) fn open_private(path: &Path, kind: &str, create: bool) -> Result<Self> {
        PathWalk { path, kind, trust: Trust::Links, create, follow_last: false }.open_folder()
    }

    /// Returns the names of its entries, except those that are not UTF-8.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |error| cannot("read", &self.path, error);
        let entries = self.readable().and_then(Dir::new).map_err(failed)?;
        let names = entries
            .map(|entry| Ok(entry.map_err(failed)?.file_name().to_str().map(str::to_owned).ok()));
        let names = names.filter_map(Result::transpose);
        names.filter(|name| !matches!(name.as_deref(), Ok("." | ".."))).collect()
    }

    /// Writes a file as [`replace`](Self::replace) does, but without waiting for the disk: after a loss of power it
    /// may be incomplete.
    pub(crate) fn replace_soon(&self, name: &str, content: &[u8]) -> Result<()> {
        self.create_new(name)?.write_and_move(content, false)
    }

    /// Moves a file without waiting for the disk, and replaces what is at its new path.
    pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.move_file(from.as_ref(), to.as_ref()).map(drop)
    }
}

/// Returns whether a file has the name of one that was being written when a process was killed.
#[cfg(any(feature = "ecr", feature = "push"))]
pub(crate) fn is_temporary_name(name: &str) -> bool {
    let random = name.strip_prefix(NEW_PREFIX).unwrap_or_default();
    random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}
