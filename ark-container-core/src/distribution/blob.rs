//! Blobs: whether they exist, and fetching them, whole or from some byte on.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, StatusCode};
use tokio_util::bytes::Bytes;

use super::client::Request;
use super::client::{Client, Server};
use super::error::RequestTarget;
use super::response::Reply;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::Digest;

/// The content of a blob in pieces. The stream ends with an error if the content does not have the digest.
pub type BlobStream = BoxStream<'static, Result<Bytes>>;

impl Client {
    /// Returns whether the repository has a blob.
    ///
    /// # Behavior
    /// - The answer for a repository that does not exist is the same as for a missing blob.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<bool> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?);
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = self.send(request, RequestTarget::Blob(digest.clone()), &expected).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Fetches the content of a blob, and follows redirects to where the registry stores it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist. The stream ends with
    /// [`Error::Failed`] if the content is not what the digest says.
    pub async fn fetch_blob(&self, digest: &Digest) -> Result<BlobStream> {
        let request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        let expected = [StatusCode::OK];
        let response = self.send(request, RequestTarget::Blob(digest.clone()), &expected).await?;
        let digester = Digester::new(digest.algorithm());
        let (expected, server) = (digest.clone(), self.server());
        let fetching = Fetching { response, digester, expected, _server: server };
        Ok(stream::try_unfold(fetching, Fetching::step).boxed())
    }

    /// Fetches the whole content of a small blob, such as a configuration.
    ///
    /// # Errors
    /// Those of [`fetch_blob`](Self::fetch_blob), after retries; [`Error::Failed`] if the blob is larger
    /// than `limit` bytes.
    pub async fn fetch_blob_bytes(&self, digest: &Digest, limit: usize) -> Result<Bytes> {
        let request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        let (_, content) = self.fetch(request, RequestTarget::Blob(digest.clone()), limit).await?;
        match Digester::digest(digest.algorithm(), &content) {
            found if found == *digest => Ok(content.into()),
            found => Err(wrong_content(digest, &found)),
        }
    }
}

struct Fetching {
    response: Reply,
    digester: Digester,
    expected: Digest,
    _server: Option<Arc<dyn Server>>,
}

impl Fetching {
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

/// The content of a blob from some byte on, to continue a fetch that was interrupted.
#[non_exhaustive]
pub struct BlobRest {
    /// The offset of the first byte: the one that was requested, or 0 if the registry does not support ranges.
    pub from: u64,
    /// The content in pieces. It is not verified, since the digest is of the whole blob.
    pub pieces: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for BlobRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobRest").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Client {
    /// Fetches the content of a blob from byte `from` on, and follows redirects.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist; [`Error::Failed`] if the blob
    /// has no such byte, or the answer does not say where it begins.
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

fn first_byte(response: &Reply) -> Result<u64> {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(start_of).ok_or_else(|| {
        let url = response.shown_url();
        let message = format!("GET {url}: the range {range:?} is invalid");
        Error::failed(message)
    })
}

/// Returns the first byte of a range such as `bytes 5-9/10`.
pub(super) fn start_of(range: &str) -> Option<u64> {
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_answer_tells_where_it_begins() {
        assert_eq!(start_of("bytes 5-9/10"), Some(5));
        assert_eq!(start_of("bytes 0-9/*"), Some(0));
        for nonsense in ["bytes */10", "5-9/10", "bytes x-9/10", ""] {
            assert_eq!(start_of(nonsense), None, "{nonsense}");
        }
    }
}
