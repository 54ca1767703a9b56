//! [`AuditFile`]: where the audit is kept.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long another process may keep the file to itself. Writing takes far less than a millisecond.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait before another try to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// A file of audit events, a line of JSON each, which many processes may share.
///
/// It is opened for every write, with a lock on it while that lasts: a line is there whole or not at
/// all, also when the disk is full; the remains of a line that something else tore are ended first.
/// So it may be moved away or truncated at any time, as programs that rotate files do. It is created
/// readable and writable by its owner alone, in a folder that must be there. What is already there
/// may have other modes, except that it is refused if everybody could write to it, or if it is a
/// link or no file at all. Keep it in a folder that only those can write to whom the audit trusts: they
/// can exchange it.
///
/// What was written survives a crash of the process; no disk is asked to keep it through a power
/// failure.
#[derive(Debug, Clone)]
pub struct AuditFile {
    path: Arc<Path>,
}

impl AuditFile {
    /// The file at `path`, which is created when there is something to write.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines, on a thread that may block. Once begun, it is done even if the future is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Temporary`] if another process keeps the file locked, [`Error::Failed`] for all else.
    pub(super) async fn append(&self, lines: String) -> Result<()> {
        let file = self.clone();
        let work = tokio::task::spawn_blocking(move || file.append_blocking(&lines)).await;
        work.unwrap_or_else(|error| Err(self.failed(error)))
    }

    /// The same on this thread.
    pub(super) fn append_blocking(&self, lines: &str) -> Result<()> {
        let appended = self.open_locked().and_then(|mut file| append(&mut file, lines));
        appended.map_err(|error| self.error(error))
    }

    /// The file that is at the path now, locked until the handle is dropped.
    fn open_locked(&self) -> io::Result<File> {
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            let file = self.open()?;
            lock(&file, deadline)?;
            // It may have been moved away in the meantime, and whoever moved it may be done with it.
            if self.is_still(&file)? {
                return Ok(file);
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        // A link could lead anywhere, and opening a pipe would wait for its other end.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        let refused = |problem: &str| io::Error::new(ErrorKind::InvalidInput, problem);
        let file = options.open(&self.path).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => refused("it is a link"),
            _ => error,
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(refused("it is no file"));
        }
        if metadata.mode() & 0o002 != 0 {
            let close = format!("chmod o-w {}", self.path.display());
            return Err(refused(&format!("every user can write to it; close it to them: {close}")));
        }
        Ok(file)
    }

    fn is_still(&self, file: &File) -> io::Result<bool> {
        let opened = file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(current) => Ok((current.dev(), current.ino()) == (opened.dev(), opened.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn error(&self, source: io::Error) -> Error {
        match source.kind() {
            ErrorKind::WouldBlock => Error::temporary(self.problem()).with_source(source),
            _ => self.failed(source),
        }
    }

    fn failed(&self, source: impl Into<crate::BoxError>) -> Error {
        Error::failed(self.problem()).with_source(source)
    }

    fn problem(&self) -> String {
        format!("cannot write to the audit file {}", self.path.display())
    }
}

/// Locks a file, with a bound: a process that is stopped keeps its locks.
fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let problem = "another process keeps it locked";
                return Err(io::Error::new(ErrorKind::WouldBlock, problem));
            }
        }
    }
}

/// Appends to a file that is locked: all of it, or else nothing.
fn append(file: &mut File, lines: &str) -> io::Result<()> {
    let length = file.metadata()?.len();
    let written = match ends_a_line(file, length)? {
        true => file.write_all(lines.as_bytes()),
        false => file.write_all(format!("\n{lines}").as_bytes()),
    };
    if written.is_err() {
        // Where even this fails, whoever writes next ends the line first.
        let _ = file.set_len(length);
    }
    written
}

fn ends_a_line(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

#[cfg(test)]
mod tests;
