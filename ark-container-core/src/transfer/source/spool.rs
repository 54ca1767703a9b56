//! Spools archives that cannot be read in place: compressed files, pipes and standard input.
//!
//! The content is written to an unnamed file in the folder for temporary files, `$TMPDIR`. The operating system deletes
//! the file with its last reader, even if the program crashes.

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

const SPOOL_PIECE_BYTES: usize = 256 * 1024;
/// The decompressed size up to which any compression ratio is accepted.
const ALWAYS_ACCEPTED_BYTES: u64 = 1024 * 1024 * 1024;
/// The maximum compression ratio of a larger archive. The ratio of images is 2 to 10.
const MAX_RATIO: u64 = 100;
const STANDARD_INPUT: &str = "standard input";

/// Creates an unnamed temporary file.
pub(super) fn temporary_file() -> Result<File> {
    tempfile::tempfile().map_err(no_temporary_file)
}

/// Returns the error of a temporary file that cannot be created.
pub(super) fn no_temporary_file(error: io::Error) -> Error {
    let folder = env::temp_dir();
    Error::failed(format!("cannot create a temporary file in {}", folder.display()))
        .with_source(error)
}

/// Returns the error of an archive that does not fit on the disk.
pub(super) fn disk_full(name: &str, error: Option<io::Error>) -> Error {
    let folder = env::temp_dir();
    let message = format!(
        "not enough disk space for {name} in {}; free some, or set TMPDIR to a folder with more",
        folder.display()
    );
    match error {
        Some(error) => Error::failed(message).with_source(error),
        None => Error::failed(message),
    }
}

/// Returns whether the disk of a file is full, by appending to the file, which is then unusable.
pub(super) fn is_disk_full(mut file: &File) -> bool {
    let written = file.write_all(&[0; SPOOL_PIECE_BYTES]).and_then(|()| file.sync_data());
    written.is_err_and(|error| is_disk_full_error(&error))
}

/// Opens a completely written file for reading.
pub(super) fn open_written(file: File, name: impl Into<std::sync::Arc<str>>) -> Result<OpenFile> {
    let length = file.metadata().map_err(no_temporary_file)?.len();
    Ok(OpenFile::new(file, length, name))
}

/// Opens the archive at a path: a file is read in place, a named pipe once.
///
/// Links are followed, since the user named the path. `/dev/stdin`, `/dev/fd/N` and `<(…)` are such links.
pub(super) async fn open(path: &Path) -> Result<OpenFile> {
    if path == Path::new("/dev/stdin") {
        // Opening the path fails for a socket, and loses the position in a file.
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
        // Without O_NONBLOCK, a pipe that replaced the file in the meantime would block.
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
            // Opening a pipe waits for a writer.
            spool(move || File::open(path), name).await
        }
    }
}

/// Opens the archive on standard input: a file is read in place, a pipe once.
pub(super) async fn standard_input() -> Result<OpenFile> {
    if io::stdin().is_terminal() {
        return Err(Error::invalid(
            "standard input is a terminal: pipe an archive into it, such as the output of docker save",
        ));
    }
    let mut input = duplicate().map_err(|error| unreadable(STANDARD_INPUT, error))?;
    let metadata = input.metadata().map_err(|error| unreadable(STANDARD_INPUT, error))?;
    // A redirected file can be read in place.
    let file = if metadata.is_file() && input.stream_position().is_ok_and(|position| position == 0)
    {
        decompressed(OpenFile::new(input, metadata.len(), STANDARD_INPUT)).await?
    } else {
        spool(|| Ok(input), STANDARD_INPUT.to_owned()).await?
    };
    if file.length() == 0 {
        return Err(damaged(STANDARD_INPUT, "it is empty"));
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

/// Returns the archive itself, or its decompressed content if it is compressed.
async fn decompressed(archive: OpenFile) -> Result<OpenFile> {
    let mut start = Vec::new();
    let read =
        archive.at(0).take(CompressionFormat::MAX_SIGNATURE_BYTES as u64).read_to_end(&mut start);
    read.map_err(|error| unreadable(archive.name(), error))?;
    match CompressionFormat::detect(&start) {
        None => Ok(archive),
        Some(_) => {
            let name = archive.name().to_owned();
            spool(move || Ok(archive.at(0)), name).await
        }
    }
}

/// Spools the decompressed content of an archive that can be read once.
///
/// A detached thread reads the archive, since reading a pipe may block forever.
async fn spool<R: Read + Send>(
    open: impl FnOnce() -> io::Result<R> + Send + 'static,
    name: String,
) -> Result<OpenFile> {
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let spooled = open()
            .map_err(|error| unreadable(&name, error))
            .and_then(|stream| copy(stream, &name, ALWAYS_ACCEPTED_BYTES, || sender.is_closed()));
        // Sending fails only if the receiver was dropped.
        let _ = sender.send(spooled);
    };
    let failed = |error: io::Error| {
        Error::failed("cannot start a thread to read an archive").with_source(error)
    };
    drop(thread::Builder::new().name("archive".to_owned()).spawn(work).map_err(failed)?);
    receiver.await.map_err(|error| Error::failed("cannot read an archive").with_source(error))?
}

fn copy(
    stream: impl Read + Send,
    name: &str,
    always_accepted_bytes: u64,
    is_cancelled: impl Fn() -> bool,
) -> Result<OpenFile> {
    let received = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: stream, received: received.clone() };
    let mut content = decompress(counted).map_err(|error| unreadable(name, error))?;
    let mut spooled = temporary_file()?;
    let mut piece = vec![0; SPOOL_PIECE_BYTES];
    let mut length = 0;
    loop {
        let read = match content.read(&mut piece) {
            Ok(0) => return open_written(spooled, name),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(name, error)),
        };
        length += read as u64;
        if length > always_accepted_bytes && length / MAX_RATIO > received.load(Ordering::Relaxed) {
            let problem = format!(
                "its decompressed size is over {MAX_RATIO} times its size; decompress it first"
            );
            return Err(damaged(name, problem));
        }
        if is_cancelled() {
            return Err(damaged(name, "reading was cancelled"));
        }
        spooled.write_all(&piece[..read]).map_err(|error| match is_disk_full_error(&error) {
            true => disk_full(name, Some(error)),
            false => {
                Error::failed(format!("cannot write {name} to a temporary file")).with_source(error)
            }
        })?;
    }
}

fn is_disk_full_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// A reader that counts its bytes.
struct Counted<R> {
    inner: R,
    received: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.received.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn decompression_bomb_is_rejected() {
        let zeros = io::repeat(0).take(8 << 20);
        let bomb = zstd::encode_all(zeros, 1).unwrap();
        let error = copy(&bomb[..], "bomb.tar.zst", 1 << 20, || false).unwrap_err();
        let expected = "its decompressed size is over 100 times its size; decompress it first";
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
    async fn error_names_path_that_is_not_a_file() {
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
    fn uncompressed_content_is_unchanged() {
        for content in [&b""[..], b"a", b"0123456789"] {
            let spooled = copy(content, "x", ALWAYS_ACCEPTED_BYTES, || false).unwrap();
            let mut found = Vec::new();
            spooled.at(0).read_to_end(&mut found).unwrap();
            assert_eq!(found, content);
        }
    }

    /// A reader of infinite zeros, whose `Arc` shows when it is dropped.
    struct Endless(#[expect(dead_code, reason = "only its drop matters")] Arc<()>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len().min(4096))
        }
    }

    #[tokio::test]
    async fn reading_stops_when_future_is_dropped() {
        let alive = Arc::new(());
        let endless = Endless(alive.clone());
        let mut spooling = Box::pin(spool(move || Ok(endless), "endless".to_owned()));
        assert!(futures_util::poll!(&mut spooling).is_pending());
        drop(spooling);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&alive) > 1 {
            assert!(Instant::now() < deadline, "the reader still runs");
            tokio::task::yield_now().await;
        }
    }
}
