//! [`Folder`]: small files that nobody else can read, whole or not there.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::zeroize::Zeroizing;

const ENDING: &str = ".json";
const LOCK_ENDING: &str = ".lock";
const TEMPORARY: &str = ".new-";

/// A folder that only its owner writes to, created when something is first kept there.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    limits: Limits,
}

/// What is kept in a folder, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// No file is longer, in bytes.
    pub(crate) max_len: u64,
    /// How long a file is of use after it was written.
    pub(crate) kept_for: Duration,
    /// How many files stay, the newest ones.
    pub(crate) most: usize,
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

    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// With [`ErrorKind::InvalidData`] where there is something that is not a file of ours.
    pub(crate) fn read(&self, stem: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let content =
            self.check().and_then(|()| read_private(&self.file(stem), self.limits.max_len));
        match content {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file, in place of one that is there.
    pub(crate) fn write(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        self.put(stem, content, true)
    }

    /// Writes a file without waiting for the disk: the file outlives the program, but perhaps not the machine.
    #[cfg(any(feature = "ecr", feature = "push"))]
    pub(crate) fn write_soon(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        self.put(stem, content, false)
    }

    fn put(&self, stem: &str, content: &[u8], durable: bool) -> io::Result<()> {
        self.create()?;
        let random = RandomState::new().hash_one(stem);
        let temporary = self.path.join(format!("{TEMPORARY}{random:016x}"));
        let written = write_private(&temporary, content, durable)
            .and_then(|()| fs::rename(&temporary, self.file(stem)));
        if written.is_err() {
            // What stays is swept one day: it hides nothing and is in nobody's way.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes a file; whether there was one.
    pub(crate) fn remove(&self, stem: &str) -> io::Result<bool> {
        match fs::remove_file(self.file(stem)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The lock of a file, unless another handle has it.
    ///
    /// There are 256 locks for all files, and they are never deleted, since a lock on a file that is
    /// gone keeps nobody out. So the holder of one must not wait for another.
    pub(crate) fn try_lock(&self, stem: &str) -> io::Result<Option<File>> {
        self.create()?;
        // A stem ends in the digits of a hash.
        let digits = stem.get(stem.len().saturating_sub(2)..).unwrap_or_default();
        try_lock_at(&self.path.join(format!(".lock-{digits}")))
    }

    /// The files that are there, as [`read`](Self::read) takes them.
    #[cfg(any(feature = "ecr", test))]
    pub(crate) fn stems(&self) -> io::Result<Vec<String>> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(ENDING)).map(str::to_owned).collect())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match self.check().and_then(|()| fs::read_dir(&self.path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        self.check()
    }

    /// Other users who can write to the folder could exchange its files.
    fn check(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let problem = if metadata.uid() != own_uid() {
            "it is another user's".to_owned()
        } else if metadata.mode() & 0o022 != 0 {
            format!(
                "other users can write to it; close it to them: chmod 700 {}",
                self.path.display()
            )
        } else {
            return Ok(());
        };
        Err(io::Error::new(ErrorKind::PermissionDenied, problem))
    }

    /// Removes what is of no use any more: files that are too old, or too many, and what writers left
    /// that were killed.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let mut files = Vec::new();
        for name in self.names()? {
            let path = self.path.join(&name);
            // Another process may be sweeping too.
            let written = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            let Ok(written) = written else { continue };
            let is_old = now.duration_since(written).is_ok_and(|age| age > self.limits.kept_for);
            if name.ends_with(ENDING) && !is_old {
                files.push((written, path));
            } else if is_old && name.ends_with(LOCK_ENDING) {
                // It is of no use to anybody if nobody holds it.
                if let Ok(Some(_held)) = try_lock_at(&path) {
                    let _ = fs::remove_file(path);
                }
            } else if is_old && (name.ends_with(ENDING) || name.starts_with(TEMPORARY)) {
                let _ = fs::remove_file(path);
            }
        }
        files.sort_unstable_by(|one, other| other.cmp(one));
        for (_, path) in files.into_iter().skip(self.limits.most) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }
}

/// What logins take.
#[cfg(feature = "ecr")]
impl Folder {
    /// Moves a file out of the way, and answers where to.
    pub(crate) fn set_aside(&self, stem: &str) -> io::Result<PathBuf> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let aside = self.path.join(format!("{stem}.refused-{now}"));
        fs::rename(self.file(stem), &aside)?;
        Ok(aside)
    }
}

/// What unfinished uploads and remembered layers take.
#[cfg(feature = "push")]
impl Folder {
    /// The lock of one file alone, unless another handle has it. It goes with [`let_go`](Self::let_go).
    pub(crate) fn try_hold(&self, stem: &str) -> io::Result<Option<File>> {
        self.create()?;
        let path = self.held(stem);
        loop {
            let Some(lock) = try_lock_at(&path)? else { return Ok(None) };
            // The former holder may have deleted the file: then the lock keeps nobody out.
            let there = fs::symlink_metadata(&path);
            if there.is_ok_and(|there| lock.metadata().is_ok_and(|own| own.ino() == there.ino())) {
                return Ok(Some(lock));
            }
        }
    }

    /// Removes a file, with the lock that is held on it.
    pub(crate) fn let_go(&self, stem: &str) -> io::Result<()> {
        self.remove(stem)?;
        fs::remove_file(self.held(stem))
    }

    fn held(&self, stem: &str) -> PathBuf {
        self.path.join(format!("{stem}{LOCK_ENDING}"))
    }
}

fn try_lock_at(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads a file that is ours and closed to others. A link is not followed.
fn read_private(path: &Path, max_len: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let refused = |problem: &str| Err(io::Error::new(ErrorKind::InvalidData, problem));
    // Opening a pipe would wait for its other end.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return refused("it is a link"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return refused("it cannot be read");
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return refused("it is no file");
    } else if metadata.uid() != own_uid() {
        return refused("it is another user's");
    } else if metadata.mode() & 0o077 != 0 {
        return refused("other users can read it");
    } else if metadata.len() > max_len {
        return refused("it is too long");
    }
    // Room for all of it: growing would leave copies of a password behind.
    let mut content = Zeroizing::new(vec![0; usize::try_from(metadata.len()).unwrap_or_default()]);
    file.read_exact(&mut content)?;
    Ok(content)
}

fn write_private(path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    if durable { file.sync_all() } else { Ok(()) }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
