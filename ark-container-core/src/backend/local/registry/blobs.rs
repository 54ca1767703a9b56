//! Blobs: read, whole or in part, and delete.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-blobs>

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Response, StatusCode};
use tokio::task::JoinHandle;

use super::body::{self, Body, DOCKER_CONTENT_DIGEST, WithHeader};
use super::error::{ApiError, Code};
use super::range::{self, Wanted};
use super::service::{InRepository, parse_digest};

/// A chunk that is being read, and the file that comes back with it.
type Reading = JoinHandle<io::Result<(File, Vec<u8>)>>;

/// How much of a file is read at a time; two of these are in memory.
const READ_SIZE: u64 = 256 * 1024;

pub(super) async fn get(
    repository: InRepository,
    digest: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let digest = parse_digest(digest)?;
    let wanted =
        headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let head = method == Method::HEAD;
    let found = repository.run({
        let digest = digest.clone();
        move |store, path| store.open_blob(path, &digest)
    });
    let (mut file, size) = found.await?;
    // A range means something for GET alone.
    let wanted = wanted.filter(|_| !head).map_or(Wanted::Whole, |value| range::parse(&value, size));
    let response = match wanted {
        Wanted::Whole if head => Response::new(body::empty()).with(header::CONTENT_LENGTH, size),
        Wanted::Whole => Response::new(stream_body(file, size)).with(header::CONTENT_LENGTH, size),
        Wanted::Part { first, last } => {
            let length = last - first + 1;
            file.seek(SeekFrom::Start(first)).map_err(ApiError::internal)?;
            let mut response = Response::new(stream_body(file, length));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response
                .with(header::CONTENT_LENGTH, length)
                .with(header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"))
        }
        Wanted::Nothing => {
            let message = format!("the blob has {size} bytes, and none in the range asked for");
            let error =
                ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, message);
            return Err(error.with_header(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    Ok(response
        .with(header::CONTENT_TYPE, "application/octet-stream")
        .with(header::ACCEPT_RANGES, "bytes")
        .with(DOCKER_CONTENT_DIGEST, digest))
}

pub(super) async fn delete(
    repository: InRepository,
    digest: &str,
) -> Result<Response<Body>, ApiError> {
    let digest = parse_digest(digest)?;
    repository.run(move |store, path| store.delete_blob(path, &digest)).await?;
    Ok(body::status(StatusCode::ACCEPTED))
}

fn stream_body(file: File, length: u64) -> Body {
    StreamBody::new(read_chunks(file, length)).boxed_unsync()
}

/// The next `length` bytes of a file. Each read is a blocking task of its own, so that a client
/// which takes its time holds no thread, and runs while the chunk before it is being sent.
fn read_chunks(file: File, length: u64) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    let first = read_ahead(file, length);
    stream::try_unfold(first, async |(reading, left)| {
        let Some(reading) = reading else { return Ok(None) };
        let (file, chunk) = reading.await.map_err(io::Error::other)??;
        let next = read_ahead(file, left);
        Ok(Some((Frame::data(Bytes::from(chunk)), next)))
    })
}

/// Begins to read the next chunk of the `left` bytes, if any, and says how many are left after it.
fn read_ahead(file: File, left: u64) -> (Option<Reading>, u64) {
    if left == 0 {
        return (None, 0);
    }
    let size = left.min(READ_SIZE);
    (Some(tokio::task::spawn_blocking(move || read_chunk(file, size))), left - size)
}

fn read_chunk(file: File, size: u64) -> io::Result<(File, Vec<u8>)> {
    let mut chunk = Vec::with_capacity(size as usize);
    (&file).take(size).read_to_end(&mut chunk)?;
    if (chunk.len() as u64) < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((file, chunk))
}
