//! Uploading a blob: a session, then one request with the whole content.

use std::fmt;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::io::AsyncRead;

use super::client::Client;
use super::error::{Subject, redacted};
use super::sending::Sending;
use crate::error::{Error, Result};
use crate::model::{Digest, RepositoryPath};

/// An upload that a registry has opened: the place to send to.
pub struct Upload {
    location: Url,
}

/// Shows no query, where registries keep the state of the session.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", redacted(&self.location))
    }
}

/// What a registry did when asked to take a blob over from another repository.
#[derive(Debug)]
pub enum Mount {
    /// The blob is in this repository now.
    Mounted,
    /// It did not, and opened an upload instead.
    Upload(Upload),
}

impl Client {
    /// Opens an upload.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry has no such repository.
    pub async fn start_upload(&self) -> Result<Upload> {
        let request = self.request(Method::POST, self.url("blobs/uploads/")?);
        let expected = [StatusCode::ACCEPTED];
        let response = self.send(request, Subject::Repository, &expected).await?;
        self.opened(&response)
    }

    /// Asks the registry to take a blob over from another of its repositories.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry has no such repository.
    pub async fn mount_blob(&self, digest: &Digest, from: &RepositoryPath) -> Result<Mount> {
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", &from.to_string());
        let request = self.request(Method::POST, url);
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let response = self.send(request, Subject::Repository, &expected).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            _ => Ok(Mount::Upload(self.opened(&response)?)),
        }
    }

    /// Sends a blob's whole content, `size` bytes of `reader`, in one request and closes the upload.
    ///
    /// The content is read in pieces of 256 KiB, as fast as the registry takes them.
    ///
    /// # Errors
    /// [`Error::Failed`] if the reader fails or ends early, if the registry finds that the content is
    /// not what `digest` says (its source then has the code `DIGEST_INVALID`), or that it is too large;
    /// [`Error::NotFound`] if the registry has forgotten the upload.
    pub async fn upload_blob(
        &self,
        upload: &Upload,
        digest: &Digest,
        size: u64,
        reader: impl AsyncRead + Send + 'static,
    ) -> Result<()> {
        let mut url = upload.location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let (stream, sending) = Sending::start(reader, size);
        let request = self
            .request(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(Body::wrap_stream(stream));
        let expected = [StatusCode::CREATED];
        let answer = self.send_while(request, Subject::Upload, &expected, sending.stalled()).await;
        match sending.failure() {
            // The connection broke because there was nothing to send: that is not the registry's fault.
            Some(cause) if answer.is_err() => {
                Err(Error::failed(format!("the content of blob {digest} cannot be read"), cause))
            }
            _ => answer.map(drop),
        }
    }

    /// Gives an upload up, so that the registry need not keep what it has of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry has forgotten the upload; [`Error::Failed`] from those that
    /// let uploads run out instead, as AWS ECR does.
    pub async fn cancel_upload(&self, upload: &Upload) -> Result<()> {
        let request = self.request(Method::DELETE, upload.location.clone());
        let expected = [StatusCode::NO_CONTENT];
        self.send(request, Subject::Upload, &expected).await.map(drop)
    }

    /// How many bytes of an upload the registry has.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the registry has forgotten the upload. AWS ECR always answers so.
    pub async fn upload_status(&self, upload: &Upload) -> Result<u64> {
        let request = self.request(Method::GET, upload.location.clone());
        let expected = [StatusCode::NO_CONTENT];
        let response = self.send(request, Subject::Upload, &expected).await?;
        let range = response.headers().get(RANGE).and_then(|range| range.to_str().ok());
        received(range).ok_or_else(|| {
            let url = redacted(response.url());
            let message = format!("GET {url}: the range {range:?} makes no sense");
            Error::Failed { message, source: None }
        })
    }

    fn opened(&self, response: &Response) -> Result<Upload> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location else {
            let url = redacted(response.url());
            let message = format!("POST {url}: the answer does not say where to upload");
            return Err(Error::Failed { message, source: None });
        };
        Ok(Upload { location: self.resolve(response.url(), location)? })
    }
}

/// How many bytes a `Range` of `0-<last>` covers. Before the first byte, some say `0-0`, some `0--1`
/// and some nothing; that a single byte is there cannot be told from that, and is sent again.
fn received(range: Option<&str>) -> Option<u64> {
    let Some(range) = range else { return Some(0) };
    let last = range.trim_start_matches("bytes=").strip_prefix("0-")?;
    match last {
        "0" | "-1" => Some(0),
        _ => last.parse::<u64>().ok()?.checked_add(1),
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
