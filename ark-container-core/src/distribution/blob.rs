//! Blobs: whether they are there, and what is in them.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::{Method, Response, StatusCode};
use tokio_util::bytes::Bytes;

use super::body::next_piece;
use super::client::{Client, Server};
use super::error::Subject;
use super::request::Request;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::Digest;

/// The content of a blob in pieces. It ends well only if it was what its digest says.
pub type BlobStream = BoxStream<'static, Result<Bytes>>;

impl Client {
    /// Whether the repository has a blob.
    ///
    /// # Behavior
    /// - A repository that does not exist has none: this answer cannot tell the two apart.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<bool> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?);
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = self.send(request, Subject::Blob(digest.clone()), &expected).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// The content of a blob, wherever the registry redirects to for it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist. The stream ends with
    /// [`Error::Failed`] if the content is not what the digest says.
    pub async fn fetch_blob(&self, digest: &Digest) -> Result<BlobStream> {
        let request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        let expected = [StatusCode::OK];
        let response = self.send(request, Subject::Blob(digest.clone()), &expected).await?;
        let digester = Digester::new(digest.algorithm());
        let (expected, server) = (digest.clone(), self.server());
        let fetching = Fetching { response, digester, expected, _server: server };
        Ok(stream::try_unfold(fetching, Fetching::step).boxed())
    }

    /// The whole content of a small blob, such as a configuration.
    ///
    /// # Errors
    /// Those of [`fetch_blob`](Self::fetch_blob), after retries; [`Error::Failed`] if the blob is larger
    /// than `limit` bytes.
    pub async fn fetch_blob_bytes(&self, digest: &Digest, limit: usize) -> Result<Bytes> {
        let request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        let (_, content) = self.fetch(request, Subject::Blob(digest.clone()), limit).await?;
        match Digester::digest(digest.algorithm(), &content) {
            found if found == *digest => Ok(content.into()),
            found => Err(wrong_content(digest, &found)),
        }
    }
}

struct Fetching {
    response: Response,
    digester: Digester,
    expected: Digest,
    _server: Option<Arc<dyn Server>>,
}

impl Fetching {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        if let Some(piece) = next_piece(&mut self.response).await? {
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
