//! [`read_at`]: reads a part of a file without blocking the runtime.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Fills a buffer with the bytes of a file from `offset` on, and truncates the buffer to the number of bytes that were
/// read. The buffer is empty after the end of the file.
///
/// Bytes in the page cache are read on the current thread, because a switch to another thread would cost more than the
/// read. A background thread waits for the disk.
pub(crate) async fn read_at(
    file: &Arc<File>,
    offset: u64,
    mut buffer: Vec<u8>,
) -> io::Result<Vec<u8>> {
    if let Some(length) = read_cached(file, offset, &mut buffer)? {
        buffer.truncate(length);
        return Ok(buffer);
    }
    let file = Arc::clone(file);
    let reading = tokio::task::spawn_blocking(move || {
        let length = loop {
            match file.read_at(&mut buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        buffer.truncate(length);
        Ok(buffer)
    });
    reading.await.map_err(io::Error::other)?
}

/// Reads the bytes that are in the page cache, and returns their number; `None` if the first byte is not in the cache.
///
/// Source: <https://man7.org/linux/man-pages/man2/preadv2.2.html>, `RWF_NOWAIT`
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    use rustix::io::{Errno, ReadWriteFlags};
    let buffers = &mut [io::IoSliceMut::new(buffer)];
    match rustix::io::preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT) {
        Ok(length) => Ok(Some(length)),
        // Some file systems do not support the flag.
        Err(Errno::AGAIN | Errno::INTR | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: u64, _: &mut [u8]) -> io::Result<Option<usize>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn range_of_a_file_is_read_up_to_its_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        assert_eq!(read_at(&file, 2, vec![0; 3]).await.unwrap(), b"234");
        assert_eq!(read_at(&file, 8, vec![0; 3]).await.unwrap(), b"89");
        assert_eq!(read_at(&file, 10, vec![0; 3]).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn uncached_file_is_read_by_a_thread() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&content).unwrap();
        file.as_file().sync_all().unwrap();
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let file = Arc::new(file.reopen().unwrap());
        let mut read = Vec::new();
        while read.len() < content.len() {
            let next = read_at(&file, read.len() as u64, vec![0; 128 * 1024]).await.unwrap();
            assert!(!next.is_empty(), "{}", read.len());
            read.extend(next);
        }
        assert!(read == content);
    }
}
