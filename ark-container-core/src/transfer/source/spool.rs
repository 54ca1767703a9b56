//! Archives that cannot be read where they are, kept in a file without a name for a while.
//!
//! It is in the folder for temporary files, `$TMPDIR`, and gone when the last who reads it is,
//! however the program ends.

use std::cell::Cell;
use std::env;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, Write as _};
use std::rc::Rc;
use std::thread;

use flate2::read::MultiGzDecoder;
use tokio::sync::oneshot;

use super::damaged;
use crate::error::{Error, Result};
use crate::transfer::local_file::OpenFile;

const PIECE_LEN: usize = 256 * 1024;
/// What a compressed archive may always unpack to.
const UNSUSPICIOUS_LEN: u64 = 1024 * 1024 * 1024;
/// By how much more than it has it may unpack beyond that. The files of images come to 2 to 10.
const MAX_RATIO: u64 = 100;
const STANDARD_INPUT: &str = "standard input";

/// How an archive is packed, told from its start.
///
/// Source: <https://en.wikipedia.org/wiki/List_of_file_signatures>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
    /// One that only others unpack, with their command.
    Other(&'static str),
}

impl Packing {
    /// The longest of the signatures.
    const SIGNATURE_LEN: u64 = 6;

    fn of(start: &[u8]) -> Self {
        const SIGNATURES: [(&[u8], Packing); 4] = [
            (b"\x1f\x8b", Packing::Gzip),
            (b"\x28\xb5\x2f\xfd", Packing::Zstd),
            (b"\xfd7zXZ\0", Packing::Other("unxz")),
            (b"BZh", Packing::Other("bunzip2")),
        ];
        let found = SIGNATURES.iter().find(|(signature, _)| start.starts_with(signature));
        found.map_or(Self::None, |(_, packing)| *packing)
    }
}

/// A new file without a name.
pub(super) fn file() -> Result<File> {
    tempfile::tempfile().map_err(no_file)
}

/// The error where there can be no such file.
pub(super) fn no_file(error: io::Error) -> Error {
    let folder = env::temp_dir();
    Error::failed(format!("no temporary file can be made in {}", folder.display()))
        .with_source(error)
}

/// The error of an archive for which there is no room.
pub(super) fn no_room(name: &str, error: Option<io::Error>) -> Error {
    let folder = env::temp_dir();
    let message = format!(
        "there is no room for {name} in {}; make some, or set TMPDIR to a folder that has more",
        folder.display()
    );
    match error {
        Some(error) => Error::failed(message).with_source(error),
        None => Error::failed(message),
    }
}

/// Whether nothing more can be written to a file, for its disk is full. What it has is lost.
pub(super) fn is_full(mut file: &File) -> bool {
    let written = file.write_all(&[0; PIECE_LEN]).and_then(|()| file.sync_data());
    written.is_err_and(|error| is_no_room(&error))
}

/// A file to which all has been written.
pub(super) fn opened(file: File, name: impl Into<std::sync::Arc<str>>) -> Result<OpenFile> {
    let length = file.metadata().map_err(no_file)?.len();
    Ok(OpenFile::new(file, length, name))
}

/// The archive that is piped in.
pub(super) async fn standard_input() -> Result<OpenFile> {
    if io::stdin().is_terminal() {
        return Err(Error::invalid(
            "standard input is a terminal: pipe an archive into it, as of docker save",
        ));
    }
    let unreadable =
        |error| Error::failed(format!("{STANDARD_INPUT} cannot be read")).with_source(error);
    let mut input = duplicate().map_err(unreadable)?;
    let metadata = input.metadata().map_err(unreadable)?;
    // A file that was redirected can be read where it is.
    let file = if metadata.is_file() && input.stream_position().is_ok_and(|position| position == 0)
    {
        unpacked(OpenFile::new(input, metadata.len(), STANDARD_INPUT)).await?
    } else {
        keep(input, STANDARD_INPUT.to_owned()).await?
    };
    if file.length() == 0 {
        return Err(damaged(STANDARD_INPUT, "nothing came"));
    }
    Ok(file)
}

fn duplicate() -> io::Result<File> {
    use std::os::fd::AsFd as _;

    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

/// The archive itself, or what it unpacks to.
pub(super) async fn unpacked(archive: OpenFile) -> Result<OpenFile> {
    let name = archive.name().to_owned();
    let start = start_of(&mut archive.at(0), &name)?;
    match Packing::of(&start) {
        Packing::None => Ok(archive),
        _ => keep(archive.at(0), name).await,
    }
}

/// Keeps an archive that is read once, without what it is packed in.
///
/// It is read by a thread that nothing waits for: from a pipe, nothing may ever come.
async fn keep(packed: impl Read + Send + 'static, name: String) -> Result<OpenFile> {
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let kept = copy(packed, &name, UNSUSPICIOUS_LEN, || sender.is_closed());
        // Nobody is left to be told where this fails.
        let _ = sender.send(kept);
    };
    let failed = |error: io::Error| Error::failed("starting to read an archive").with_source(error);
    drop(thread::Builder::new().name("archive".to_owned()).spawn(work).map_err(failed)?);
    receiver.await.map_err(|error| Error::failed("reading an archive").with_source(error))?
}

fn copy(
    mut packed: impl Read,
    name: &str,
    unsuspicious_len: u64,
    is_unwanted: impl Fn() -> bool,
) -> Result<OpenFile> {
    let start = start_of(&mut packed, name)?;
    let came = Rc::new(Cell::new(start.len() as u64));
    let whole = io::Cursor::new(start.clone()).chain(Counted { inner: packed, came: came.clone() });
    let unreadable = |error| Error::failed(format!("{name} cannot be read")).with_source(error);
    let mut content: Box<dyn Read> = match Packing::of(&start) {
        Packing::None => Box::new(whole),
        Packing::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(whole).map_err(unreadable)?),
        Packing::Other(remedy) => {
            let problem = format!("it is compressed; decompress it first, with {remedy}");
            return Err(damaged(name, problem));
        }
    };
    let mut kept = file()?;
    let mut piece = vec![0; PIECE_LEN];
    let mut length = 0;
    loop {
        let read = match content.read(&mut piece) {
            Ok(0) => return opened(kept, name),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        length += read as u64;
        if length > unsuspicious_len && length / MAX_RATIO > came.get() {
            let problem =
                format!("it unpacks to more than {MAX_RATIO} times its size; decompress it first");
            return Err(damaged(name, problem));
        }
        if is_unwanted() {
            return Err(damaged(name, "nobody waits for it any more"));
        }
        kept.write_all(&piece[..read]).map_err(|error| match is_no_room(&error) {
            true => no_room(name, Some(error)),
            false => Error::failed(format!("{name} cannot be kept for a while")).with_source(error),
        })?;
    }
}

fn start_of(packed: &mut impl Read, name: &str) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    packed
        .take(Packing::SIGNATURE_LEN)
        .read_to_end(&mut start)
        .map_err(|error| Error::failed(format!("{name} cannot be read")).with_source(error))?;
    Ok(start)
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// A reader that tells how much came of it.
struct Counted<R> {
    inner: R,
    came: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.came.set(self.came.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_unpacks_to_far_more_than_it_is_is_refused() {
        let zeros = io::repeat(0).take(8 << 20);
        let bomb = zstd::encode_all(zeros, 1).unwrap();
        let error = copy(&bomb[..], "bomb.tar.zst", 1 << 20, || false).unwrap_err();
        let expected = "it unpacks to more than 100 times its size; decompress it first";
        assert_eq!(error.to_string(), format!("bomb.tar.zst: {expected}"));
        assert_eq!(copy(&bomb[..], "small", 8 << 20, || false).unwrap().length(), 8 << 20);
    }

    #[test]
    fn what_is_not_packed_is_kept_as_it_is() {
        for content in [&b""[..], b"a", b"0123456789"] {
            let kept = copy(content, "x", UNSUSPICIOUS_LEN, || false).unwrap();
            let mut found = Vec::new();
            kept.at(0).read_to_end(&mut found).unwrap();
            assert_eq!(found, content);
        }
    }

    /// Zeros without end, until it is dropped.
    struct Endless(#[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len().min(4096))
        }
    }

    #[tokio::test]
    async fn nothing_is_read_when_nobody_waits_for_it() {
        let alive = Arc::new(());
        let mut keeping = Box::pin(keep(Endless(alive.clone()), "endless".to_owned()));
        assert!(futures_util::poll!(&mut keeping).is_pending());
        drop(keeping);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&alive) > 1 {
            assert!(Instant::now() < deadline, "it is still read");
            tokio::task::yield_now().await;
        }
    }
}
