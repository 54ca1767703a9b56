//! [`OpenFile`]: a file of an image source, which stays open. Streams of the content of files and decoders.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

use crate::files::read_at;

/// A file of an image source. The file stays open, so that the inspected content is the content that is sent, even if
/// its name is removed or replaced. A temporary file has no name.
#[derive(Debug, Clone)]
pub(super) struct OpenFile {
    file: Arc<File>,
    length: u64,
    name: Arc<str>,
}

impl OpenFile {
    /// Creates an `OpenFile` of a file that has `length` bytes. Errors contain `name`.
    pub(super) fn new(file: File, length: u64, name: impl Into<Arc<str>>) -> Self {
        Self { file: Arc::new(file), length, name: name.into() }
    }

    /// Returns the name for errors.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the length in bytes at the time of opening.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the file.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns a reader from `position` on. The readers of a file are independent.
    pub(super) fn at(&self, position: u64) -> Cursor {
        Cursor::new(self.file(), position)
    }
}

/// Compares the identity of the open file, not the content.
impl PartialEq for OpenFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Eq for OpenFile {}

/// A reader of a shared file with its own position.
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

/// The size of the pieces of a file. Larger pieces do not fit in the processor's cache; smaller ones need more system
/// calls.
pub(super) const PIECE_BYTES: usize = 128 * 1024;
/// The maximum number of decoded pieces that wait to be received.
const MAX_WAITING_PIECES: usize = 2;

/// Returns a stream of `size` bytes of a file from `offset` on. Each poll reads one piece.
///
/// The stream ends with an error if the file is shorter.
pub(super) fn read_file(
    file: Arc<File>,
    offset: u64,
    size: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (returns, returned) = channel();
    let start = (file, offset, size, returned);
    stream::try_unfold(start, move |(file, offset, remaining, returned)| {
        let returns = returns.clone();
        async move {
            if remaining == 0 {
                return Ok(None);
            }
            let mut buffer: Vec<u8> = returned.try_recv().unwrap_or_default();
            buffer.resize(piece_bytes(remaining), 0);
            let buffer = read_at(&file, offset, buffer).await?;
            let read = buffer.len() as u64;
            if read == 0 {
                return Err(ends_early(remaining));
            }
            let piece = Bytes::from_owner(ReusedBuffer { buffer, returns });
            Ok(Some((piece, (file, offset + read, remaining - read, returned))))
        }
    })
}

/// Returns a stream of the `size` bytes of a decoder. A thread decodes ahead, and ends when the stream is dropped.
///
/// The stream ends with an error if the decoder fails or ends early.
pub(super) fn read_decoder(
    mut decoder: impl Read + Send + 'static,
    size: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_PIECES);
    drop(tokio::task::spawn_blocking(move || {
        let mut remaining = size;
        while remaining > 0 {
            let mut piece = vec![0; piece_bytes(remaining)];
            let filled = fill(&mut decoder, &mut piece, remaining);
            remaining -= piece.len() as u64;
            let has_failed = filled.is_err();
            if sender.blocking_send(filled.map(|()| piece.into())).is_err() || has_failed {
                return;
            }
        }
    }));
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

fn piece_bytes(remaining: u64) -> usize {
    usize::try_from(remaining).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)
}

fn ends_early(missing: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends {missing} bytes too early"))
}

/// Fills a buffer from a reader with `remaining` bytes. Fails if the reader ends early.
pub(super) fn fill(file: &mut impl Read, buffer: &mut [u8], remaining: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => return Err(ends_early(remaining - filled as u64)),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A buffer that returns to the stream when the piece is dropped. An allocation for each piece would cost as much as
/// the read.
struct ReusedBuffer {
    buffer: Vec<u8>,
    returns: Sender<Vec<u8>>,
}

impl AsRef<[u8]> for ReusedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for ReusedBuffer {
    fn drop(&mut self) {
        // The stream may have ended.
        let _ = self.returns.send(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write;

    use futures_util::{StreamExt, TryStreamExt};

    use super::*;

    #[test]
    fn readers_of_one_file_are_independent() {
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
        read_file(Arc::new(file), offset, size)
    }

    fn content() -> Vec<u8> {
        (0..u32::try_from(PIECE_BYTES).unwrap()).flat_map(u32::to_le_bytes).collect()
    }

    #[tokio::test]
    async fn range_of_a_file_is_read_in_order() {
        let content = content();
        let (offset, size) = (7, content.len() - 9);
        let pieces = read(&content, offset, size as u64);
        let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
        assert!(pieces.len() > 3);
        assert!(pieces.concat() == content[7..content.len() - 2]);
    }

    #[tokio::test]
    async fn decoded_content_is_read_in_order_or_fails() {
        let content = content();
        let pieces = read_decoder(io::Cursor::new(content.clone()), content.len() as u64);
        assert!(pieces.try_collect::<Vec<_>>().await.unwrap().concat() == content);
        let pieces: Vec<_> = read_decoder(&b"abc"[..], 4).collect().await;
        let [Err(error)] = pieces.as_slice() else { panic!("{pieces:?}") };
        assert_eq!(error.to_string(), "it ends 1 bytes too early");
    }

    #[tokio::test]
    async fn buffers_are_reused() {
        let content = vec![7; 40 * PIECE_BYTES];
        let pieces = read(&content, 0, content.len() as u64);
        let addresses = pieces.map(|piece| piece.unwrap().as_ptr().addr());
        let addresses: HashSet<usize> = addresses.collect().await;
        assert_eq!(addresses.len(), 1);
    }

    #[tokio::test]
    async fn short_file_is_an_error() {
        let pieces: Vec<_> = read(b"abc", 1, 4).collect().await;
        let [Ok(_), Err(error)] = pieces.as_slice() else { panic!("{pieces:?}") };
        assert_eq!(error.to_string(), "it ends 2 bytes too early");
    }

    #[tokio::test]
    async fn empty_range_has_no_pieces() {
        assert_eq!(read(b"", 0, 0).count().await, 0);
    }
}
