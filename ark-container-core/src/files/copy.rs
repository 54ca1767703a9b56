//! [`copy`]: copies a range of a file into another file, within the kernel if that is possible.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::thread;

#[cfg(target_os = "linux")]
use rustix::io::Errno;

use super::Writeback;
use crate::digester::Digester;

/// The size of a piece that is copied at once. The piece is still in the processor's cache when it is hashed.
const COPY_PIECE_BYTES: u64 = 1024 * 1024;
const BUFFER_BYTES: usize = 128 * 1024;

/// Copies a range of a file into another file at an offset, and hashes the written bytes.
///
/// The kernel copies the data if it can. File systems with reflinks share the blocks. A second thread hashes,
/// and the disk writes meanwhile.
/// `copied` is called with the length of each piece, and ends the copy by returning `false`.
pub(crate) fn copy(
    (source, range): (&File, Range<u64>),
    (target, at): (&File, u64),
    digester: &mut Digester,
    mut copied: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    thread::scope(|scope| {
        let (written, pieces) = mpsc::channel();
        let hashing = scope.spawn(move || hash_pieces((target, at), &pieces, digester));
        let copying = copy_pieces((source, range), (target, at), |length| {
            // The other thread ends early only if it fails, and returns the error.
            written.send(length).is_ok() && copied(length)
        });
        drop(written);
        let hashed = hashing.join().unwrap_or_else(|_| Err(io::Error::other("the hash failed")));
        hashed.and(copying)
    })
}

fn copy_pieces(
    (source, range): (&File, Range<u64>),
    (target, mut at): (&File, u64),
    mut copied: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut from = range.start;
    let mut writeback = Writeback::of_size(at);
    while from < range.end {
        let wanted = (range.end - from).min(COPY_PIECE_BYTES);
        let length = match copy_in_kernel((source, from), (target, at), wanted)? {
            0 => copy_by_buffer((source, from), (target, at), wanted)?,
            length => length,
        };
        if length == 0 {
            let problem = format!("it ends {} bytes too early", range.end - from);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        }
        (from, at) = (from + length, at + length);
        writeback.grown(target, at);
        if !copied(length) {
            return Err(io::Error::other("the copy was cancelled"));
        }
    }
    Ok(())
}

/// Hashes consecutive pieces of a file from a position on.
fn hash_pieces(
    (file, mut at): (&File, u64),
    pieces: &mpsc::Receiver<u64>,
    digester: &mut Digester,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for length in pieces {
        let end = at + length;
        while at < end {
            let rest = usize::try_from(end - at).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            file.read_exact_at(&mut buffer[..rest], at)?;
            digester.update(&buffer[..rest]);
            at += rest as u64;
        }
    }
    Ok(())
}

/// Copies at most `length` bytes, and returns their number; 0 at the end of the source.
fn copy_by_buffer(
    (source, from): (&File, u64),
    (target, at): (&File, u64),
    length: u64,
) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_BYTES];
    let wanted = usize::try_from(length).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
    let read = source.read_at(&mut buffer[..wanted], from)?;
    target.write_all_at(&buffer[..read], at)?;
    Ok(read as u64)
}

/// Copies a piece within the kernel, and returns its length; 0 if the kernel cannot copy between these files.
#[cfg(target_os = "linux")]
fn copy_in_kernel(
    (source, mut from): (&File, u64),
    (target, mut at): (&File, u64),
    length: u64,
) -> io::Result<u64> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut at), length) {
        Ok(copied) => Ok(copied as u64),
        // Source: <https://man7.org/linux/man-pages/man2/copy_file_range.2.html#ERRORS>
        Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_in_kernel(_: (&File, u64), _: (&File, u64), _: u64) -> io::Result<u64> {
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    use super::*;
    use crate::model::Algorithm;

    #[test]
    fn range_of_a_file_is_copied_and_hashed() {
        let content: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&content).unwrap();
        let range = 3..content.len() as u64 - 5;
        // A file in memory is on another file system, between which older kernels do not copy.
        #[cfg(target_os = "linux")]
        let other = rustix::fs::memfd_create("other", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        #[cfg(not(target_os = "linux"))]
        let other = tempfile::tempfile().unwrap();
        for target in [tempfile::tempfile().unwrap(), File::from(other)] {
            target.write_all_at(b"kept", 0).unwrap();
            let (mut digester, mut lengths) = (Digester::new(Algorithm::Sha256), 0);
            let more = |length| {
                lengths += length;
                true
            };
            copy((&source, range.clone()), (&target, 4), &mut digester, more).unwrap();
            let mut found = Vec::new();
            (&target).seek(SeekFrom::Start(0)).unwrap();
            (&target).read_to_end(&mut found).unwrap();
            let expected = &content[3..content.len() - 5];
            assert!(found[..4] == *b"kept" && found[4..] == *expected);
            assert_eq!(digester.finish(), Digester::digest(Algorithm::Sha256, expected));
            assert_eq!(lengths, expected.len() as u64);
        }
    }

    #[test]
    fn copy_fails_on_short_source_or_cancellation() {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(b"0123456789", 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        let mut digester = Digester::new(Algorithm::Sha256);
        let error = copy((&source, 4..11), (&target, 0), &mut digester, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "it ends 1 bytes too early");
        let error = copy((&source, 0..10), (&target, 0), &mut digester, |_| false).unwrap_err();
        assert_eq!(error.to_string(), "the copy was cancelled");
    }
}
