//! Uploads of blobs: in one request, in two, in chunks; resumed, mounted, given up.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-blobs>

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Response, StatusCode};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::access::{Operation, Permit};
use super::body::{self, Body, WithHeader};
use super::dialect::Part;
use super::error::{ApiError, Code};
use super::range;
use super::receive::{self, Content};
use super::service::{InRepository, Query, parse_digest};
use crate::backend::local::store::{Upload, UploadId};
use crate::error::{Error, ResourceKind};
use crate::model::RepositoryPath;

/// Names the upload apart from its URL.
const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// How long a request waits for the one before it: a client that was cut may be back before what it
/// sent is on the disk.
const BUSY_FOR: Duration = Duration::from_secs(5);
const BUSY_POLL: Duration = Duration::from_millis(20);

/// `POST`: mounts a blob, takes one whole, or starts an upload.
pub(super) async fn start(
    repository: InRepository,
    permit: &dyn Permit,
    query: &Query<'_>,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
        let digest = parse_digest(&digest)?;
        // What the client may not read, or cannot be, is neither looked for nor told apart.
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
        return whole(repository, &digest, tasks, content).await;
    }
    let id = repository.run(|store, path| store.start_upload(path)).await?;
    Ok(progress(&repository, &id, 0, StatusCode::ACCEPTED))
}

/// A blob in a single `POST`. Nobody knows the upload's name to go on with it, so that one which
/// fails is given up.
async fn whole(
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
    match receive::append(tasks, upload, content, true).await {
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

/// `GET`: how much of the blob is here.
pub(super) async fn status(repository: InRepository, id: &str) -> Result<Response<Body>, ApiError> {
    let id = parse_id(id)?;
    let size = repository.run(move |store, path| store.upload_size(path, &id)).await?;
    let size = repository.dialect().told_when_asked(size)?;
    Ok(progress(&repository, &id, size, StatusCode::NO_CONTENT))
}

/// `PATCH`: the next chunk, or the rest.
pub(super) async fn append(
    repository: InRepository,
    id: &str,
    headers: &HeaderMap,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let id = parse_id(id)?;
    let upload = open(&repository, id, headers, content, false).await?;
    let dialect = repository.dialect();
    let upload = receive::append(tasks, upload, content, dialect.keeps_cut_parts()).await?;
    let size = dialect.told_after_part(&id, upload.size());
    Ok(progress(&repository, &id, size, dialect.part_stored()))
}

/// `PUT`: the last chunk, or nothing more, and the digest of it all.
pub(super) async fn finish(
    repository: InRepository,
    id: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
    tasks: &TaskTracker,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let Some(digest) = query.get("digest") else {
        let message = "an upload ends with ?digest=<digest of the whole blob>";
        return Err(ApiError::bad_request(Code::DigestInvalid, message));
    };
    let digest = parse_digest(&digest)?;
    let upload = open(&repository, parse_id(id)?, headers, content, true).await?;
    let keeps = repository.dialect().keeps_cut_parts();
    let upload = receive::append(tasks, upload, content, keeps).await?;
    let wanted = digest.clone();
    repository.run(move |_, _| upload.finish(&wanted)).await?;
    Ok(body::created(format!("{}/blobs/{digest}", repository.url()), &digest))
}

/// `DELETE`: gives the upload up.
pub(super) async fn cancel(repository: InRepository, id: &str) -> Result<Response<Body>, ApiError> {
    let id = parse_id(id)?;
    repository.run(move |store, path| store.cancel_upload(path, &id)).await?;
    Ok(body::status(StatusCode::NO_CONTENT))
}

/// Opens an upload for the chunk that the headers announce, which may be the last.
async fn open(
    repository: &InRepository,
    id: UploadId,
    headers: &HeaderMap,
    content: &Content,
    is_last: bool,
) -> Result<Upload, ApiError> {
    let start = chunk_start(headers, content)?;
    let upload = open_when_free(repository, id).await?;
    let (stored, is_empty) = (upload.size(), content.is_at_end());
    repository.dialect().take_part(&Part { id, stored, start, is_empty, is_last })?;
    match start {
        Some(start) if start != upload.size() => {
            let size = upload.size();
            let message = format!("the next byte of this upload is {size}, and not {start}");
            Err(out_of_order(repository, &id, size, message))
        }
        _ => Ok(upload),
    }
}

async fn open_when_free(repository: &InRepository, id: UploadId) -> Result<Upload, ApiError> {
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        let opening = repository.blocking(move |store, path| store.open_upload(path, &id));
        match opening.await? {
            Err(Error::Conflict { kind: ResourceKind::Upload, .. })
                if Instant::now() < deadline =>
            {
                sleep(BUSY_POLL).await;
            }
            opened => return opened.map_err(ApiError::from),
        }
    }
}

/// Where the chunk starts that `Content-Range` announces; `None` without one: at the end.
fn chunk_start(headers: &HeaderMap, content: &Content) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let Some((start, length)) = value.to_str().ok().and_then(range::parse_chunk) else {
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

/// A path alone, which holds behind any proxy.
fn location(repository: &InRepository, id: &UploadId) -> String {
    format!("{}/blobs/uploads/{id}", repository.url())
}

/// Of the first byte and the last. Where there is none it is `0-0` too: the protocol has no other
/// way to say so, and this is what clients know from the distribution project's registry.
fn stored_range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn parse_id(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| {
        let message = format!("there is no upload {id:?}");
        ApiError::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, message)
    })
}
