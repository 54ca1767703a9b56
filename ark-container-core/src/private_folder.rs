//! [`Folder`]: small files of one user, with limits of their age and number. Each file is complete or absent.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::zeroize::Zeroizing;

use crate::error::Error;
use crate::files::{Directory, is_temporary_name};

const ENDING: &str = ".json";
const LOCK_ENDING: &str = ".lock";
/// The text between stem and time in the name of a quarantined file.
#[cfg(feature = "ecr")]
const QUARANTINE_INFIX: &str = ".refused-";

/// The length of the hash at the end of each stem, in hexadecimal.
const HASH_LEN: usize = 64;

/// A folder that only its owner can write to and that is not a link. The first write creates the folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    limits: Limits,
}

/// The file names of a folder, and the limits of the size, age and number of files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The start of a stem, such as `login`. A format number follows it, then the hash. Without a prefix, a stem is
    /// a hash.
    pub(crate) prefix: &'static str,
    /// The maximum size of a file.
    pub(crate) max_bytes: usize,
    /// The age from which a file is removed.
    pub(crate) max_age: Duration,
    /// The maximum number of files. The oldest ones are removed.
    pub(crate) max_files: usize,
}

impl Limits {
    /// Returns the stem of a file of this folder; `None` for an unknown file, which is not removed.
    fn stem(self, name: &str) -> Option<&str> {
        let stem = name.strip_suffix(ENDING).or_else(|| name.strip_suffix(LOCK_ENDING))?;
        let hash = match self.prefix {
            "" => stem,
            prefix => {
                let (format, hash) =
                    stem.strip_prefix(prefix)?.strip_prefix('-')?.split_once('-')?;
                format.parse::<u32>().is_ok().then_some(hash)?
            }
        };
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (hash.len() == HASH_LEN && hash.bytes().all(is_hex)).then_some(stem)
    }
}

impl Folder {
    pub(crate) fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file, whether or not it exists.
    pub(crate) fn file(&self, stem: &str) -> PathBuf {
        self.path.join(format!("{stem}{ENDING}"))
    }

    /// Returns the content of a file; `None` if it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if the entry is not a private file of this user.
    pub(crate) fn read(&self, stem: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(folder) = self.open(false)? else { return Ok(None) };
        none_if_missing(folder.read_private(&format!("{stem}{ENDING}"), self.limits.max_bytes))
    }

    /// Writes or replaces a file.
    pub(crate) fn write(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        let written = self.create()?.replace(format!("{stem}{ENDING}"), content);
        written.map_err(io_error)
    }

    /// Writes or replaces a file without waiting for the disk. After a loss of power, the file may be incomplete.
    #[cfg(any(feature = "ecr", feature = "push"))]
    pub(crate) fn write_without_sync(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        let written = self.create()?.replace_without_sync(&format!("{stem}{ENDING}"), content);
        written.map_err(io_error)
    }

    /// Removes a file. Returns whether it existed.
    pub(crate) fn remove(&self, stem: &str) -> io::Result<bool> {
        let Some(folder) = self.open(false)? else { return Ok(false) };
        Ok(none_if_missing(folder.remove(format!("{stem}{ENDING}")))?.is_some())
    }

    /// Takes the lock of a file; `None` if another handle holds it.
    ///
    /// All files share 256 locks, so the holder of one lock must not wait for another. The lock files are never
    /// deleted, because a lock on a deleted file has no effect.
    pub(crate) fn try_lock(&self, stem: &str) -> io::Result<Option<File>> {
        // A stem ends in the digits of a hash.
        let digits = stem.get(stem.len().saturating_sub(2)..).unwrap_or_default();
        try_lock_at(&self.create()?, &format!(".lock-{digits}"))
    }

    /// Returns the stems of the files.
    #[cfg(any(feature = "ecr", test))]
    pub(crate) fn stems(&self) -> io::Result<Vec<String>> {
        let Some(folder) = self.open(false)? else { return Ok(Vec::new()) };
        let names = folder.names().map_err(io_error)?.into_iter();
        let files = names.filter(|name| name.ends_with(ENDING));
        Ok(files.filter_map(|name| self.limits.stem(&name).map(str::to_owned)).collect())
    }

    /// Removes quarantined files, and temporary files of killed processes.
    #[cfg(feature = "ecr")]
    pub(crate) fn remove_leftovers(&self) -> io::Result<()> {
        let Some(folder) = self.open(false)? else { return Ok(()) };
        for name in folder.names().map_err(io_error)? {
            let quarantined =
                name.split_once(QUARANTINE_INFIX).map(|(stem, _)| format!("{stem}{ENDING}"));
            if is_temporary_name(&name)
                || quarantined.is_some_and(|name| self.limits.stem(&name).is_some())
            {
                none_if_missing(folder.remove(&name))?;
            }
        }
        Ok(())
    }

    /// Opens the folder; `None` if it does not exist and `create` is not set.
    fn open(&self, create: bool) -> io::Result<Option<Directory>> {
        let opened = Directory::open_private(&self.path, "cache folder", create);
        none_if_missing(opened).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => io::Error::new(ErrorKind::PermissionDenied, error),
            _ => error,
        })
    }

    fn create(&self) -> io::Result<Directory> {
        self.open(true)?.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Removes expired and surplus files, and temporary files of killed processes.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let Some(folder) = self.open(false)? else { return Ok(()) };
        let now = SystemTime::now();
        let mut files = Vec::new();
        for name in folder.names().map_err(io_error)? {
            let is_ours = self.limits.stem(&name).is_some();
            if !is_ours && !is_temporary_name(&name) {
                continue;
            }
            // Another process may sweep at the same time.
            let metadata = fs::symlink_metadata(self.path.join(&name));
            let Ok(written) = metadata.and_then(|metadata| metadata.modified()) else { continue };
            let is_old = now.duration_since(written).is_ok_and(|age| age > self.limits.max_age);
            match (name.ends_with(ENDING), is_old) {
                (true, false) => files.push((written, name)),
                (false, false) => {}
                // An old lock file is removed unless the lock is held.
                (false, true) if is_ours => {
                    if let Ok(Some(_held)) = try_lock_at(&folder, &name) {
                        let _ = folder.remove(name);
                    }
                }
                (_, true) => {
                    let _ = folder.remove(name);
                }
            }
        }
        files.sort_unstable_by(|one, other| other.cmp(one));
        for (_, name) in files.into_iter().skip(self.limits.max_files) {
            let _ = folder.remove(name);
        }
        Ok(())
    }
}

/// Operations for the login cache.
#[cfg(feature = "ecr")]
impl Folder {
    /// Renames an invalid file, and returns its new path.
    pub(crate) fn quarantine(&self, stem: &str) -> io::Result<PathBuf> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let quarantined = format!("{stem}{QUARANTINE_INFIX}{now}");
        self.create()?.rename(format!("{stem}{ENDING}"), &quarantined).map_err(io_error)?;
        Ok(self.path.join(quarantined))
    }
}

/// Operations for the push cache.
#[cfg(feature = "push")]
impl Folder {
    /// Takes the lock of a single file; `None` if another handle holds it. [`remove_locked`](Self::remove_locked)
    /// removes the lock.
    pub(crate) fn try_lock_single(&self, stem: &str) -> io::Result<Option<File>> {
        let (folder, name) = (self.create()?, format!("{stem}{LOCK_ENDING}"));
        loop {
            let Some(lock) = try_lock_at(&folder, &name)? else { return Ok(None) };
            // The previous holder may have deleted the lock file. A lock on a deleted file has no effect.
            if folder.is_at(name.as_ref(), &lock).map_err(io_error)? {
                return Ok(Some(lock));
            }
        }
    }

    /// Removes a file and its lock, which the caller holds.
    pub(crate) fn remove_locked(&self, stem: &str) -> io::Result<()> {
        self.remove(stem)?;
        self.create()?.remove(format!("{stem}{LOCK_ENDING}")).map_err(io_error)
    }
}

fn try_lock_at(folder: &Directory, name: &str) -> io::Result<Option<File>> {
    let file = folder.open_lock(name).map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn none_if_missing<T>(result: Result<T, Error>) -> io::Result<Option<T>> {
    match result.map_err(io_error) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the error with the kind of its cause; [`ErrorKind::InvalidData`] if the entry is not a private file of this
/// user.
fn io_error(error: Error) -> io::Error {
    let cause =
        std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let kind = match (&error, cause.map(io::Error::kind)) {
        (Error::NotFound { .. }, _) => ErrorKind::NotFound,
        (_, None | Some(ErrorKind::PermissionDenied)) => ErrorKind::InvalidData,
        (_, Some(kind)) => kind,
    };
    io::Error::new(kind, error)
}
