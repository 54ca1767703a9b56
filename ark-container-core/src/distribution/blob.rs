//! Looks up blobs and fetches them, from the start or from an offset.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, StatusCode};
use tokio_util::bytes::Bytes;

use super::client::Request;
use super::client::{Client, Server};
use super::error::RequestTarget;
use super::response::BoundedResponse;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::Digest;

/// The content of a blob in pieces. If the content does not have the digest, the stream ends with an error.
pub type BlobStream = BoxStream<'static, Result<Bytes>>;

impl Client {
    /// Returns whether the repository has a blob.
    ///
    /// # Behavior
    /// - A missing repository is the same as a missing blob: `false`.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<bool> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?);
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = self.send(request, RequestTarget::Blob(digest.clone()), &expected).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Fetches the content of a blob. Follows redirects to the registry's storage.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist. The stream ends with [`Error::Failed`] if
    /// the content does not have the digest.
    pub async fn fetch_blob(&self, digest: &Digest) -> Result<BlobStream> {
        let request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        let expected = [StatusCode::OK];
        let response = self.send(request, RequestTarget::Blob(digest.clone()), &expected).await?;
        let digester = Digester::new(digest.algorithm());
        let (expected, server) = (digest.clone(), self.server());
        let fetching = BlobFetch { response, digester, expected, _server: server };
        Ok(stream::try_unfold(fetching, BlobFetch::step).boxed())
    }

    /// Fetches the whole content of a small blob, such as a configuration.
    ///
    /// # Errors
    /// Those of [`fetch_blob`](Self::fetch_blob), after retries; [`Error::Failed`] if the blob is larger than
    /// `limit` bytes.
    pub async fn fetch_blob_bytes(&self, digest: &Digest, limit: usize) -> Result<Bytes> {
        let request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        let (_, content) = self.fetch(request, RequestTarget::Blob(digest.clone()), limit).await?;
        match Digester::digest(digest.algorithm(), &content) {
            found if found == *digest => Ok(content.into()),
            found => Err(wrong_content(digest, &found)),
        }
    }
}

struct BlobFetch {
    response: BoundedResponse,
    digester: Digester,
    expected: Digest,
    _server: Option<Arc<dyn Server>>,
}

impl BlobFetch {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        if let Some(piece) = self.response.next_piece().await? {
            self.digester.update(&piece);
            return Ok(Some((piece, self)));
        }
        let Self { digester, expected, .. } = self;
        let found = digester.finish();
        if found == expected {
            return Ok(None);
        }
        Err(wrong_content(&expected, &found))
    }
}

fn wrong_content(expected: &Digest, found: &Digest) -> Error {
    Error::failed(format!("the registry sent {found} for blob {expected}"))
}

/// The content of a blob from an offset to its end, which resumes an interrupted fetch.
#[non_exhaustive]
pub struct BlobRest {
    /// The offset of the first byte: the requested offset, or 0 if the registry does not support ranges.
    pub from: u64,
    /// The content in pieces. The caller must verify the digest, which covers the whole blob.
    pub pieces: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for BlobRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobRest").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Client {
    /// Fetches the content of a blob from the offset `from`. Follows redirects.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist; [`Error::Failed`] if the offset is outside
    /// the blob, or the response has an invalid `Content-Range`.
    pub async fn fetch_blob_from(&self, digest: &Digest, from: u64) -> Result<BlobRest> {
        let mut request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let response = self.send(request, RequestTarget::Blob(digest.clone()), &expected).await?;
        let from = match response.status() {
            StatusCode::PARTIAL_CONTENT => first_byte(&response)?,
            _ => 0,
        };
        let pieces = stream::try_unfold((response, self.server()), |mut state| async move {
            Ok(state.0.next_piece().await?.map(|piece| (piece, state)))
        });
        Ok(BlobRest { from, pieces: pieces.boxed() })
    }
}

fn first_byte(response: &BoundedResponse) -> Result<u64> {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(range_start).ok_or_else(|| {
        let (url, range) = (response.redacted_url(), response.printable_header(&CONTENT_RANGE));
        let message = format!("GET {url}: the range {range:?} is invalid");
        Error::failed(message)
    })
}

/// Returns the first byte of a range such as `bytes 5-9/10`.
pub(super) fn range_start(range: &str) -> Option<u64> {
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_start_is_parsed() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes 0-9/*"), Some(0));
        for invalid in ["bytes */10", "5-9/10", "bytes x-9/10", ""] {
            assert_eq!(range_start(invalid), None, "{invalid}");
        }
    }
}
