//! Archives that cannot be read in place: compressed files, pipes and standard input.
//!
//! Their content is kept in a file without a name in the folder for temporary files, `$TMPDIR`. The file is
//! deleted with its last reader, however the program ends.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::sync::oneshot;

use super::{damaged, layout};
use crate::error::{Error, ResourceKind, Result};
use crate::transfer::decompress::{CompressionFormat, decompress};
use crate::transfer::in_background;
use crate::transfer::local_file::OpenFile;

const PIECE_LEN: usize = 256 * 1024;
/// What a compressed archive may always unpack to.
const UNSUSPICIOUS_LEN: u64 = 1024 * 1024 * 1024;
/// By how much more than it has it may unpack beyond that. The files of images come to 2 to 10.
const MAX_RATIO: u64 = 100;
const STANDARD_INPUT: &str = "standard input";

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

/// Opens the archive at a path: a file is read in place, a named pipe once.
///
/// Links are followed, since the path is the user's own. `/dev/stdin`, `/dev/fd/N` and `<(…)` are such links.
pub(super) async fn open(path: &Path) -> Result<OpenFile> {
    if path == Path::new("/dev/stdin") {
        // Opening it again fails for a socket, and has another position in a file.
        return standard_input().await;
    }
    let (owned, name) = (path.to_owned(), path.display().to_string());
    let named = name.clone();
    let opened = in_background(move || {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::not_found(ResourceKind::File, &named),
            _ => unreadable(&named, error),
        };
        let kind = fs::metadata(&owned).map_err(unreadable)?.file_type();
        if kind.is_fifo() {
            return Ok(None);
        }
        if !kind.is_file() {
            let problem = match kind.is_dir() {
                true if owned.join(layout::MARKER).is_file() => {
                    format!("it is a folder in the OCI image layout; name it as oci:{named}")
                }
                true => "it is a folder, not an archive".to_owned(),
                false => "it is a device or socket, not an archive".to_owned(),
            };
            return Err(damaged(&named, problem));
        }
        // A pipe that was put there since would block otherwise.
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(&owned);
        let file = file.map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        match metadata.is_file() {
            true => Ok(Some(OpenFile::new(file, metadata.len(), named.as_str()))),
            false => Err(damaged(&named, "it was replaced while it was opened")),
        }
    });
    match opened.await? {
        Some(file) => decompressed(file).await,
        None => {
            let path = path.to_owned();
            // Opening a pipe waits for its other end.
            keep(move || File::open(path), name).await
        }
    }
}

/// Opens the archive on standard input: a file in place, anything else once.
pub(super) async fn standard_input() -> Result<OpenFile> {
    if io::stdin().is_terminal() {
        return Err(Error::invalid(
            "standard input is a terminal: pipe an archive into it, as of docker save",
        ));
    }
    let mut input = duplicate().map_err(|error| unreadable(STANDARD_INPUT, error))?;
    let metadata = input.metadata().map_err(|error| unreadable(STANDARD_INPUT, error))?;
    // A file that was redirected can be read where it is.
    let file = if metadata.is_file() && input.stream_position().is_ok_and(|position| position == 0)
    {
        decompressed(OpenFile::new(input, metadata.len(), STANDARD_INPUT)).await?
    } else {
        keep(|| Ok(input), STANDARD_INPUT.to_owned()).await?
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

fn unreadable(name: &str, error: io::Error) -> Error {
    Error::failed(format!("{name} cannot be read")).with_source(error)
}

/// The archive itself, or its decompressed content.
async fn decompressed(archive: OpenFile) -> Result<OpenFile> {
    let mut start = Vec::new();
    let read = archive.at(0).take(CompressionFormat::SIGNATURE_LEN as u64).read_to_end(&mut start);
    read.map_err(|error| unreadable(archive.name(), error))?;
    match CompressionFormat::detect(&start) {
        None => Ok(archive),
        Some(_) => {
            let name = archive.name().to_owned();
            keep(move || Ok(archive.at(0)), name).await
        }
    }
}

/// Keeps the decompressed content of an archive that is read once.
///
/// It is read by a thread that nothing waits for: from a pipe, nothing may ever come.
async fn keep<R: Read + Send>(
    open: impl FnOnce() -> io::Result<R> + Send + 'static,
    name: String,
) -> Result<OpenFile> {
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let kept = open()
            .map_err(|error| unreadable(&name, error))
            .and_then(|stream| copy(stream, &name, UNSUSPICIOUS_LEN, || sender.is_closed()));
        // Nobody is left to be told where this fails.
        let _ = sender.send(kept);
    };
    let failed = |error: io::Error| Error::failed("starting to read an archive").with_source(error);
    drop(thread::Builder::new().name("archive".to_owned()).spawn(work).map_err(failed)?);
    receiver.await.map_err(|error| Error::failed("reading an archive").with_source(error))?
}

fn copy(
    stream: impl Read + Send,
    name: &str,
    unsuspicious_len: u64,
    is_unwanted: impl Fn() -> bool,
) -> Result<OpenFile> {
    let came = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: stream, came: came.clone() };
    let mut content = decompress(counted).map_err(|error| unreadable(name, error))?;
    let mut kept = file()?;
    let mut piece = vec![0; PIECE_LEN];
    let mut length = 0;
    loop {
        let read = match content.read(&mut piece) {
            Ok(0) => return opened(kept, name),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(name, error)),
        };
        length += read as u64;
        if length > unsuspicious_len && length / MAX_RATIO > came.load(Ordering::Relaxed) {
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

fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// A reader that tells how much came of it.
struct Counted<R> {
    inner: R,
    came: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.came.fetch_add(read as u64, Ordering::Relaxed);
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

    #[tokio::test]
    async fn named_pipe_is_read_once_and_decompressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let (other_end, content) = (path.clone(), b"content of the archive");
        let writer = thread::spawn(move || {
            fs::write(other_end, zstd::encode_all(&content[..], 1).unwrap()).unwrap();
        });
        let mut found = Vec::new();
        open(&path).await.unwrap().at(0).read_to_end(&mut found).unwrap();
        assert_eq!(found, content);
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn pipe_without_writer_does_not_block_cancellation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        let opening = tokio::time::timeout(Duration::from_millis(50), open(&path));
        assert!(opening.await.is_err());
    }

    #[tokio::test]
    async fn path_that_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let problem = async |path: &Path| open(path).await.unwrap_err().to_string();
        assert!(problem(folder.path()).await.ends_with(": it is a folder, not an archive"));
        fs::write(folder.path().join(layout::MARKER), "{}").unwrap();
        let name = folder.path().display();
        assert!(problem(folder.path()).await.ends_with(&format!("; name it as oci:{name}")));
        let device = problem(Path::new("/dev/null")).await;
        assert_eq!(device, "/dev/null: it is a device or socket, not an archive");
        let missing = open(&folder.path().join("missing")).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { kind: ResourceKind::File, .. }));
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
        let endless = Endless(alive.clone());
        let mut keeping = Box::pin(keep(move || Ok(endless), "endless".to_owned()));
        assert!(futures_util::poll!(&mut keeping).is_pending());
        drop(keeping);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&alive) > 1 {
            assert!(Instant::now() < deadline, "it is still read");
            tokio::task::yield_now().await;
        }
    }
}
