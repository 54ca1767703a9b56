//! A blob's content that goes on where it broke off.

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::sleep;
use tokio_util::bytes::{Buf, Bytes};

use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::Digest;

/// The bytes of a blob of `size` bytes from byte `from` on.
///
/// Where the connection breaks, the rest is asked for again, so that what was received counts. The
/// content is not verified.
pub(super) fn content(
    client: Client,
    digest: Digest,
    size: u64,
    from: u64,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let content = Content { client, digest, size, at: from, running: None };
    stream::try_unfold(content, |mut content| async move {
        Ok(content.next().await?.map(|piece| (piece, content)))
    })
}

struct Content {
    client: Client,
    digest: Digest,
    size: u64,
    at: u64,
    running: Option<Running>,
}

/// An answer that is being received.
struct Running {
    pieces: BoxStream<'static, Result<Bytes>>,
    /// What comes before the byte that is wanted, from a registry that does not know ranges.
    skip: u64,
}

impl Content {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        // What came counts: how often it broke off before that is forgotten.
        let retry = self.client.retry().clone();
        let mut tries = retry.tries();
        while self.at < self.size {
            let running = self.running().await?;
            match running.next().await {
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
                    self.running = None;
                    sleep(tries.failed(error)?).await;
                }
            }
        }
        Ok(None)
    }

    /// The answer that is being received, or one to a new request.
    async fn running(&mut self) -> Result<&mut Running> {
        let running = match self.running.take() {
            Some(running) => running,
            None => {
                let rest = self.client.fetch_blob_from(&self.digest, self.at).await?;
                let Some(skip) = self.at.checked_sub(rest.from) else {
                    return Err(self.problem("the registry left out a part of it"));
                };
                Running { pieces: rest.pieces, skip }
            }
        };
        Ok(self.running.insert(running))
    }

    fn problem(&self, problem: &str) -> Error {
        Error::failed(format!("blob {}: {problem}", self.digest))
    }
}

impl Running {
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
        let content = content(registry.patient_client(), digest(), CONTENT.len() as u64, from);
        Ok(content.try_collect::<Vec<Bytes>>().await?.concat())
    }

    #[tokio::test]
    async fn what_broke_off_goes_on_where_it_was() {
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
    async fn nothing_is_asked_for_what_is_here() {
        let registry = Scripted::new(Vec::<String>::new());
        assert_eq!(received(&registry, 10).await.unwrap(), b"");
        assert!(registry.requests().is_empty());
    }
}
