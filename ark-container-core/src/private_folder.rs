//! [`Folder`]: small files of one user, each complete or absent, with an age and a number that are limited.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::zeroize::Zeroizing;

use crate::error::Error;
use crate::files::{Directory, is_temporary_name};

const ENDING: &str = ".json";
const LOCK_ENDING: &str = ".lock";
/// Follows the stem in the name of a file that was set aside, before the time.
#[cfg(feature = "ecr")]
const SET_ASIDE: &str = ".refused-";

/// The length of the hash at the end of each stem, in hexadecimal.
const HASH_LEN: usize = 64;

/// A folder that only its owner writes to, created when a file is first written. It is not a link.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    limits: Limits,
}

/// The names of the files in a folder, their size, age and number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The start of a stem, such as `login`. A format number follows it, then the hash. Without a prefix, a stem is
    /// a hash.
    pub(crate) prefix: &'static str,
    /// The longest file, in bytes.
    pub(crate) max_len: usize,
    /// How long a file is of use after it was written.
    pub(crate) kept_for: Duration,
    /// How many files stay, the newest ones.
    pub(crate) most: usize,
}

impl Limits {
    /// Returns the stem of a file of ours. A file of any other name stays where it is.
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

    /// Where a file is or would be.
    pub(crate) fn file(&self, stem: &str) -> PathBuf {
        self.path.join(format!("{stem}{ENDING}"))
    }

    /// Returns the content of a file; `None` if there is none.
    ///
    /// # Errors
    /// With [`ErrorKind::InvalidData`] where there is something that is not a file of ours.
    pub(crate) fn read(&self, stem: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(folder) = self.open(false)? else { return Ok(None) };
        none_if_missing(folder.read_private(&format!("{stem}{ENDING}"), self.limits.max_len))
    }

    /// Writes a file, in place of one that is there.
    pub(crate) fn write(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        let written = self.create()?.replace(format!("{stem}{ENDING}"), content);
        written.map_err(io_error)
    }

    /// Writes a file without waiting for the disk: the file outlives the program, but perhaps not the machine.
    #[cfg(any(feature = "ecr", feature = "push"))]
    pub(crate) fn write_soon(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        let written = self.create()?.replace_soon(&format!("{stem}{ENDING}"), content);
        written.map_err(io_error)
    }

    /// Removes a file; whether there was one.
    pub(crate) fn remove(&self, stem: &str) -> io::Result<bool> {
        let Some(folder) = self.open(false)? else { return Ok(false) };
        Ok(none_if_missing(folder.remove(format!("{stem}{ENDING}")))?.is_some())
    }

    /// The lock of a file, unless another handle has it.
    ///
    /// There are 256 locks for all files, and they are never deleted, since a lock on a file that is
    /// gone keeps nobody out. So the holder of one must not wait for another.
    pub(crate) fn try_lock(&self, stem: &str) -> io::Result<Option<File>> {
        // A stem ends in the digits of a hash.
        let digits = stem.get(stem.len().saturating_sub(2)..).unwrap_or_default();
        try_lock_at(&self.create()?, &format!(".lock-{digits}"))
    }

    /// The files that are there, as [`read`](Self::read) takes them.
    #[cfg(any(feature = "ecr", test))]
    pub(crate) fn stems(&self) -> io::Result<Vec<String>> {
        let Some(folder) = self.open(false)? else { return Ok(Vec::new()) };
        let names = folder.names().map_err(io_error)?.into_iter();
        let files = names.filter(|name| name.ends_with(ENDING));
        Ok(files.filter_map(|name| self.limits.stem(&name).map(str::to_owned)).collect())
    }

    /// Removes the files that were set aside, and those that writers left that were killed.
    #[cfg(feature = "ecr")]
    pub(crate) fn remove_leftovers(&self) -> io::Result<()> {
        let Some(folder) = self.open(false)? else { return Ok(()) };
        for name in folder.names().map_err(io_error)? {
            let aside = name.split_once(SET_ASIDE).map(|(stem, _)| format!("{stem}{ENDING}"));
            if is_temporary_name(&name)
                || aside.is_some_and(|name| self.limits.stem(&name).is_some())
            {
                none_if_missing(folder.remove(&name))?;
            }
        }
        Ok(())
    }

    /// Opens the folder; `None` if it does not exist and is not to be created.
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
            // Another process may be sweeping too.
            let metadata = fs::symlink_metadata(self.path.join(&name));
            let Ok(written) = metadata.and_then(|metadata| metadata.modified()) else { continue };
            let is_old = now.duration_since(written).is_ok_and(|age| age > self.limits.kept_for);
            match (name.ends_with(ENDING), is_old) {
                (true, false) => files.push((written, name)),
                (false, false) => {}
                // A lock is of no use to anybody if nobody holds it.
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
        for (_, name) in files.into_iter().skip(self.limits.most) {
            let _ = folder.remove(name);
        }
        Ok(())
    }
}

/// Operations for the login cache.
#[cfg(feature = "ecr")]
impl Folder {
    /// Renames an invalid file, and returns its new path.
    pub(crate) fn set_aside(&self, stem: &str) -> io::Result<PathBuf> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let aside = format!("{stem}{SET_ASIDE}{now}");
        self.create()?.rename(format!("{stem}{ENDING}"), &aside).map_err(io_error)?;
        Ok(self.path.join(aside))
    }
}

/// Operations for the push cache.
#[cfg(feature = "push")]
impl Folder {
    /// The lock of one file alone, unless another handle has it. It goes with [`let_go`](Self::let_go).
    pub(crate) fn try_hold(&self, stem: &str) -> io::Result<Option<File>> {
        let (folder, name) = (self.create()?, format!("{stem}{LOCK_ENDING}"));
        loop {
            let Some(lock) = try_lock_at(&folder, &name)? else { return Ok(None) };
            // The former holder may have deleted the file: then the lock keeps nobody out.
            if folder.is_at(name.as_ref(), &lock).map_err(io_error)? {
                return Ok(Some(lock));
            }
        }
    }

    /// Removes a file, with the lock that is held on it.
    pub(crate) fn let_go(&self, stem: &str) -> io::Result<()> {
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

/// Returns the error with the kind of its cause. [`ErrorKind::InvalidData`] stands for a file that is not ours.
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
