//! Files of a source, which stay open and are read ahead in pieces.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// A file that stays open, so that what was looked through is what is sent, whatever becomes of its
/// name; it may have none.
#[derive(Debug, Clone)]
pub(super) struct OpenFile {
    file: Arc<File>,
    length: u64,
    name: Arc<str>,
}

impl OpenFile {
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

    /// Returns the file.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// A reader from `position` on, which disturbs no other.
    pub(super) fn at(&self, position: u64) -> Cursor {
        Cursor::new(self.file(), position)
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
    pub(super) fn new(file: Arc<File>, position: u64) -> Self {
        Self { file, position }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
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

/// Large enough that switching threads does not count, small enough to stay in the processor's cache.
pub(super) const PIECE_LEN: usize = 128 * 1024;
/// How many pieces wait at most, beside the one that is being taken and the one that is being read.
const MAX_WAITING_PIECES: usize = 2;
/// How many pieces there are at most of a blob that is being sent, so that one that nobody takes for now
/// does not fill the memory: one that is read, one that waits, and one in the connection's hands, which
/// would keep as many as it gets.
pub(super) const MAX_PIECES_WHILE_SENDING: usize = 3;

/// The next `size` bytes of `file` in pieces, the last one shorter.
///
/// There are `most` pieces at once, if that is told: then the next one comes when another has been
/// dropped. The stream ends with an error if the file does, and the thread that reads when nobody takes the
/// pieces any more.
pub(super) fn read_ahead(
    file: impl Read + Send + 'static,
    size: u64,
    most: Option<usize>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_PIECES);
    // What it returns is sent: nothing has to wait for it.
    drop(tokio::task::spawn_blocking(move || {
        let read = read_into(file, size, most, |piece| sender.blocking_send(Ok(piece)).is_ok());
        if let Err(error) = read {
            // Nobody is left to be told where this fails.
            let _ = sender.blocking_send(Err(error));
        }
    }));
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

/// Reads until all is read or `take` wants no more.
fn read_into(
    mut file: impl Read,
    size: u64,
    most: Option<usize>,
    mut take: impl FnMut(Bytes) -> bool,
) -> io::Result<()> {
    let (give_back, given_back) = channel();
    let (mut remaining, mut pieces) = (size, 0);
    while remaining > 0 {
        let length = usize::try_from(remaining).unwrap_or(PIECE_LEN).min(PIECE_LEN);
        let used = match most {
            // This end of the channel keeps it open, so a buffer comes for certain.
            Some(most) if pieces >= most => given_back.recv().ok(),
            _ => given_back.try_recv().ok(),
        };
        let mut piece: Vec<u8> = used.unwrap_or_else(|| {
            pieces += 1;
            Vec::with_capacity(length)
        });
        piece.resize(length, 0);
        fill(&mut file, &mut piece, remaining)?;
        remaining -= length as u64;
        let lent = Lent { buffer: piece, give_back: give_back.clone() };
        if !take(Bytes::from_owner(lent)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Fills a buffer from a file that has `remaining` bytes to give, in as few calls as it allows.
pub(super) fn fill(file: &mut impl Read, buffer: &mut [u8], remaining: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => {
                let problem = format!("it ends {} bytes too early", remaining - filled as u64);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
            }
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A buffer that goes back to the reader when nobody has the piece any more: new memory for each would
/// cost as much as the reading.
struct Lent {
    buffer: Vec<u8>,
    give_back: Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The reader is gone when all has been read.
        let _ = self.give_back.send(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write;

    use futures_util::{FutureExt, StreamExt, TryStreamExt};

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

    fn read(content: &[u8], offset: u64, size: u64) -> impl Stream<Item = io::Result<Bytes>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        read_ahead(file, size, None)
    }

    #[tokio::test]
    async fn a_part_of_a_file_comes_in_order() {
        let content: Vec<u8> =
            (0..u32::try_from(PIECE_LEN).unwrap()).flat_map(u32::to_le_bytes).collect();
        let (offset, size) = (7, content.len() - 9);
        let pieces = read(&content, offset, size as u64);
        let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
        assert!(pieces.len() > 3);
        assert!(pieces.concat() == content[7..content.len() - 2]);
    }

    #[tokio::test]
    async fn buffers_are_used_again() {
        let content = vec![7; 40 * PIECE_LEN];
        let pieces = read(&content, 0, content.len() as u64);
        let places = pieces.map(|piece| piece.unwrap().as_ptr().addr());
        let places: HashSet<usize> = places.collect().await;
        assert!(places.len() <= MAX_WAITING_PIECES + 3, "{places:?}");
    }

    #[tokio::test]
    async fn number_of_pieces_in_memory_is_bounded() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10 * PIECE_LEN]).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut pieces = Box::pin(read_ahead(file, 10 * PIECE_LEN as u64, Some(3)));
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(pieces.next().await.unwrap().unwrap());
        }
        assert!(pieces.next().now_or_never().is_none(), "there are three already");
        taken.pop();
        taken.push(pieces.next().await.unwrap().unwrap());
        assert!(pieces.next().now_or_never().is_none());
        drop(taken);
        assert_eq!(pieces.count().await, 6);
    }

    #[tokio::test]
    async fn a_file_that_ends_too_early_is_an_error() {
        let pieces: Vec<_> = read(b"abc", 1, 4).collect().await;
        let [Err(error)] = pieces.as_slice() else { panic!("{pieces:?}") };
        assert_eq!(error.to_string(), "it ends 2 bytes too early");
    }

    #[tokio::test]
    async fn nothing_comes_of_nothing() {
        assert_eq!(read(b"", 0, 0).count().await, 0);
    }
}
