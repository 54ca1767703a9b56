//! Uploads blobs: opens a session, sends the content in one request or in parts, and closes the session.
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
use super::response::BoundedResponse;
use super::upload_body::{UploadBody, UploadMonitor};
use crate::digester::Digester;
use crate::error::{BoxError, Error, Result};
use crate::model::{Algorithm, Digest, RepositoryPath};
use crate::secrets::redacted;

/// An open upload session of a registry.
#[derive(Clone)]
pub struct Upload {
    location: Url,
}

impl Upload {
    /// Returns an upload that was opened before, or `None` if `location` is not a URL.
    pub(crate) fn at(location: &str) -> Option<Self> {
        location.parse().ok().map(|location| Self { location })
    }

    /// Returns the URL of the session, which is secret: in some registries, the URL is enough to add to the upload.
    pub(crate) fn location(&self) -> &Url {
        &self.location
    }

    /// Returns the URL that closes the session, with the digest of the blob.
    pub(super) fn closing_url(&self, digest: &Digest) -> Url {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        url
    }
}

/// Shows the location without the query, in which registries keep the state of the session.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", redacted(&self.location))
    }
}

/// The response to a request to mount a blob from another repository.
#[derive(Debug)]
pub enum Mount {
    /// The repository has the blob now.
    Mounted,
    /// The registry did not mount the blob, and opened an upload instead.
    Upload(Upload),
}

impl Client {
    /// Opens an upload session.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub async fn start_upload(&self) -> Result<Upload> {
        let request = Request::new(Method::POST, self.url("blobs/uploads/")?);
        let expected = [StatusCode::ACCEPTED];
        let response = self.send(request, RequestTarget::Repository, &expected).await?;
        self.upload_at_location(&response)
    }

    /// Asks the registry to mount a blob from another of its repositories.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
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
            _ => Ok(Mount::Upload(self.upload_at_location(&response)?)),
        }
    }

    /// Uploads the whole content of a blob, `size` bytes in `pieces`, in one request, and closes the upload.
    ///
    /// The stream is polled for a piece after the registry has accepted the previous pieces.
    ///
    /// # Errors
    /// - [`Error::Failed`] if the content cannot be read, has another size, is too large for the registry, or does not
    ///   have the digest. The source of the latter has the code `DIGEST_INVALID`.
    /// - [`Error::Temporary`] if reading the content fails with a temporary [`Error`].
    /// - [`Error::NotFound`] if the registry no longer has the upload.
    pub async fn upload_blob<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        digest: &Digest,
        size: u64,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<()> {
        let url = upload.closing_url(digest);
        let request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size.to_string());
        let expected = [StatusCode::CREATED];
        self.send_content(request, UploadMonitor::start(pieces, size), &expected).await.map(drop)
    }

    /// Uploads a blob in memory, unless the repository has it, and returns its SHA-256 digest.
    ///
    /// # Errors
    /// Those of [`upload_blob`](Self::upload_blob) and [`start_upload`](Self::start_upload), after retries.
    pub async fn upload_blob_bytes(&self, content: impl Into<Bytes>) -> Result<Digest> {
        let content = content.into();
        let digest = Digester::digest(Algorithm::Sha256, &content);
        let mut tries = self.retry().tries();
        // A failed attempt may have stored the blob, if only the response was lost.
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

    /// Sends content once. The timeout restarts with each sent piece.
    pub(super) async fn send_content<S, E>(
        &self,
        request: Request,
        (content, sending): (UploadBody<S>, UploadMonitor),
        expected: &[StatusCode],
    ) -> Result<BoundedResponse>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let body = Body::wrap_stream(content);
        let stalled = sending.stalled();
        let response =
            self.send_once(request, body, RequestTarget::Upload, expected, stalled).await;
        match sending.failure() {
            // The response of the registry to incomplete content is irrelevant.
            Some(cause) => Err(content_error(cause)),
            None => response,
        }
    }

    /// Cancels an upload, so that the registry can remove the received bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry no longer has the upload; [`Error::Failed`] if the registry does not support
    /// cancellation. AWS ECR does not support it; uploads in ECR expire.
    pub async fn cancel_upload(&self, upload: &Upload) -> Result<()> {
        let request = Request::new(Method::DELETE, upload.location.clone());
        let expected = [StatusCode::NO_CONTENT];
        // No retries: an upload that is not cancelled expires.
        self.try_send(&request, &RequestTarget::Upload, &expected).await.map(drop)
    }

    /// Returns the upload with its current location, and the number of bytes that the registry has received.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry no longer has the upload, and always in AWS ECR.
    pub async fn upload_status(&self, upload: &Upload) -> Result<(Upload, u64)> {
        let request = Request::new(Method::GET, upload.location.clone());
        let expected = [StatusCode::NO_CONTENT];
        let response = self.send(request, RequestTarget::Upload, &expected).await?;
        let range = response.headers().get(RANGE).and_then(|range| range.to_str().ok());
        match received(range) {
            Some(received) => Ok((self.next_upload(&response, upload)?, received)),
            None => {
                let (url, range) = (response.redacted_url(), response.printable_header(&RANGE));
                let message = format!("GET {url}: the range {range:?} is invalid");
                Err(Error::failed(message))
            }
        }
    }

    /// Returns the upload with the location in the response, or unchanged if the response has none.
    pub(super) fn next_upload(
        &self,
        response: &BoundedResponse,
        upload: &Upload,
    ) -> Result<Upload> {
        match response.headers().contains_key(LOCATION) {
            true => self.upload_at_location(response),
            false => Ok(upload.clone()),
        }
    }

    pub(super) fn upload_at_location(&self, response: &BoundedResponse) -> Result<Upload> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location else {
            let url = response.redacted_url();
            let message = format!("{url}: the response has no upload location");
            return Err(Error::failed(message));
        };
        Ok(Upload { location: self.resolve(response.url(), location)? })
    }
}

/// Returns the error of content that cannot be read. A temporary cause makes the error temporary, since the content may
/// come from another registry.
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

/// Returns the number of bytes in a `Range` of `0-<last>`.
///
/// For an empty upload, registries send `0-0`, `0--1` or no range. An upload of one byte looks the same, so the byte is
/// sent again.
pub(super) fn received(range: Option<&str>) -> Option<u64> {
    let Some(range) = range else { return Some(0) };
    let last = range.trim_start_matches("bytes=").strip_prefix("0-")?;
    match last {
        "0" | "-1" => Some(0),
        _ => last.parse::<u64>().ok()?.checked_add(1),
    }
}

/// The statuses for an accepted part. ECR responds with 201, and the specification requires 202.
///
/// Source: <https://github.com/regclient/regclient/pull/82>
const PART_STATUSES: [StatusCode; 2] = [StatusCode::ACCEPTED, StatusCode::CREATED];

impl Client {
    /// Adds content of unknown length to an upload in one request, and returns the upload with its next location.
    ///
    /// The stream is polled for a piece after the registry has accepted the previous pieces. AWS ECR rejects such
    /// requests, and accepts only [parts](Self::append_part) with offsets.
    ///
    /// # Errors
    /// [`Error::Failed`] if the content cannot be read; [`Error::NotFound`] if the registry no longer has the upload.
    pub async fn append<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Upload> {
        let request = Request::new(Method::PATCH, upload.location().clone())
            .header(CONTENT_TYPE, "application/octet-stream");
        let content = UploadMonitor::start_unsized(pieces);
        let response = self.send_content(request, content, &PART_STATUSES).await?;
        self.next_upload(&response, upload)
    }

    /// Adds the bytes `part` of a blob to an upload, and returns the upload with its next location.
    ///
    /// # Errors
    /// - [`Error::Failed`] if the content cannot be read, has another length, or does not start at the end of the
    ///   received bytes. The source of the latter has the status 416.
    /// - [`Error::NotFound`] if the registry no longer has the upload.
    pub async fn append_part<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        part: Range<u64>,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Upload> {
        let request = part_request(Method::PATCH, upload.location().clone(), &part);
        let content = UploadMonitor::start(pieces, part.end - part.start);
        let response = self.send_content(request, content, &PART_STATUSES).await?;
        self.next_upload(&response, upload)
    }

    /// Closes an upload with the last part of the blob, which may be empty, and its digest.
    ///
    /// # Errors
    /// Those of [`append_part`](Self::append_part); [`Error::Failed`] also if the received content does not have the
    /// digest. The source then has the code `DIGEST_INVALID`.
    pub async fn finish_with_part<E: Into<BoxError>>(
        &self,
        upload: &Upload,
        digest: &Digest,
        part: Range<u64>,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<()> {
        let request = part_request(Method::PUT, upload.closing_url(digest), &part);
        let content = UploadMonitor::start(pieces, part.end - part.start);
        self.send_content(request, content, &[StatusCode::CREATED]).await.map(drop)
    }
}

/// Returns a request with the range of its bytes. An empty range has no `Content-Range`.
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
    fn received_bytes_are_parsed_from_range() {
        assert_eq!(received(None), Some(0));
        assert_eq!(received(Some("0-0")), Some(0));
        assert_eq!(received(Some("0--1")), Some(0));
        assert_eq!(received(Some("0-9")), Some(10));
        assert_eq!(received(Some("bytes=0-9")), Some(10));
        for invalid in ["5-9", "0-x", "", "0-18446744073709551615"] {
            assert_eq!(received(Some(invalid)), None, "{invalid}");
        }
    }

    #[test]
    fn debug_output_hides_session_state() {
        let location = "http://h.example/v2/a/blobs/uploads/1?_state=secret".parse().unwrap();
        let shown = format!("{:?}", Upload { location });
        assert_eq!(shown, "Upload(http://h.example/v2/a/blobs/uploads/1)");
    }
}
