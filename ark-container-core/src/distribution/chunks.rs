//! Uploading a blob in several requests: each adds a part, and the last one names the digest and closes
//! the upload.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-a-blob-in-chunks>

use std::ops::Range;

use futures_util::{Stream, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};
use tokio_util::bytes::Bytes;

use super::client::Client;
use super::request::Request;
use super::sending::Sending;
use super::upload::Upload;
use crate::error::{BoxError, Result};
use crate::model::Digest;

/// A part of a blob, in memory, and where in the blob it starts.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    start: u64,
    len: u64,
    pieces: Vec<Bytes>,
}

impl Chunk {
    /// A part that starts after `start` bytes, with nothing in it yet.
    pub fn at(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// Adds to its end.
    pub fn push(&mut self, piece: Bytes) {
        self.len += piece.len() as u64;
        self.pieces.push(piece);
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next one starts.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    fn range(&self) -> Range<u64> {
        self.start..self.end()
    }

    /// What is in it, in the order that it was added.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + Send + 'static {
        // A piece is shared, not copied.
        self.pieces.clone().into_iter()
    }

    fn stream(&self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        stream::iter(self.pieces().map(Ok))
    }
}

/// What answers a part. ECR says 201, where the specification has 202.
///
/// Source: <https://github.com/regclient/regclient/pull/82>
const TAKEN: [StatusCode; 2] = [StatusCode::ACCEPTED, StatusCode::CREATED];

impl Client {
    /// Adds to an upload in one request of unknown length, and answers where it goes on.
    ///
    /// A piece is asked for when the registry has taken those before it. AWS ECR does not take such
    /// requests as it takes [parts](Self::append_part): it wants to be told where each one starts.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if the content fails;
    /// [`Error::NotFound`](crate::Error::NotFound) if the registry has forgotten the upload.
    pub async fn append<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Upload> {
        let request = Request::new(Method::PATCH, upload.location().clone())
            .header(CONTENT_TYPE, "application/octet-stream");
        let content = Sending::start_unsized(pieces);
        let answer = self.send_content(request, content, &TAKEN).await?;
        self.goes_on(&answer, upload)
    }

    /// Adds a part of a blob to an upload, and answers where it goes on. `part` says which bytes it is.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if the content fails or is of another length, or if the
    /// part does not start where the registry has the end: its source then has the status 416;
    /// [`Error::NotFound`](crate::Error::NotFound) if the registry has forgotten the upload.
    pub async fn append_part<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        part: Range<u64>,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Upload> {
        let request = part_request(Method::PATCH, upload.location().clone(), &part);
        let content = Sending::start(pieces, part.end - part.start);
        let answer = self.send_content(request, content, &TAKEN).await?;
        self.goes_on(&answer, upload)
    }

    /// Closes an upload with the last part of a blob, which may be empty, and names what was sent.
    ///
    /// # Errors
    /// Those of [`append_part`](Self::append_part); [`Error::Failed`](crate::Error::Failed) too if the
    /// registry finds that what it has is not what `digest` says: its source then has the code
    /// `DIGEST_INVALID`.
    pub async fn finish_with_part<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        digest: &Digest,
        part: Range<u64>,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<()> {
        let request = part_request(Method::PUT, upload.closing(digest), &part);
        let content = Sending::start(pieces, part.end - part.start);
        self.send_content(request, content, &[StatusCode::CREATED]).await.map(drop)
    }

    /// [Adds](Self::append_part) a part that is in memory.
    ///
    /// # Errors
    /// Those of [`append_part`](Self::append_part).
    pub async fn append_chunk(&self, upload: &Upload, chunk: &Chunk) -> Result<Upload> {
        self.append_part(upload, chunk.range(), chunk.stream()).await
    }

    /// Closes an upload, with its `last` chunk where there is one, and names what has been sent.
    ///
    /// # Errors
    /// Those of [`finish_with_part`](Self::finish_with_part).
    pub async fn finish_upload(
        &self,
        upload: &Upload,
        digest: &Digest,
        last: Option<&Chunk>,
    ) -> Result<()> {
        let last = last.cloned().unwrap_or_default();
        self.finish_with_part(upload, digest, last.range(), last.stream()).await
    }
}

/// A request that says which bytes it adds. Where there are none, there is no way to say so.
fn part_request(method: Method, url: Url, part: &Range<u64>) -> Request {
    let request = Request::new(method, url)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, (part.end - part.start).to_string());
    match part.is_empty() {
        false => request.header(CONTENT_RANGE, format!("{}-{}", part.start, part.end - 1)),
        true => request,
    }
}
