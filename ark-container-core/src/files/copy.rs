//! [`copy`]: copies a range of a file into another file, within the kernel if that is possible.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

#[cfg(target_os = "linux")]
use rustix::io::Errno;

use crate::digester::Digester;

/// The size of a piece that is copied and then hashed: small enough that it is still in the processor's cache.
const COPIED_PIECE_BYTES: u64 = 1024 * 1024;
const BUFFER_BYTES: usize = 128 * 1024;

/// Copies a range of a file into another file from a position on, and hashes what was written there.
///
/// The kernel copies the data if it can. File systems with reflinks share the blocks. `copied` is called with
/// the length of each piece, and ends the copy by returning `false`.
pub(crate) fn copy(
    (source, range): (&File, Range<u64>),
    (target, mut at): (&File, u64),
    digester: &mut Digester,
    mut copied: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut from = range.start;
    while from < range.end {
        let wanted = (range.end - from).min(COPIED_PIECE_BYTES);
        let mut length = copy_in_kernel((source, from), (target, at), wanted)?;
        for start in (0..length).step_by(BUFFER_BYTES) {
            let rest = usize::try_from(length - start).unwrap_or(BUFFER_BYTES);
            let piece = &mut buffer[..rest.min(BUFFER_BYTES)];
            target.read_exact_at(piece, at + start)?;
            digester.update(piece);
        }
        if length == 0 {
            let wanted = usize::try_from(wanted).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            let read = source.read_at(&mut buffer[..wanted], from)?;
            if read == 0 {
                let problem = format!("it ends {} bytes too early", range.end - from);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
            }
            target.write_all_at(&buffer[..read], at)?;
            digester.update(&buffer[..read]);
            length = read as u64;
        }
        (from, at) = (from + length, at + length);
        if !copied(length) {
            return Err(io::Error::other("the copy was cancelled"));
        }
    }
    Ok(())
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
        let other = rustix::fs::memfd_create("other", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
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
