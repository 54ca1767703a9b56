//! [`Partial`]: a blob that is being received, whose bytes outlive the process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::layout::{cannot, folder_of, read_all, sync_folder};
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest};

/// A blob as far as it has been received, hashed on the way.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    place: PathBuf,
    file: File,
    digester: Digester,
    expected: Digest,
    received: u64,
    /// How much of that was there when it was opened.
    found: u64,
}

/// What came of a blob whose bytes have all been received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is in its place.
    Whole,
    /// It is not what its digest says. What an earlier fetch left may be to blame, and is gone.
    Damaged(Digest),
}

impl Partial {
    /// Opens what is at `path` of a blob, to be moved to its `place` when it is whole.
    pub(super) fn open(path: PathBuf, place: PathBuf, blob: &Descriptor) -> Result<Self> {
        let opened = create_folders([&path, &place]).and_then(|()| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        });
        let mut file = opened.map_err(|error| cannot("open", &path, error))?;
        let algorithm = blob.digest.algorithm();
        let (mut digester, mut received) = (Digester::new(algorithm), 0);
        let read = read_all(&file, |piece| {
            digester.update(piece);
            received += piece.len() as u64;
        });
        let mut ready = read;
        if ready.is_ok() && received > blob.size {
            (digester, received) = (Digester::new(algorithm), 0);
            ready = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)).map(drop));
        }
        ready.map_err(|error| cannot("read", &path, error))?;
        let expected = blob.digest.clone();
        Ok(Self { path, place, file, digester, expected, received, found: received })
    }

    /// How many bytes are here.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether some of them were here when it was opened.
    pub(super) fn is_continued(&self) -> bool {
        self.found > 0
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|error| cannot("write", &self.path, error))?;
        self.digester.update(piece);
        self.received += piece.len() as u64;
        Ok(())
    }

    /// Verifies the blob and moves it to its place.
    pub(super) fn finish(self) -> Result<Received> {
        let found = self.digester.finish();
        if found != self.expected {
            fs::remove_file(&self.path).map_err(|error| cannot("remove", &self.path, error))?;
            return Ok(Received::Damaged(found));
        }
        let folder = folder_of(&self.place)?;
        let placed = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.place));
        let placed = placed.and_then(|()| sync_folder(folder));
        placed.map_err(|error| cannot("write", &self.place, error))?;
        Ok(Received::Whole)
    }
}

fn create_folders(files: [&PathBuf; 2]) -> io::Result<()> {
    files.into_iter().filter_map(|file| file.parent()).try_for_each(fs::create_dir_all::<&Path>)
}

/// The error of a blob that the registry has wrong.
pub(super) fn damaged(blob: &Descriptor, found: &Digest) -> Error {
    let message = format!("the registry sent {found} for blob {}", blob.digest);
    Error::failed(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Algorithm;

    struct Place {
        folder: tempfile::TempDir,
        blob: Descriptor,
    }

    impl Place {
        fn new(content: &str) -> Self {
            let digest = Digester::digest(Algorithm::Sha256, content.as_bytes());
            let blob = Descriptor::new("", digest, content.len() as u64);
            Self { folder: tempfile::tempdir().unwrap(), blob }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("a/partial")
        }

        fn place(&self) -> PathBuf {
            self.folder.path().join("b/whole")
        }

        fn open(&self) -> Partial {
            Partial::open(self.path(), self.place(), &self.blob).unwrap()
        }
    }

    #[test]
    fn what_was_received_before_the_end_of_a_process_counts() {
        let place = Place::new("content");
        let mut first = place.open();
        first.take(b"con").unwrap();
        drop(first);
        let mut second = place.open();
        assert_eq!((second.received(), second.is_continued()), (3, true));
        second.take(b"tent").unwrap();
        assert!(!place.place().exists());
        assert_eq!(second.finish().unwrap(), Received::Whole);
        assert_eq!(fs::read(place.place()).unwrap(), b"content");
        assert!(!place.path().exists());
    }

    #[test]
    fn what_is_not_as_its_digest_says_is_not_kept() {
        let place = Place::new("content");
        let mut partial = place.open();
        partial.take(b"contend").unwrap();
        let found = Digester::digest(Algorithm::Sha256, b"contend");
        assert_eq!(partial.finish().unwrap(), Received::Damaged(found));
        assert!(!place.place().exists() && !place.path().exists());
    }

    #[test]
    fn more_than_there_should_be_is_no_beginning() {
        let place = Place::new("content");
        fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        fs::write(place.path(), "content and more").unwrap();
        let mut partial = place.open();
        assert_eq!((partial.received(), partial.is_continued()), (0, false));
        partial.take(b"content").unwrap();
        assert_eq!(partial.finish().unwrap(), Received::Whole);
        assert_eq!(fs::read(place.place()).unwrap(), b"content");
    }
}
