//! [`Folder`]: small files that nobody else can read, whole or not there.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::zeroize::Zeroizing;

/// No file of ours is as long as this.
const MAX_LEN: u64 = 64 * 1024;

/// No login is good for as long as this: ECR's are for 12 hours.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

const ENDING: &str = ".json";
const TEMPORARY: &str = ".new-";

/// A folder that only its owner writes to, created when something is first kept there.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file is or would be.
    pub(super) fn file(&self, stem: &str) -> PathBuf {
        self.0.join(format!("{stem}{ENDING}"))
    }

    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// With [`ErrorKind::InvalidData`] where there is something that is not a file of ours.
    pub(super) fn read(&self, stem: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let content = self.check().and_then(|()| read_private(&self.file(stem)));
        match content {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file, in place of one that is there, and sweeps what is too old to be of use.
    pub(super) fn write(&self, stem: &str, content: &[u8]) -> io::Result<()> {
        self.create()?;
        self.sweep(SystemTime::now())?;
        let random = RandomState::new().hash_one(stem);
        let temporary = self.0.join(format!("{TEMPORARY}{random:016x}"));
        let written = write_private(&temporary, content)
            .and_then(|()| fs::rename(&temporary, self.file(stem)));
        if written.is_err() {
            // What stays is swept one day: it hides nothing and is in nobody's way.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Moves a file out of the way, and answers where to.
    pub(super) fn set_aside(&self, stem: &str) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let aside = self.0.join(format!("{stem}.refused-{now}"));
        fs::rename(self.file(stem), &aside)?;
        Ok(aside)
    }

    /// Removes a file; whether there was one.
    pub(super) fn remove(&self, stem: &str) -> io::Result<bool> {
        match fs::remove_file(self.file(stem)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files that are there, as [`read`](Self::read) takes them.
    pub(super) fn stems(&self) -> io::Result<Vec<String>> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(ENDING)).map(str::to_owned).collect())
    }

    /// The lock of a file, unless another handle has it.
    ///
    /// There are 256 locks for all files, and they are never deleted, since a lock on a file that is
    /// gone keeps nobody out. So whoever holds one must not wait for another.
    pub(super) fn try_lock(&self, stem: &str) -> io::Result<Option<File>> {
        self.create()?;
        // A stem ends in the digits of a hash.
        let digits = stem.get(stem.len().saturating_sub(2)..).unwrap_or_default();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.0.join(format!(".lock-{digits}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match self.check().and_then(|()| fs::read_dir(&self.0)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        self.check()
    }

    /// Whoever else can write to the folder could exchange its files.
    fn check(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.0)?;
        if !metadata.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let problem = if metadata.uid() != own_uid() {
            "it is another user's".to_owned()
        } else if metadata.mode() & 0o022 != 0 {
            format!("other users can write to it; close it to them: chmod 700 {}", self.0.display())
        } else {
            return Ok(());
        };
        Err(io::Error::new(ErrorKind::PermissionDenied, problem))
    }

    /// Removes logins that have long expired, and what writers left that were killed.
    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        for name in self.names()? {
            let path = self.0.join(&name);
            let ours = name.ends_with(ENDING) || name.starts_with(TEMPORARY);
            let written = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            // Another process may be sweeping too.
            let Ok(written) = written else { continue };
            if ours && now.duration_since(written).is_ok_and(|age| age > KEPT_FOR) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// Reads a file that is ours and closed to others. A link is not followed.
fn read_private(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
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
    } else if metadata.len() > MAX_LEN {
        return refused("it is too long");
    }
    // Room for all of it: growing would leave copies of a password behind.
    let mut content = Zeroizing::new(vec![0; usize::try_from(metadata.len()).unwrap_or_default()]);
    file.read_exact(&mut content)?;
    Ok(content)
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
