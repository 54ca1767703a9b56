//! Fetching blobs: their content, continued where a connection broke, and its way into a layout.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::bytes::{Buf, Bytes};

use super::progress::{BlobState, Event, Progress};
use super::pull::blocking;
use super::target::layout::{Layout, Partial, Received, damaged};
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest};

/// The maximum number of pieces that wait to be written.
const MAX_QUEUED_PIECES: usize = 4;

pub(super) struct Receiver<'a> {
    pub(super) client: &'a Client,
    pub(super) layout: &'a Arc<Layout>,
    pub(super) progress: &'a dyn Progress,
}

impl Receiver<'_> {
    /// Fetches a blob unless the layout has it, and returns its state and the bytes that were received or
    /// existed.
    pub(super) async fn receive(&self, blob: &Descriptor) -> Result<(BlobState, u64)> {
        let (layout, wanted) = (Arc::clone(self.layout), blob.clone());
        if blocking(move || layout.has(&wanted)).await? {
            self.tell(blob, BlobState::Exists);
            return Ok((BlobState::Exists, blob.size));
        }
        let received = match self.fetch(blob).await {
            // A layer that may not be distributed stays where its author provides it.
            Err(Error::NotFound { .. }) if !blob.urls.is_empty() => {
                self.tell(blob, BlobState::Exists);
                return Ok((BlobState::Exists, 0));
            }
            received => received?,
        };
        self.tell(blob, BlobState::Fetched);
        Ok((BlobState::Fetched, received))
    }

    async fn fetch(&self, blob: &Descriptor) -> Result<u64> {
        let mut received = 0;
        loop {
            self.tell(blob, BlobState::Fetching);
            let partial = self.partial(blob).await?;
            let (is_continued, found) = (partial.is_continued(), partial.received());
            self.tell_moved(blob, found as i64);
            let partial = self.fill(partial, blob).await?;
            received += partial.received() - found;
            let layout = Arc::clone(self.layout);
            let finishing = blocking(move || {
                let _locked = layout;
                partial.finish()
            });
            match finishing.await? {
                Received::Whole => return Ok(received),
                // What an earlier pull left was not the start of this blob.
                Received::Damaged(_) if is_continued => {
                    self.tell_moved(blob, -(blob.size as i64));
                }
                Received::Damaged(found) => return Err(damaged(blob, &found)),
            }
        }
    }

    async fn partial(&self, blob: &Descriptor) -> Result<Partial> {
        let (layout, blob) = (Arc::clone(self.layout), blob.clone());
        blocking(move || layout.partial(&blob)).await
    }

    /// Receives the rest of a blob, while a thread writes and hashes it.
    async fn fill(&self, mut partial: Partial, blob: &Descriptor) -> Result<Partial> {
        let (client, digest) = (self.client.clone(), blob.digest.clone());
        let content = blob_content(client, digest, blob.size, partial.received());
        let mut content = std::pin::pin!(content);
        let (sender, mut receiver) = mpsc::channel::<Bytes>(MAX_QUEUED_PIECES);
        let layout = Arc::clone(self.layout);
        let writing = blocking(move || {
            // If the pull is dropped, the next one must not write at the same time.
            let _locked = layout;
            while let Some(piece) = receiver.blocking_recv() {
                partial.take(&piece)?;
            }
            Ok(partial)
        });
        let receiving = async {
            // What came before the content broke off is written too.
            let sender = sender;
            while let Some(piece) = content.try_next().await? {
                let bytes = piece.len() as i64;
                if sender.send(piece).await.is_err() {
                    // The disk failed, which the writer reports.
                    break;
                }
                self.tell_moved(blob, bytes);
            }
            Ok(())
        };
        let (received, written) = futures_util::future::join(receiving, writing).await;
        let partial = written?;
        received.map(|()| partial)
    }

    fn tell(&self, blob: &Descriptor, state: BlobState) {
        self.progress.event(&Event::Blob { blob: &blob.digest, state });
    }

    fn tell_moved(&self, blob: &Descriptor, bytes: i64) {
        if bytes != 0 {
            self.progress.event(&Event::Moved { blob: &blob.digest, bytes });
        }
    }
}

/// Fetches a blob of `size` bytes from byte `from` on.
///
/// If the connection breaks, only the rest is requested again. The content is not verified.
pub(super) fn blob_content(
    client: Client,
    digest: Digest,
    size: u64,
    from: u64,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let content = BlobContent { client, digest, size, at: from, response: None };
    stream::try_unfold(content, |mut content| async move {
        Ok(content.next().await?.map(|piece| (piece, content)))
    })
}

struct BlobContent {
    client: Client,
    digest: Digest,
    size: u64,
    at: u64,
    response: Option<Response>,
}

/// An answer that is being received.
struct Response {
    pieces: BoxStream<'static, Result<Bytes>>,
    /// What comes before the byte that is wanted, from a registry that does not know ranges.
    skip: u64,
}

impl BlobContent {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        // What came counts: how often it broke off before that is forgotten.
        let retry = self.client.retry().clone();
        let mut tries = retry.tries();
        while self.at < self.size {
            let response = self.response().await?;
            match response.next().await {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) if piece.len() as u64 > self.size - self.at => {
                    return Err(
                        self.problem("the registry sends more of it than its manifest says")
                    );
                }
                Ok(piece) => {
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Err(error) => {
                    self.response = None;
                    sleep(tries.failed(error)?).await;
                }
            }
        }
        Ok(None)
    }

    /// The answer that is being received, or one to a new request.
    async fn response(&mut self) -> Result<&mut Response> {
        let response = match self.response.take() {
            Some(response) => response,
            None => {
                let rest = self.client.fetch_blob_from(&self.digest, self.at).await?;
                let Some(skip) = self.at.checked_sub(rest.from) else {
                    return Err(self.problem("the registry left out a part of it"));
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
    /// The next piece, of which nothing may be left after what is skipped.
    async fn next(&mut self) -> Result<Bytes> {
        let Some(mut piece) = self.pieces.next().await.transpose()? else {
            let message = "the registry broke off in the middle of a blob".to_owned();
            return Err(Error::temporary(message));
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

    /// An answer that promises all of the blob and breaks off after some of it.
    fn cut(after: usize) -> String {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CONTENT.len());
        head + &CONTENT[..after]
    }

    fn partial(from: usize) -> String {
        let range = format!("Content-Range: bytes {from}-9/10");
        answer("206 Partial Content", &[&range], &CONTENT[from..])
    }

    async fn received(registry: &Scripted, from: u64) -> Result<Vec<u8>> {
        let content = blob_content(registry.patient_client(), digest(), CONTENT.len() as u64, from);
        Ok(content.try_collect::<Vec<Bytes>>().await?.concat())
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
    async fn a_registry_without_ranges_sends_what_is_there_again() {
        let registry = Scripted::new([cut(4), answer("200 OK", &[], CONTENT)]);
        assert_eq!(received(&registry, 0).await.unwrap(), CONTENT.as_bytes());
        let registry = Scripted::new([answer("200 OK", &[], CONTENT)]);
        assert_eq!(received(&registry, 7).await.unwrap(), b"789");
    }

    #[tokio::test]
    async fn an_answer_that_leaves_something_out_is_not_taken() {
        let registry = Scripted::new([partial(7)]);
        let error = received(&registry, 4).await.unwrap_err().to_string();
        assert!(error.ends_with("the registry left out a part of it"), "{error}");
    }

    #[tokio::test]
    async fn more_than_the_manifest_says_is_not_taken() {
        let registry = Scripted::new([answer("200 OK", &[], "0123456789x")]);
        let error = received(&registry, 0).await.unwrap_err().to_string();
        assert!(error.ends_with("more of it than its manifest says"), "{error}");
    }

    #[tokio::test]
    async fn complete_blob_needs_no_request() {
        let registry = Scripted::new(Vec::<String>::new());
        assert_eq!(received(&registry, 10).await.unwrap(), b"");
        assert!(registry.requests().is_empty());
    }
}
