//! [`Blob`]: a configuration or layer of an image source, in a file or in a registry.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::bytes::{Buf, Bytes};

use super::decompress::CompressionFormat;
use super::in_background;
use super::local_file::{Cursor, OpenFile, read_decoder, read_file};
use super::queue::Counter;
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::files::Directory;
use crate::model::{Descriptor, Digest, media_type};

/// A stream of the content of a blob.
pub(super) type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// A configuration or layer of an image source.
#[derive(Debug, Clone)]
pub struct Blob {
    digest: Digest,
    size: u64,
    content: Content,
    is_tar: bool,
}

#[derive(Debug, Clone)]
enum Content {
    /// A file in a layout or in the folder of a registry, with its relative path.
    File { layout: Directory, name: PathBuf },
    /// A member of an archive, whose content starts at `offset`.
    Member {
        archive: OpenFile,
        offset: u64,
        name: String,
        /// The compression and the compressed size of a member that is decompressed while it is read.
        packed: Option<(CompressionFormat, u64)>,
    },
    /// A blob in a registry. A read continues the `download` of the previous read.
    Remote { client: Arc<Client>, download: Arc<Mutex<Option<Download>>> },
    /// A blob of a source that provides only manifests.
    #[cfg(feature = "ecr")]
    Unavailable { source: String },
}

impl Blob {
    /// Returns a blob in a file of a layout.
    pub(super) fn file(
        descriptor: &Descriptor,
        layout: &Directory,
        name: impl Into<PathBuf>,
    ) -> Self {
        Self::new(descriptor, Content::File { layout: layout.clone(), name: name.into() })
    }

    /// Returns a blob that is a member of an archive.
    pub(super) fn member(
        descriptor: &Descriptor,
        archive: &OpenFile,
        offset: u64,
        name: impl Into<String>,
    ) -> Self {
        let (archive, name) = (archive.clone(), name.into());
        Self::new(descriptor, Content::Member { archive, offset, name, packed: None })
    }

    /// Returns this member with its compression and its compressed size. A read decompresses the member.
    pub(super) fn packed(mut self, format: CompressionFormat, packed_size: u64) -> Self {
        if let Content::Member { packed, .. } = &mut self.content {
            *packed = Some((format, packed_size));
        }
        self
    }

    /// Returns a blob in the repository of a client.
    pub(super) fn remote(descriptor: &Descriptor, client: &Client) -> Self {
        Self::new(
            descriptor,
            Content::Remote { client: Arc::new(client.clone()), download: Arc::default() },
        )
    }

    /// Returns a blob whose content cannot be read.
    #[cfg(feature = "ecr")]
    pub(crate) fn unavailable(descriptor: &Descriptor, source: String) -> Self {
        Self::new(descriptor, Content::Unavailable { source })
    }

    fn new(descriptor: &Descriptor, content: Content) -> Self {
        let Descriptor { digest, size, .. } = descriptor;
        Self { digest: digest.clone(), size: *size, content, is_tar: false }
    }

    /// Returns this blob as an uncompressed layer, which a push compresses.
    pub(super) fn compressed_when_sent(self) -> Self {
        Self { is_tar: true, ..self }
    }

    /// Returns the digest. The digest of a layer that a push compresses is its diff ID.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the blob is a layer that a push compresses.
    pub fn is_tar(&self) -> bool {
        self.is_tar
    }

    /// Returns the location for errors: the path of the file, the member and its archive, or the digest and repository.
    pub fn location(&self) -> String {
        match &self.content {
            Content::File { layout, name } => layout.path().join(name).display().to_string(),
            Content::Member { archive, name, .. } => format!("{name} in {}", archive.name()),
            Content::Remote { client, .. } => {
                format!("blob {} in {}", self.digest, client.name())
            }
            #[cfg(feature = "ecr")]
            Content::Unavailable { source } => format!("blob {} in {source}", self.digest),
        }
    }

    /// Returns the descriptor of a blob that is transferred unchanged. The media type is that of an OCI layer for every
    /// blob; the manifest has the actual one.
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor::new(media_type::OCI_LAYER, self.digest.clone(), self.size)
    }

    /// Sends the content from byte `from` on to the thread that writes it, and counts the bytes.
    ///
    /// # Errors
    /// Those of [`pieces`](Self::pieces) and of its stream. A thread that has failed returns its own error.
    pub(super) async fn send_to(
        &self,
        sender: mpsc::Sender<Bytes>,
        from: u64,
        counter: &Counter,
    ) -> Result<()> {
        let mut pieces = self.pieces(from).await?;
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.unreadable(error))? {
            let bytes = piece.len() as u64;
            if sender.send(piece).await.is_err() {
                break;
            }
            counter.add(bytes);
        }
        Ok(())
    }

    /// Returns the error of content with another digest.
    pub(super) fn damaged(&self, found: &Digest) -> Error {
        Error::failed(format!("{} is damaged: its content is {found}", self.location()))
    }

    /// Returns the error of content that cannot be read.
    pub(super) fn unreadable(&self, error: io::Error) -> Error {
        // An error of the registry client has its own kind and hint.
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => {
                Error::failed(format!("{} cannot be read", self.location())).with_source(error)
            }
        }
    }

    /// Returns a stream of the content from byte `from` on.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file does not exist; [`Error::Failed`] if the file cannot be read. The stream fails
    /// if the content ends early.
    pub async fn pieces(&self, from: u64) -> Result<BoxStream<'static, io::Result<Bytes>>> {
        self.pieces_of(from..self.size).await
    }

    /// Returns a stream of a range of the content.
    ///
    /// # Errors
    /// Those of [`pieces`](Self::pieces).
    pub(super) async fn pieces_of(&self, range: Range<u64>) -> Result<Pieces> {
        if let Content::Remote { client, download } = &self.content {
            let resumed = lock(download).take().filter(|resumed| resumed.offset == range.start);
            let active = resumed.unwrap_or_else(|| Download {
                client: Arc::clone(client),
                digest: self.digest.clone(),
                size: self.size,
                offset: range.start,
                response: None,
                rest: Bytes::new(),
            });
            return Ok(active.pieces(range.end, Arc::clone(download)));
        }
        let size = range.end.saturating_sub(range.start);
        match self.open_file().await? {
            Some((file, offset)) => Ok(read_file(file, offset + range.start, size).boxed()),
            None => Ok(read_decoder(self.open(range.start).await?, size).boxed()),
        }
    }

    /// Opens the content of a local file for reading from byte `from` on.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file does not exist; [`Error::Failed`] if the file cannot be opened, or the blob is
    /// in a registry.
    pub(super) async fn open(&self, from: u64) -> Result<Box<dyn Read + Send>> {
        if let Some((file, offset)) = self.open_file().await? {
            return Ok(Box::new(Cursor::new(file, offset + from)));
        }
        match &self.content {
            Content::Member { archive, offset, packed: Some((format, size)), .. } => {
                let (packed, format) = (archive.at(*offset).take(*size), *format);
                let skipping = tokio::task::spawn_blocking(move || {
                    let mut content = format.decoder(packed)?;
                    io::copy(&mut content.by_ref().take(from), &mut io::sink())?;
                    Ok(content)
                });
                let skipped = skipping.await.unwrap_or_else(|error| Err(io::Error::other(error)));
                skipped.map_err(|error| self.unreadable(error))
            }
            _ => Err(Error::failed(format!("{} is not a file", self.location()))),
        }
    }

    /// Opens the file with the unchanged content. Returns the file and the offset of the content; `None` if the content
    /// is in a registry, or is decompressed while it is read.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file does not exist; [`Error::Failed`] if the file cannot be opened or is too short.
    pub(super) async fn open_file(&self) -> Result<Option<(Arc<File>, u64)>> {
        match &self.content {
            Content::File { layout, name } => {
                let (layout, name) = (layout.clone(), name.clone());
                let (file, metadata) = in_background(move || layout.file(name)).await?;
                match self.size.checked_sub(metadata.len()) {
                    None | Some(0) => Ok(Some((Arc::new(file), 0))),
                    Some(missing) => Err(Error::failed(format!(
                        "{} is damaged: it is {missing} bytes shorter than its descriptor says",
                        self.location()
                    ))),
                }
            }
            Content::Member { archive, offset, packed: None, .. } => {
                Ok(Some((archive.file(), *offset)))
            }
            _ => Ok(None),
        }
    }
}

/// Locks a download. A poisoned lock is safe, because every change replaces the whole download.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The download of a blob. After an interruption, only the remaining bytes are requested.
///
/// The content is not verified.
#[derive(Debug)]
struct Download {
    client: Arc<Client>,
    digest: Digest,
    size: u64,
    /// The offset of the next byte.
    offset: u64,
    response: Option<Response>,
    /// The received bytes after the end of the last range.
    rest: Bytes,
}

/// A response whose body is being received.
struct Response {
    pieces: BoxStream<'static, Result<Bytes>>,
    /// The number of bytes to skip, from a registry that does not support ranges.
    skip: u64,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("skip", &self.skip).finish_non_exhaustive()
    }
}

impl Download {
    /// Returns the content up to the offset `end`, and then stores the download in `slot`.
    fn pieces(self, end: u64, slot: Arc<Mutex<Option<Self>>>) -> Pieces {
        stream::try_unfold(Some(self), move |download| {
            let slot = Arc::clone(&slot);
            async move {
                let Some(mut download) = download else { return Ok(None) };
                let Some(piece) = download.next(end).await.map_err(io::Error::other)? else {
                    return Ok(None);
                };
                // A reader that knows the length does not poll again after the last piece.
                let rest = match download.offset < end {
                    true => Some(download),
                    false => {
                        *lock(&slot) = Some(download);
                        None
                    }
                };
                Ok(Some((piece, rest)))
            }
        })
        .boxed()
    }

    /// Returns the next piece before the offset `end`.
    async fn next(&mut self, end: u64) -> Result<Option<Bytes>> {
        if self.offset >= end {
            return Ok(None);
        }
        if self.rest.is_empty() {
            self.rest = self.receive().await?;
        }
        let length = usize::try_from(end - self.offset).unwrap_or(usize::MAX).min(self.rest.len());
        self.offset += length as u64;
        Ok(Some(self.rest.split_to(length)))
    }

    /// Receives the next piece. Each received piece resets the number of retries.
    async fn receive(&mut self) -> Result<Bytes> {
        let retry = self.client.retry().clone();
        let mut tries = retry.tries();
        loop {
            match self.response().await?.next().await {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) if piece.len() as u64 > self.size - self.offset => {
                    return Err(self.problem("the registry sent more bytes than its size"));
                }
                Ok(piece) => return Ok(piece),
                Err(error) => {
                    self.response = None;
                    sleep(tries.failed(error)?).await;
                }
            }
        }
    }

    /// Returns the response that is being received, or requests one.
    async fn response(&mut self) -> Result<&mut Response> {
        let response = match self.response.take() {
            Some(response) => response,
            None => {
                let rest = self.client.fetch_blob_from(&self.digest, self.offset).await?;
                let Some(skip) = self.offset.checked_sub(rest.from) else {
                    return Err(self.problem("the registry did not send the requested range"));
                };
                Response { pieces: rest.pieces, skip }
            }
        };
        Ok(self.response.insert(response))
    }

    fn problem(&self, problem: &str) -> Error {
        Error::failed(format!("blob {}: {problem}", self.digest))
    }
}

impl Response {
    /// Returns the next piece without the bytes to skip. The piece may be empty.
    async fn next(&mut self) -> Result<Bytes> {
        let Some(mut piece) = self.pieces.next().await.transpose()? else {
            return Err(Error::temporary(
                "the registry ended the response before the end of a blob",
            ));
        };
        let skipped = usize::try_from(self.skip).unwrap_or(piece.len()).min(piece.len());
        self.skip -= skipped as u64;
        piece.advance(skipped);
        Ok(piece)
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::distribution::Manifest;
    use crate::testing::scripted::{Scripted, answer};

    const CONTENT: &str = "0123456789";

    fn digest() -> Digest {
        Manifest::new("", CONTENT).digest
    }

    /// Returns a response that announces the whole blob and ends after some of its bytes.
    fn cut(after: usize) -> String {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CONTENT.len());
        head + &CONTENT[..after]
    }

    fn partial(from: usize) -> String {
        let range = format!("Content-Range: bytes {from}-9/10");
        answer("206 Partial Content", &[&range], &CONTENT[from..])
    }

    async fn received(registry: &Scripted, from: u64) -> Result<Vec<u8>> {
        let descriptor = Descriptor::new("", digest(), CONTENT.len() as u64);
        let blob = Blob::remote(&descriptor, &registry.patient_client());
        let content = blob.pieces(from).await?.try_collect::<Vec<Bytes>>().await;
        Ok(content.map_err(|error| blob.unreadable(error))?.concat())
    }

    #[tokio::test]
    async fn interrupted_fetch_continues_at_its_offset() {
        let registry = Scripted::new([cut(4), partial(4)]);
        assert_eq!(received(&registry, 0).await.unwrap(), CONTENT.as_bytes());
        let requests = registry.requests();
        assert_eq!(requests[0].header("range"), None);
        assert_eq!(requests[1].header("range"), Some("bytes=4-"));
    }

    #[tokio::test]
    async fn registry_without_ranges_resends_the_whole_blob() {
        let registry = Scripted::new([cut(4), answer("200 OK", &[], CONTENT)]);
        assert_eq!(received(&registry, 0).await.unwrap(), CONTENT.as_bytes());
        let registry = Scripted::new([answer("200 OK", &[], CONTENT)]);
        assert_eq!(received(&registry, 7).await.unwrap(), b"789");
    }

    #[tokio::test]
    async fn response_after_the_requested_offset_is_rejected() {
        let registry = Scripted::new([partial(7)]);
        let error = received(&registry, 4).await.unwrap_err().to_string();
        assert!(error.ends_with("the registry did not send the requested range"), "{error}");
    }

    #[tokio::test]
    async fn content_longer_than_its_descriptor_is_rejected() {
        let registry = Scripted::new([answer("200 OK", &[], "0123456789x")]);
        let error = received(&registry, 0).await.unwrap_err().to_string();
        assert!(error.ends_with("more bytes than its size"), "{error}");
    }

    #[tokio::test]
    async fn complete_blob_needs_no_request() {
        let registry = Scripted::new(Vec::<String>::new());
        assert_eq!(received(&registry, 10).await.unwrap(), b"");
        assert!(registry.requests().is_empty());
    }

    #[tokio::test]
    async fn consecutive_ranges_use_one_request() {
        let registry = Scripted::new([answer("200 OK", &[], CONTENT)]);
        let descriptor = Descriptor::new("", digest(), CONTENT.len() as u64);
        let blob = Blob::remote(&descriptor, &registry.patient_client());
        for (range, expected) in [(0..3, "012"), (3..7, "3456"), (7..10, "789")] {
            // A request with a known length does not poll the end of the stream.
            let mut pieces = blob.pieces_of(range).await.unwrap();
            let mut received = Vec::new();
            while received.len() < expected.len() {
                received.extend(pieces.try_next().await.unwrap().unwrap());
            }
            assert_eq!(received, expected.as_bytes());
        }
        assert_eq!(registry.requests().len(), 1);
    }
}
