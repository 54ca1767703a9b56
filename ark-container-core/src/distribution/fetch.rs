//! [`BlobRest`]: the content of a blob from some byte on.

use std::fmt;

use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio_util::bytes::Bytes;

use super::body::next_piece;
use super::client::Client;
use super::error::{Subject, redacted};
use super::request::Request;
use crate::error::{Error, Result};
use crate::model::Digest;

/// The content of a blob from some byte on, for a fetch that goes on where another broke off.
pub struct BlobRest {
    /// The first byte that comes: the one that was asked for, or 0 where the registry knows no ranges.
    pub from: u64,
    /// What comes, in pieces. Whether it is what the digest says can be told of the whole only, so
    /// nothing is verified here.
    pub pieces: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for BlobRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobRest").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Client {
    /// The content of a blob from byte `from` on, wherever the registry redirects to for it.
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
        let response = self.send(request, Subject::Blob(digest.clone()), &expected).await?;
        let from = match response.status() {
            StatusCode::PARTIAL_CONTENT => first_byte(&response)?,
            _ => 0,
        };
        let pieces = stream::try_unfold((response, self.server()), |mut state| async move {
            Ok(next_piece(&mut state.0).await?.map(|piece| (piece, state)))
        });
        Ok(BlobRest { from, pieces: pieces.boxed() })
    }
}

fn first_byte(response: &Response) -> Result<u64> {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(start_of).ok_or_else(|| {
        let url = redacted(response.url());
        let message = format!("GET {url}: the range {range:?} makes no sense");
        Error::failed(message)
    })
}

/// The first byte of a range as `bytes 5-9/10`.
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
