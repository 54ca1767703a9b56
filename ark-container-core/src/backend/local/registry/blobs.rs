//! The endpoints of blobs and uploads.
//!
//! Sources: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-blobs>,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-blobs>

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Response, StatusCode};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::auth::{Operation, Permit};
use super::body::{self, Body, Content, DOCKER_CONTENT_DIGEST, WithHeader, append_to_upload};
use super::dialect::Part;
use super::error::{ApiError, Code, is_storage_full};
use super::memory::{Memory, counted};
use super::requests::{InRepository, Query, parse_digest};
use crate::backend::local::store::{Upload, UploadId};
use crate::error::{Error, ResourceKind};
use crate::files::read_at;
use crate::model::{Digest, RepositoryPath};

/// The number of bytes that are read of a file at a time.
const READ_CHUNK_BYTES: usize = 64 * 1024;
/// The number of bytes in a [counted](Memory::large_chunk) chunk. Downloads with such chunks are twice as fast.
const LARGE_READ_CHUNK_BYTES: usize = 256 * 1024;

/// `HEAD`: returns the size of a blob. Reserves the blob for a client that may push.
pub(super) async fn check_blob(
    repository: InRepository,
    permit: &dyn Permit,
    digest: &str,
) -> Result<Response<Body>, ApiError> {
    let digest = parse_digest(digest)?;
    let is_reserved = permit.allows(repository.path(), Operation::PutManifest);
    let found = repository.blocking({
        let digest = digest.clone();
        move |store, path| match is_reserved {
            true => store.reserve_blob(path, &digest),
            false => store.open_blob(path, &digest).map(|(_, size)| size),
        }
    });
    let size = match found.await? {
        // The response to `HEAD` has no message. The client then uploads the blob, and receives the message.
        Err(error) if is_storage_full(&error) => Err(Error::not_found(ResourceKind::Blob, &digest)),
        found => found,
    };
    let response = Response::new(body::empty()).with(header::CONTENT_LENGTH, size?);
    Ok(with_blob_headers(response, digest))
}

fn with_blob_headers(response: Response<Body>, digest: Digest) -> Response<Body> {
    response
        .with(header::CONTENT_TYPE, "application/octet-stream")
        .with(header::ACCEPT_RANGES, "bytes")
        .with(DOCKER_CONTENT_DIGEST, digest)
}

pub(super) async fn get_blob(
    repository: InRepository,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let digest = parse_digest(digest)?;
    let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let found = repository.run({
        let digest = digest.clone();
        move |store, path| store.open_blob(path, &digest)
    });
    let (file, size) = found.await?;
    let response = match wanted.map_or(RequestedRange::Whole, |value| parse_range(value, size)) {
        RequestedRange::Whole => Response::new(stream_body(file, 0..size, repository.memory()))
            .with(header::CONTENT_LENGTH, size),
        RequestedRange::Part { first, last } => {
            let length = last - first + 1;
            let body = stream_body(file, first..last + 1, repository.memory());
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response
                .with(header::CONTENT_LENGTH, length)
                .with(header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"))
        }
        RequestedRange::Unsatisfiable => {
            let message = format!("the requested range is outside of the {size} bytes of the blob");
            let error =
                ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, message);
            return Err(error.with_header(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    Ok(with_blob_headers(response, digest))
}

pub(super) async fn delete_blob(
    repository: InRepository,
    digest: &str,
) -> Result<Response<Body>, ApiError> {
    let digest = parse_digest(digest)?;
    repository.run(move |store, path| store.delete_blob(path, &digest)).await?;
    Ok(body::status(StatusCode::ACCEPTED))
}

/// Returns a body of a range of a file. A slow client has one chunk in memory in addition to those queued in its connection.
pub(super) fn stream_body(file: File, range: Range<u64>, memory: &Memory) -> Body {
    let start = (Arc::new(file), range, memory.clone());
    let chunks = stream::try_unfold(start, async |(file, range, memory)| {
        let remaining = range.end - range.start;
        if remaining == 0 {
            return Ok(None);
        }
        let permit = memory.large_chunk();
        let size = permit.as_ref().map_or(READ_CHUNK_BYTES, |_| LARGE_READ_CHUNK_BYTES);
        let size = usize::try_from(remaining).unwrap_or(size).min(size);
        let chunk = read_at(&file, range.start, vec![0; size]).await?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rest = range.start + chunk.len() as u64..range.end;
        Ok(Some((Frame::data(counted(chunk, permit)), (file, rest, memory))))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// The header with the id of the upload.
const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The time that a request waits for an upload in use: a client may reconnect before the bytes of its interrupted
/// request are written.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// `POST`: mounts a blob, receives a whole blob, or starts an upload.
pub(super) async fn start_upload(
    repository: InRepository,
    permit: &dyn Permit,
    query: &Query<'_>,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
        let digest = parse_digest(&digest)?;
        // An invalid source, or one that the client may not read, gets the same response as a missing source.
        let from = from.parse::<RepositoryPath>().ok();
        if let Some(from) = from.filter(|from| {
            repository.dialect().mounts() && permit.allows(from, Operation::MountBlob)
        }) {
            let wanted = digest.clone();
            let mounting = repository.run(move |store, to| store.mount_blob(&from, to, &wanted));
            if mounting.await? {
                return Ok(body::created(format!("{}/blobs/{digest}", repository.url()), &digest));
            }
        }
    } else if let Some(digest) = query.get("digest") {
        return upload_whole(repository, &digest, tasks, content).await;
    }
    let id = repository.run(|store, path| store.start_upload(path)).await?;
    Ok(progress(&repository, &id, 0, StatusCode::ACCEPTED))
}

/// Receives a blob in a single `POST`. A failed upload is cancelled, because the client does not know its id.
async fn upload_whole(
    repository: InRepository,
    digest: &str,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let digest = parse_digest(digest)?;
    let starting = repository.run(|store, path| {
        let id = store.start_upload(path)?;
        store.open_upload(path, &id).map(|upload| (id, upload))
    });
    let (id, upload) = starting.await?;
    match append_to_upload(tasks, upload, repository.memory(), content, true).await {
        Ok(upload) => {
            let wanted = digest.clone();
            repository.run(move |_, _| upload.finish(&wanted)).await?;
            Ok(body::created(format!("{}/blobs/{digest}", repository.url()), &digest))
        }
        Err(error) => {
            repository.run(move |store, path| store.cancel_upload(path, &id)).await?;
            Err(error)
        }
    }
}

/// `GET`: returns the number of stored bytes.
pub(super) async fn upload_status(
    repository: InRepository,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let id = parse_id(id)?;
    let size = repository.run(move |store, path| store.upload_size(path, &id)).await?;
    let size = repository.dialect().reported_status(size)?;
    Ok(progress(&repository, &id, size, StatusCode::NO_CONTENT))
}

/// `PATCH`: receives the next part.
pub(super) async fn append_upload(
    repository: InRepository,
    id: &str,
    headers: &HeaderMap,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let id = parse_id(id)?;
    let upload = open_upload(&repository, id, headers, content, false).await?;
    let dialect = repository.dialect();
    let keeps = dialect.keeps_interrupted_parts();
    let upload = append_to_upload(tasks, upload, repository.memory(), content, keeps).await?;
    let size = dialect.reported_after_part(&id, upload.size());
    Ok(progress(&repository, &id, size, dialect.part_status()))
}

/// `PUT`: receives the last part, which may be empty, and the digest of the blob.
pub(super) async fn finish_upload(
    repository: InRepository,
    id: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let Some(digest) = query.get("digest") else {
        let message = "the last request of an upload needs ?digest=<digest of the whole blob>";
        return Err(ApiError::bad_request(Code::DigestInvalid, message));
    };
    let digest = parse_digest(&digest)?;
    let upload = open_upload(&repository, parse_id(id)?, headers, content, true).await?;
    let keeps = repository.dialect().keeps_interrupted_parts();
    let upload = append_to_upload(tasks, upload, repository.memory(), content, keeps).await?;
    let wanted = digest.clone();
    repository.run(move |_, _| upload.finish(&wanted)).await?;
    Ok(body::created(format!("{}/blobs/{digest}", repository.url()), &digest))
}

/// `DELETE`: cancels the upload.
pub(super) async fn cancel_upload(
    repository: InRepository,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let id = parse_id(id)?;
    repository.run(move |store, path| store.cancel_upload(path, &id)).await?;
    Ok(body::status(StatusCode::NO_CONTENT))
}

/// Opens an upload for the part that the headers announce.
async fn open_upload(
    repository: &InRepository,
    id: UploadId,
    headers: &HeaderMap,
    content: &Content,
    is_last: bool,
) -> Result<Upload, ApiError> {
    let start = chunk_start(headers, content)?;
    let upload = open_when_free(repository, id).await?;
    let (stored, is_empty) = (upload.size(), content.is_at_end());
    repository.dialect().check_part(&Part { id, stored, start, is_empty, is_last })?;
    match start {
        Some(start) if start != upload.size() => {
            let size = upload.size();
            let message = format!("the next byte of this upload is {size}, not {start}");
            Err(out_of_order(repository, &id, size, message))
        }
        _ => Ok(upload),
    }
}

async fn open_when_free(repository: &InRepository, id: UploadId) -> Result<Upload, ApiError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        let opening = repository.blocking(move |store, path| store.open_upload(path, &id));
        match opening.await? {
            Err(Error::Conflict { kind: ResourceKind::Upload, .. })
                if Instant::now() < deadline =>
            {
                sleep(BUSY_POLL_INTERVAL).await;
            }
            opened => return opened.map_err(ApiError::from),
        }
    }
}

/// Returns the first byte in `Content-Range`; `None` without the header. The part then starts at the end of
/// the upload.
fn chunk_start(headers: &HeaderMap, content: &Content) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let Some((start, length)) = value.to_str().ok().and_then(parse_chunk) else {
        let message = "Content-Range must be <first byte>-<last byte>, counted from 0";
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        return Err(ApiError::new(status, Code::BlobUploadInvalid, message));
    };
    match content.declared_length() {
        Some(declared) if declared != length => {
            let message =
                format!("Content-Range announces {length} bytes, Content-Length {declared}");
            Err(ApiError::bad_request(Code::SizeInvalid, message))
        }
        _ => Ok(Some(start)),
    }
}

fn out_of_order(repository: &InRepository, id: &UploadId, size: u64, message: String) -> ApiError {
    ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, message)
        .with_header(header::LOCATION, location(repository, id))
        .with_header(header::RANGE, stored_range(size))
        .with_header(DOCKER_UPLOAD_UUID, id.to_string())
}

fn progress(
    repository: &InRepository,
    id: &UploadId,
    size: u64,
    status: StatusCode,
) -> Response<Body> {
    body::status(status)
        .with(header::LOCATION, location(repository, id))
        .with(header::RANGE, stored_range(size))
        .with(DOCKER_UPLOAD_UUID, id)
}

/// Returns the path of an upload's URL. Without a host, the URL is valid behind a proxy.
fn location(repository: &InRepository, id: &UploadId) -> String {
    format!("{}/blobs/uploads/{id}", repository.url())
}

/// Returns the `Range` of the stored bytes. An empty upload also has `0-0`, as in the registry of the distribution
/// project, because the protocol has no form for an empty range.
fn stored_range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn parse_id(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| {
        let message = format!("there is no upload {id:?}");
        ApiError::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, message)
    })
}

/// The bytes that a `Range` header requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestedRange {
    /// The whole content. An unsupported header, such as one with several ranges, is ignored.
    Whole,
    /// The bytes from `first` to `last`, both included.
    Part {
        /// The offset of the first byte.
        first: u64,
        /// The offset of the last byte.
        last: u64,
    },
    /// A range outside of the content.
    Unsatisfiable,
}

/// Parses a `Range` header for content of `size` bytes.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2>
pub(super) fn parse_range(header: &str, size: u64) -> RequestedRange {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return RequestedRange::Whole;
    };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(suffix)) if first.is_empty() => match suffix {
            0 => return RequestedRange::Unsatisfiable,
            suffix => (size.saturating_sub(suffix), u64::MAX),
        },
        _ => return RequestedRange::Whole,
    };
    if first >= size {
        return RequestedRange::Unsatisfiable;
    }
    RequestedRange::Part { first, last: last.min(size - 1) }
}

/// Parses the `Content-Range` of a part, `<first>-<last>`, into its start and length.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-a-blob-in-chunks>
pub(super) fn parse_chunk(header: &str) -> Option<(u64, u64)> {
    let (first, last) = header.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

/// Parses a number that consists of digits only.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_byte_range_is_parsed() {
        let part = |first, last| RequestedRange::Part { first, last };
        assert_eq!(parse_range("bytes=0-0", 10), part(0, 0));
        assert_eq!(parse_range("bytes=2-5", 10), part(2, 5));
        assert_eq!(parse_range("bytes=2-", 10), part(2, 9));
        assert_eq!(parse_range("bytes=2-99", 10), part(2, 9));
        assert_eq!(parse_range("bytes=-3", 10), part(7, 9));
        assert_eq!(parse_range("bytes=-99", 10), part(0, 9));
        assert_eq!(parse_range(&format!("bytes=0-{}", u64::MAX), 10), part(0, 9));
    }

    #[test]
    fn range_after_the_end_is_unsatisfiable() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(parse_range(header, 10), RequestedRange::Unsatisfiable, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), RequestedRange::Unsatisfiable);
        assert_eq!(parse_range("bytes=-1", 0), RequestedRange::Unsatisfiable);
    }

    #[test]
    fn unsupported_and_invalid_ranges_are_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1-99999999999999999999",
        ] {
            assert_eq!(parse_range(header, 10), RequestedRange::Whole, "{header}");
        }
    }

    #[test]
    fn chunk_header_has_start_and_length() {
        assert_eq!(parse_chunk("0-0"), Some((0, 1)));
        assert_eq!(parse_chunk("10-19"), Some((10, 10)));
        let whole = format!("0-{}", u64::MAX);
        for header in ["", "-", "1", "5-4", "a-b", "0-", "-1", "+0-1", "bytes 0-1", &whole] {
            assert_eq!(parse_chunk(header), None, "{header}");
        }
    }
}
