//! Access to files and folders that another user could have prepared.
//!
//! Only this module opens such files. A [`Directory`] is an open folder: it opens files without following links and
//! without blocking. [`trusted`] walks the path to a file or folder, and checks all folders and links on the way.

#[cfg(feature = "push")]
mod copy;
#[cfg(feature = "push")]
mod directory;
#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
mod private;
#[cfg(any(feature = "local", feature = "push"))]
mod read;
pub(crate) mod trusted;

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::hash::BuildHasher as _;
use std::io::{self, Write as _};
#[cfg(all(any(feature = "local", feature = "push"), target_os = "linux"))]
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

#[cfg(feature = "push")]
pub(crate) use self::copy::copy;
#[cfg(any(feature = "ecr", feature = "push"))]
pub(crate) use self::private::is_temporary_name;
#[cfg(any(feature = "local", feature = "push"))]
pub(crate) use self::read::read_at;
pub use self::trusted::{create_trusted_folder, open_to_append};
pub(crate) use self::trusted::{has_name, read_trusted_text};
use crate::error::{Error, ResourceKind, Result};
use crate::escape::quote_for_shell;

/// The prefix of the names of temporary files.
const NEW_PREFIX: &str = ".ark-new-";

/// The flags to open a folder whose files are opened by name. On Linux, no permission to list the folder is needed.
#[cfg(target_os = "linux")]
const FOLDER_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open directory. Links below it are not followed.
///
/// Each component of a relative path is opened relative to the handle of its parent. Opening a file does not block
/// and returns only regular files: a link, a named pipe, a device or a folder is an error that names the kind.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    handle: Arc<File>,
    path: Arc<Path>,
    /// Whether new files and folders are accessible to this user only.
    is_private: bool,
}

impl Directory {
    /// Opens the directory at a path that the user chose. Links on the path are followed, even those of other users.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the directory does not exist.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match rustix::fs::open(path, FOLDER_FLAGS, Mode::empty()) {
            Ok(handle) => {
                Ok(Self { handle: Arc::new(handle.into()), path: path.into(), is_private: false })
            }
            Err(Errno::NOENT) => Err(Error::not_found(ResourceKind::File, path.display())),
            Err(error) => Err(cannot("open", path, error)),
        }
    }

    /// Makes new files and folders accessible to this user only.
    fn private(self) -> Self {
        Self { is_private: true, ..self }
    }

    /// Returns the path that was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a lock file, and creates it if it does not exist.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is not a regular file; [`Error::InvalidInput`] if [`is_own`] is false for it.
    pub(crate) fn open_lock(&self, name: impl AsRef<OsStr>) -> Result<File> {
        let name = name.as_ref();
        let (folder, flags) = (self.clone().private(), OFlags::RDWR | OFlags::CREATE);
        let (file, metadata) = folder.open_at(name, flags, FileType::RegularFile)?;
        if is_own(&metadata) {
            return Ok(file);
        }
        let path = self.path.join(name);
        let problem = match metadata.uid() == own_uid() {
            true => "has a second hard link, where a change would appear too",
            false => "belongs to another user",
        };
        let (shown, path) = (path.display(), quote_for_shell(&path.to_string_lossy()));
        Err(Error::invalid(format!("{shown} {problem}")).with_help(format!(
            "replace it by a copy: cp {path} {path}.new && mv {path}.new {path}"
        )))
    }

    /// Returns whether an open file still has this name. A lock on a replaced or removed file has no effect.
    pub(crate) fn is_at(&self, name: &OsStr, file: &File) -> Result<bool> {
        let metadata =
            file.metadata().map_err(|error| cannot("read", &self.path.join(name), error))?;
        Ok(self.stat(name).is_ok_and(|stat| stat.st_ino == metadata.ino()))
    }

    /// Creates a file that replaces the file at a relative path once it is [published](OutputFile::publish).
    pub(crate) fn create_new(&self, relative: impl AsRef<Path>) -> Result<OutputFile> {
        let (directory, name) = self.parent_of(relative.as_ref(), true)?;
        let temporary = format!("{NEW_PREFIX}{:016x}", RandomState::new().hash_one(()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (file, _) = directory.open_at(temporary.as_ref(), flags, FileType::RegularFile)?;
        Ok(OutputFile { directory, temporary, name: name.to_owned(), file, published: false })
    }

    /// Writes or replaces a file atomically and durably.
    pub(crate) fn replace(&self, relative: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        self.create_new(relative)?.publish(content)
    }

    /// Moves a file, and replaces a file at the new path. Returns the new parent folder.
    fn move_file(&self, from: &Path, to: &Path) -> Result<Self> {
        let (old_parent, old) = self.parent_of(from, false)?;
        let (parent, name) = self.parent_of(to, true)?;
        rustix::fs::renameat(&*old_parent.handle, old, &*parent.handle, name)
            .map_err(|error| parent.problem("write", name, FileType::RegularFile, error))?;
        Ok(parent)
    }

    /// Removes a file, or a link.
    pub(crate) fn remove(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.unlink(relative.as_ref(), AtFlags::empty())
    }

    fn unlink(&self, relative: &Path, flags: AtFlags) -> Result<()> {
        let (parent, name) = self.parent_of(relative, false)?;
        rustix::fs::unlinkat(&*parent.handle, name, flags)
            .map_err(|error| cannot("remove", &parent.path.join(name), error))
    }

    /// Makes changes of the entries durable.
    fn sync(&self) -> Result<()> {
        let synced = self.readable().and_then(rustix::fs::fsync);
        synced.map_err(|error| cannot("write", &self.path, error))
    }

    /// Opens the directory to list or sync its entries, which the handle may not permit.
    fn readable(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&*self.handle, ".", flags, Mode::empty())
    }

    /// Opens the parent of a relative path, and returns it with the last component. Missing folders are created
    /// if `create` is set.
    fn parent_of<'a>(&self, relative: &'a Path, create: bool) -> Result<(Self, &'a OsStr)> {
        let outside = || {
            let (path, directory) = (relative.display(), self.path.display());
            Error::invalid(format!("{path} is not a path of a file in {directory}"))
        };
        let name = relative.file_name().ok_or_else(outside)?;
        let mut parent = self.clone();
        for component in relative.parent().unwrap_or(Path::new("")).components() {
            let Component::Normal(name) = component else { return Err(outside()) };
            parent = parent.child(name, create)?;
        }
        Ok((parent, name))
    }

    fn child(&self, name: &OsStr, create: bool) -> Result<Self> {
        let path = self.path.join(name);
        if create {
            let mode = Mode::from_raw_mode(if self.is_private { 0o700 } else { 0o777 });
            match rustix::fs::mkdirat(&*self.handle, name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                // In a read-only folder, the creation fails even if the child exists.
                Err(_) if self.stat(name).is_ok() => {}
                Err(error) => return Err(cannot("create", &path, error)),
            }
        }
        let (handle, _) = self.open_at(name, FOLDER_FLAGS, FileType::Directory)?;
        Ok(Self { handle: Arc::new(handle), path: path.into(), is_private: self.is_private })
    }

    /// Opens the parent folder.
    fn parent(&self) -> Result<Self> {
        let opened = rustix::fs::openat(&*self.handle, "..", FOLDER_FLAGS, Mode::empty());
        let path = self.path.parent().unwrap_or(&self.path);
        let handle = opened.map_err(|error| cannot("open", path, error))?;
        let handle = Arc::new(handle.into());
        Ok(Self { handle, path: path.into(), is_private: self.is_private })
    }

    fn metadata(&self) -> Result<Metadata> {
        self.handle.metadata().map_err(|error| cannot("read", &self.path, error))
    }

    /// Returns whether this user may replace a file of `owner`. In a sticky folder, users can replace only their own
    /// files.
    fn can_replace_file_of(&self, owner: u32) -> Result<bool> {
        let metadata = self.metadata()?;
        let is_sticky = metadata.mode() & trusted::STICKY_MODE != 0;
        Ok(!is_sticky || [owner, metadata.uid(), 0].contains(&own_uid()))
    }

    /// Opens an entry, which must be of the `wanted` kind.
    fn open_at(&self, name: &OsStr, flags: OFlags, wanted: FileType) -> Result<(File, Metadata)> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if self.is_private { 0o600 } else { 0o666 });
        let opened = rustix::fs::openat(&*self.handle, name, flags, mode);
        let file = File::from(opened.map_err(|error| self.problem("open", name, wanted, error))?);
        let metadata = file.metadata();
        let metadata = metadata.map_err(|error| cannot("read", &self.path.join(name), error))?;
        // The handle is checked, because the name may refer to another file by now.
        let is_wanted = match wanted {
            FileType::Directory => metadata.is_dir(),
            _ => metadata.is_file(),
        };
        if is_wanted {
            return Ok((file, metadata));
        }
        Err(self.problem("open", name, wanted, Errno::INVAL))
    }

    fn stat(&self, name: &OsStr) -> Result<Stat, Errno> {
        rustix::fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the error of an operation on an entry. An entry that is not of the `wanted` kind is named as the cause.
    fn problem(&self, verb: &str, name: &OsStr, wanted: FileType, error: Errno) -> Error {
        let path = self.path.join(name);
        match self.stat(name).map(|stat| kind_of(&stat)) {
            Err(Errno::NOENT) if error == Errno::NOENT => {
                Error::not_found(ResourceKind::File, path.display())
            }
            Ok(found) if found != wanted => {
                let (path, wanted) = (path.display(), describe(wanted));
                let found = describe(found);
                Error::failed(format!("{path} is {found}, not {wanted}; replace or remove it"))
            }
            _ => cannot(verb, &path, error),
        }
    }
}

/// A temporary file that replaces the file at its path once it is complete.
///
/// Links of other users are not followed, and no other file is changed. Dropping it removes the temporary file.
#[derive(Debug)]
pub struct OutputFile {
    directory: Directory,
    temporary: String,
    name: OsString,
    file: File,
    published: bool,
}

impl OutputFile {
    /// Creates the temporary file in the folder of `path`, so that a path that cannot be written fails early. If
    /// `path` is a link, the target of the link is replaced.
    ///
    /// # Errors
    /// - [`Error::InvalidInput`] if a link on the path belongs to another user.
    /// - [`Error::Failed`] if the file cannot be created or replaced: the folder is missing, or the path is a folder,
    ///   device or pipe.
    pub fn create(path: &Path) -> Result<Self> {
        let (directory, name) = trusted::resolve_output(path)?;
        let kind = FileType::RegularFile;
        match directory.stat(&name) {
            Ok(stat) if kind_of(&stat) != kind => {
                Err(directory.problem("write", &name, kind, Errno::INVAL))
            }
            Ok(stat) if !directory.can_replace_file_of(stat.st_uid)? => {
                Err(cannot("replace", path, Errno::PERM))
            }
            _ => directory.create_new(name),
        }
    }

    /// Returns a handle to write to the temporary file.
    #[cfg(feature = "push")]
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes the content, and moves the file durably to its path. An existing file is replaced.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be written or moved. An existing file then stays.
    pub fn publish(self, content: &[u8]) -> Result<()> {
        self.write_and_move(content, true)
    }

    fn write_and_move(mut self, content: &[u8], durable: bool) -> Result<()> {
        let written = self.file.write_all(content);
        let synced = written.and_then(|()| if durable { self.file.sync_all() } else { Ok(()) });
        synced.map_err(|error| cannot("write", &self.directory.path.join(&self.name), error))?;
        self.directory.move_file(self.temporary.as_ref(), self.name.as_ref())?;
        self.published = true;
        if durable { self.directory.sync() } else { Ok(()) }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.published {
            // A leftover temporary file is harmless: it is never read.
            let _ = self.directory.remove(&self.temporary);
        }
    }
}

/// The number of bytes after which [`Writeback`] asks the kernel again.
#[cfg(any(feature = "local", feature = "push"))]
const WRITEBACK_INTERVAL_BYTES: u64 = 8 * 1024 * 1024;

/// Asks the kernel to write a growing file to the disk, so that the sync at the end waits for less.
#[cfg(any(feature = "local", feature = "push"))]
#[derive(Debug)]
pub(crate) struct Writeback {
    /// The offset up to which the kernel was asked.
    requested: u64,
}

#[cfg(any(feature = "local", feature = "push"))]
impl Writeback {
    /// Returns the writeback of a file that grows from this size on.
    pub(crate) fn of_size(size: u64) -> Self {
        Self { requested: size }
    }

    /// Takes the new size of the file.
    ///
    /// Linux starts to write the modified pages of the range, and keeps them in the page cache. Pages that are on the
    /// disk already lose their place there.
    ///
    /// Source: <https://github.com/torvalds/linux/blob/v6.12/mm/fadvise.c#L117>
    pub(crate) fn grown(&mut self, file: &File, size: u64) {
        let length = size.saturating_sub(self.requested);
        if length < WRITEBACK_INTERVAL_BYTES {
            return;
        }
        #[cfg(target_os = "linux")]
        {
            let (start, length) = (self.requested, NonZeroU64::new(length));
            // On a file system that does not support this, the sync at the end writes everything.
            let _ = rustix::fs::fadvise(file, start, length, rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = file;
        self.requested = size;
    }
}

/// The age from which a change cannot have the same time as a later one. Some file systems record whole seconds.
const MIN_SETTLED_AGE: Duration = Duration::from_secs(2);

/// Identifies a file and the state of its content, owner and permissions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileVersion {
    file: (u64, u64),
    /// The time of the last change of status. Unlike the time of modification, it cannot be set.
    changed: (i64, i64),
    is_settled: bool,
}

impl FileVersion {
    /// Returns the version of the file at `path`; `None` if it does not exist.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or_default());
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
        Some(Self {
            file: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_settled: age.is_ok_and(|age| age > MIN_SETTLED_AGE),
        })
    }

    /// Returns whether the file has not changed since it had the version `earlier`.
    pub(crate) fn is_unchanged_since(&self, earlier: Option<&Self>) -> bool {
        self.is_settled && Some(self) == earlier
    }
}

/// Returns whether a file belongs to the user of this process and has no second hard link. Writing to such a file
/// does not change a file of another user. A file that was replaced after it was opened has no hard link.
pub(crate) fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == own_uid() && metadata.nlink() <= 1
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the error of an operation on a file or folder.
pub(crate) fn cannot(verb: &str, path: &Path, error: impl Into<io::Error>) -> Error {
    Error::failed(format!("cannot {verb} {}", path.display())).with_source(error.into())
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "a file of an unknown type",
    }
}

#[cfg(test)]
#[cfg(feature = "push")]
mod tests;
