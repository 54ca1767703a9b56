//! [`AuditFile`]: the file to which audit events are written.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::files;

/// The timeout for the lock. A write takes far less than a millisecond.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay between two attempts to get the lock.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// A file of audit events, one line of JSON each. Several processes may share the file.
///
/// The file is opened and locked for each write, so a log rotation may move or truncate it at any time. A
/// line is written completely or not at all, also when the disk is full. If another program left an
/// incomplete line, a newline is written first.
///
/// A new file has mode 0600. Its folder must exist. An existing file may have another mode, and its group
/// may write to the file and to its folder. The file is rejected if
/// - every user can write to it,
/// - it does not belong to the user of the process or to root, or
/// - it has a second hard link or is not a regular file.
///
/// The same applies to the folders on its path; sticky folders such as `/tmp` are accepted.
///
/// Written lines survive a crash of the process. The file is not synced to disk, so a crash of the system can
/// lose lines.
#[derive(Debug, Clone)]
pub struct AuditFile {
    path: Arc<Path>,
}

impl AuditFile {
    /// Creates an audit file at `path`. The first event creates the file on disk.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into() }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends complete lines in a blocking task. Dropping the future does not stop a write that has begun.
    ///
    /// # Errors
    /// - [`Error::Temporary`] if another process keeps the file locked
    /// - [`Error::Failed`] if the file cannot be written for another reason
    pub(super) async fn append(&self, lines: String) -> Result<()> {
        let file = self.clone();
        let work = tokio::task::spawn_blocking(move || file.append_blocking(&lines)).await;
        work.unwrap_or_else(|error| Err(self.failed(error)))
    }

    /// Appends complete lines on this thread.
    pub(super) fn append_blocking(&self, lines: &str) -> Result<()> {
        append(&mut self.open_locked()?, lines).map_err(|error| self.error(error))
    }

    /// Opens and locks the file. Dropping the handle unlocks the file.
    fn open_locked(&self) -> Result<File> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let file = self.open()?;
            lock(&file, deadline).map_err(|error| self.error(error))?;
            // Log rotation may have moved the file in the meantime.
            if self.is_current(&file).map_err(|error| self.error(error))? {
                return Ok(file);
            }
        }
    }

    fn open(&self) -> Result<File> {
        files::open_to_append(&self.path, "audit file").map_err(|error| self.failed(error))
    }

    fn is_current(&self, file: &File) -> io::Result<bool> {
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

/// Locks a file, with a deadline, because a stopped process keeps its locks.
fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(LOCK_RETRY_INTERVAL)
            }
            Err(TryLockError::WouldBlock) => {
                let problem = "another process keeps it locked";
                return Err(io::Error::new(ErrorKind::WouldBlock, problem));
            }
        }
    }
}

/// Appends all lines to a locked file, or none.
fn append(file: &mut File, lines: &str) -> io::Result<()> {
    let length = file.metadata()?.len();
    let written = match ends_a_line(file, length)? {
        true => file.write_all(lines.as_bytes()),
        false => file.write_all(format!("\n{lines}").as_bytes()),
    };
    if written.is_err() {
        // If truncating fails too, the next writer ends the incomplete line.
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
