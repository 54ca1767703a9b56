//! Uploading a blob: a session, then its content in one request or in parts, and closing the session.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-blobs>

use std::ops::Range;
use std::{fmt, io};

use futures_util::{Stream, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, StatusCode, Url};
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::client::Client;
use super::client::Request;
use super::error::RequestTarget;
use super::response::Reply;
use super::upload_body::{UploadBody, UploadMonitor};
use crate::digester::Digester;
use crate::error::{BoxError, Error, Result};
use crate::model::{Algorithm, Digest, RepositoryPath};
use crate::secrets::redacted;

/// An upload session that a registry has opened.
#[derive(Clone)]
pub struct Upload {
    location: Url,
}

impl Upload {
    /// Returns an upload that was opened before, or `None` if its `location` is no URL.
    pub(crate) fn at(location: &str) -> Option<Self> {
        location.parse().ok().map(|location| Self { location })
    }

    /// Returns the URL of the session. It may be a secret: whoever knows it may be able to add to the upload.
    pub(crate) fn location(&self) -> &Url {
        &self.location
    }

    /// Returns the URL of the request that closes the session and names the blob.
    pub(super) fn closing(&self, digest: &Digest) -> Url {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        url
    }
}

/// Leaves out the query, where registries keep the state of the session.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", redacted(&self.location))
    }
}

/// The answer of a registry to a request to mount a blob from another repository.
#[derive(Debug)]
pub enum Mount {
    /// The repository has the blob now.
    Mounted,
    /// The registry did not mount the blob, and opened an upload instead.
    Upload(Upload),
}

impl Client {
    /// Opens an upload.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry has no such repository.
    pub async fn start_upload(&self) -> Result<Upload> {
        let request = Request::new(Method::POST, self.url("blobs/uploads/")?);
        let expected = [StatusCode::ACCEPTED];
        let response = self.send(request, RequestTarget::Repository, &expected).await?;
        self.opened(&response)
    }

    /// Asks the registry to mount a blob from another of its repositories.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry has no such repository.
    pub async fn mount_blob(&self, digest: &Digest, from: &RepositoryPath) -> Result<Mount> {
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", &from.to_string());
        let request = Request::new(Method::POST, url);
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let response = self.send(request, RequestTarget::Repository, &expected).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            _ => Ok(Mount::Upload(self.opened(&response)?)),
        }
    }

    /// Uploads the whole content of a blob, `size` bytes in `pieces`, in one request and closes the upload.
    ///
    /// The stream is polled for a piece when the registry has accepted the previous ones.
    ///
    /// # Errors
    /// [`Error::Failed`] if the content fails or is of another size, if the registry finds that the content is
    /// not what `digest` says (its source then has the code `DIGEST_INVALID`), or that it is too large;
    /// [`Error::Temporary`] if the content fails with a temporary [`Error`]; [`Error::NotFound`] if the
    /// registry has forgotten the upload.
    pub async fn upload_blob<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        digest: &Digest,
        size: u64,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<()> {
        let url = upload.closing(digest);
        let request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size.to_string());
        let expected = [StatusCode::CREATED];
        self.send_content(request, UploadMonitor::start(pieces, size), &expected).await.map(drop)
    }

    /// Uploads a blob that is in memory, unless the repository has it, and returns its SHA-256 digest.
    ///
    /// # Errors
    /// Those of [`upload_blob`](Self::upload_blob) and [`start_upload`](Self::start_upload), after retries.
    pub async fn upload_blob_bytes(&self, content: impl Into<Bytes>) -> Result<Digest> {
        let content = content.into();
        let digest = Digester::digest(Algorithm::Sha256, &content);
        let mut tries = self.retry().tries();
        // An earlier try may have stored the blob, and its answer may have been lost.
        while !self.blob_exists(&digest).await? {
            let upload = self.start_upload().await?;
            let pieces = stream::iter([Ok::<_, Error>(content.clone())]);
            match self.upload_blob(&upload, &digest, content.len() as u64, pieces).await {
                Ok(()) => break,
                Err(error) => sleep(tries.failed(error)?).await,
            }
        }
        Ok(digest)
    }

    /// Sends content once, and waits as long as bytes move.
    pub(super) async fn send_content<S, E>(
        &self,
        request: Request,
        (content, sending): (UploadBody<S>, UploadMonitor),
        expected: &[StatusCode],
    ) -> Result<Reply>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let body = Body::wrap_stream(content);
        let stalled = sending.stalled();
        let answer = self.send_once(request, body, RequestTarget::Upload, expected, stalled).await;
        match sending.failure() {
            // The answer of the registry to incomplete content does not matter.
            Some(cause) => Err(content_error(cause)),
            None => answer,
        }
    }

    /// Cancels an upload, so that the registry can remove what it has of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry does not know the upload any more; [`Error::Failed`] from
    /// registries that let uploads expire instead, such as AWS ECR.
    pub async fn cancel_upload(&self, upload: &Upload) -> Result<()> {
        let request = Request::new(Method::DELETE, upload.location.clone());
        let expected = [StatusCode::NO_CONTENT];
        // Nothing depends on it, so it is not retried.
        self.ask(&request, &RequestTarget::Upload, &expected).await.map(drop)
    }

    /// Returns the upload to continue with, and the number of bytes that the registry has of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry does not know the upload any more. AWS ECR always answers so.
    pub async fn upload_status(&self, upload: &Upload) -> Result<(Upload, u64)> {
        let request = Request::new(Method::GET, upload.location.clone());
        let expected = [StatusCode::NO_CONTENT];
        let response = self.send(request, RequestTarget::Upload, &expected).await?;
        let range = response.headers().get(RANGE).and_then(|range| range.to_str().ok());
        match received(range) {
            Some(received) => Ok((self.goes_on(&response, upload)?, received)),
            None => {
                let (url, range) = (response.shown_url(), response.shown_header(&RANGE));
                let message = format!("GET {url}: the range {range:?} is invalid");
                Err(Error::failed(message))
            }
        }
    }

    /// Returns the upload to continue with: at the location in the answer, if it has one.
    pub(super) fn goes_on(&self, response: &Reply, upload: &Upload) -> Result<Upload> {
        match response.headers().contains_key(LOCATION) {
            true => self.opened(response),
            false => Ok(upload.clone()),
        }
    }

    pub(super) fn opened(&self, response: &Reply) -> Result<Upload> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location else {
            let url = response.shown_url();
            let message = format!("{url}: the answer does not say where to upload");
            return Err(Error::failed(message));
        };
        Ok(Upload { location: self.resolve(response.url(), location)? })
    }
}

/// The error of an upload whose content fails, which is temporary if the cause is: the content may be
/// fetched from another registry.
fn content_error(cause: BoxError) -> Error {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let cause_error = match inner {
        Some(inner) => inner.downcast_ref::<Error>(),
        None => cause.downcast_ref(),
    };
    let message = "the content of the blob cannot be read";
    let error = match cause_error.is_some_and(Error::is_temporary) {
        true => Error::temporary(message),
        false => Error::failed(message),
    };
    error.with_source(cause)
}

/// Returns the number of bytes that a `Range` of `0-<last>` covers. For an empty upload, registries answer
/// `0-0`, `0--1` or no range. A single byte cannot be distinguished from that, and is sent again.
pub(super) fn received(range: Option<&str>) -> Option<u64> {
    let Some(range) = range else { return Some(0) };
    let last = range.trim_start_matches("bytes=").strip_prefix("0-")?;
    match last {
        "0" | "-1" => Some(0),
        _ => last.parse::<u64>().ok()?.checked_add(1),
    }
}

/// The statuses that accept a part. ECR answers 201, where the specification has 202.
///
/// Source: <https://github.com/regclient/regclient/pull/82>
const TAKEN: [StatusCode; 2] = [StatusCode::ACCEPTED, StatusCode::CREATED];

impl Client {
    /// Adds content of unknown length to an upload in one request, and returns the upload to continue with.
    ///
    /// The stream is polled for a piece when the registry has accepted the previous ones. AWS ECR
    /// does not accept such requests, only [parts](Self::append_part) with their offsets.
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
        let content = UploadMonitor::start_unsized(pieces);
        let answer = self.send_content(request, content, &TAKEN).await?;
        self.goes_on(&answer, upload)
    }

    /// Adds the bytes `part` of a blob to an upload, and returns the upload to continue with.
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
        let content = UploadMonitor::start(pieces, part.end - part.start);
        let answer = self.send_content(request, content, &TAKEN).await?;
        self.goes_on(&answer, upload)
    }

    /// Closes an upload with the last part of the blob, which may be empty, and its digest.
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
        let content = UploadMonitor::start(pieces, part.end - part.start);
        self.send_content(request, content, &[StatusCode::CREATED]).await.map(drop)
    }
}

/// Returns a request with the range of bytes that it adds. An empty range cannot be expressed.
fn part_request(method: Method, url: Url, part: &Range<u64>) -> Request {
    let request = Request::new(method, url)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, (part.end - part.start).to_string());
    match part.is_empty() {
        false => request.header(CONTENT_RANGE, format!("{}-{}", part.start, part.end - 1)),
        true => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_upload_tells_what_was_received() {
        assert_eq!(received(None), Some(0));
        assert_eq!(received(Some("0-0")), Some(0));
        assert_eq!(received(Some("0--1")), Some(0));
        assert_eq!(received(Some("0-9")), Some(10));
        assert_eq!(received(Some("bytes=0-9")), Some(10));
        for nonsense in ["5-9", "0-x", "", "0-18446744073709551615"] {
            assert_eq!(received(Some(nonsense)), None, "{nonsense}");
        }
    }

    #[test]
    fn debug_hides_the_state_of_the_session() {
        let location = "http://h.example/v2/a/blobs/uploads/1?_state=secret".parse().unwrap();
        let shown = format!("{:?}", Upload { location });
        assert_eq!(shown, "Upload(http://h.example/v2/a/blobs/uploads/1)");
    }
}
