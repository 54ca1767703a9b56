//! [`OpenFile`]: a file that stays open, and is read in several places at once.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::regular_file;
use crate::error::Result;

/// A file that stays open, so that what was looked through is what is sent, whatever becomes of its
/// name; it may have none.
#[derive(Debug, Clone)]
pub(super) struct OpenFile {
    file: Arc<File>,
    length: u64,
    name: Arc<str>,
}

impl OpenFile {
    /// Opens a regular file that is not a symbolic link.
    ///
    /// # Errors
    /// Those of [`regular_file::open`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, length) = regular_file::open(path)?;
        Ok(Self::new(file, length, path.display().to_string()))
    }

    /// A file that is open already. `name` is what errors call it.
    pub(super) fn new(file: File, length: u64, name: impl Into<Arc<str>>) -> Self {
        Self { file: Arc::new(file), length, name: name.into() }
    }

    /// What errors call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// In bytes, when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// A reader from `position` on, which disturbs no other.
    pub(super) fn at(&self, position: u64) -> Cursor {
        Cursor { file: Arc::clone(&self.file), position }
    }
}

/// The same file, not one of the same content.
impl PartialEq for OpenFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Eq for OpenFile {}

/// A place in a file that is read from there on.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Arc<File>,
    position: u64,
}

impl Cursor {
    /// A reader from `position` on of a file that nobody else reads.
    pub(super) fn new(file: File, position: u64) -> Self {
        Self { file: Arc::new(file), position }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = read_at(&self.file, buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the file's start")
        })?;
        Ok(self.position)
    }
}

fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn readers_of_one_file_do_not_disturb_each_other() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = OpenFile::new(file, 10, "digits");
        let (mut one, mut other) = (file.at(2), file.at(5));
        let mut piece = [0; 2];
        one.read_exact(&mut piece).unwrap();
        other.read_exact(&mut piece).unwrap();
        assert_eq!(&piece, b"56");
        one.read_exact(&mut piece).unwrap();
        assert_eq!(&piece, b"45");
        assert_eq!(one.seek(SeekFrom::Current(-5)).unwrap(), 1);
        assert!(one.seek(SeekFrom::Current(-2)).is_err());
        assert_eq!(one.seek(SeekFrom::End(-1)).unwrap(), 9);
        assert_eq!(one.read(&mut piece).unwrap(), 1);
        assert_eq!(one.read(&mut piece).unwrap(), 0);
    }
}
