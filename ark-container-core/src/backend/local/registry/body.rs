//! Bodies: of requests, received with bounded memory, and of responses, with their common headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, mem};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, CONNECTION, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::error::{ApiError, Code};
use super::memory::Memory;
use crate::backend::local::store::Upload;
use crate::model::Digest;

/// The body of a response: bytes in memory, or a stream from a file.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The header with the digest of the content that is sent or was stored.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Returns a response without a body.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// Returns a response with a JSON body.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Sets headers of a response from numbers or text.
pub(super) trait WithHeader {
    /// Adds a header. An invalid header value is ignored; no parsed type of the model has one.
    fn with(self, name: HeaderName, value: impl ToString) -> Self;
}

impl WithHeader for Response<Body> {
    fn with(mut self, name: HeaderName, value: impl ToString) -> Self {
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.headers_mut().insert(name, value);
        }
        self
    }
}

/// Returns `201 Created` with the location and the digest of the new content.
pub(super) fn created(location: String, digest: &Digest) -> Response<Body> {
    status(StatusCode::CREATED).with(header::LOCATION, location).with(DOCKER_CONTENT_DIGEST, digest)
}

/// A connection is closed if the client neither sends nor receives for this long.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of a batch, before its last frame. A frame is at most as large as the connection's read
/// buffer.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Smaller frames are written together, because each write costs a system call.
const MIN_WRITE_BYTES: usize = 64 * 1024;

/// The minimum memory that a frame is counted with: a small one takes more memory than its bytes.
const MIN_COUNTED_FRAME_BYTES: usize = 128;

/// The maximum number of bytes of a body that are read and discarded after an error.
const MAX_DISCARDED_BYTES: u64 = 32 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout of a whole manifest. Other large manifests wait for the memory.
const MANIFEST_TIMEOUT: Duration = IDLE_TIMEOUT;

/// The body of a request, and the number of bytes received.
pub(super) struct Content {
    incoming: Incoming,
    received: u64,
}

impl Content {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self { incoming, received: 0 }
    }

    /// Returns the number of bytes that were received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Returns whether the whole body was received.
    pub(super) fn is_at_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// Returns the `Content-Length`, if the client sent one.
    pub(super) fn declared_length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Receives the next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = match timeout(IDLE_TIMEOUT, self.incoming.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    let message = format!("the request's body ended early: {error}");
                    return Err(ApiError::bad_request(Code::BlobUploadInvalid, message));
                }
                Err(_) => return Err(timed_out("nothing was received for")),
            };
            // Trailers are ignored.
            if let Ok(bytes) = frame.into_data() {
                self.received += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
    }

    /// Receives a manifest; `None` if it is longer than `limit` bytes. The memory is counted until the permit is
    /// dropped.
    pub(super) async fn manifest(
        &mut self,
        limit: usize,
        memory: &Memory,
    ) -> Result<Option<(Vec<u8>, Option<OwnedSemaphorePermit>)>, ApiError> {
        let size = self.declared_length().unwrap_or(limit as u64);
        if size > limit as u64 {
            return Ok(None);
        }
        let permit = memory.manifest(size as usize).await?;
        let whole = timeout(MANIFEST_TIMEOUT, self.collect(size as usize)).await;
        let whole =
            whole.unwrap_or_else(|_| Err(timed_out("the manifest did not arrive within")))?;
        Ok(whole.map(|whole| (whole, permit)))
    }

    async fn collect(&mut self, limit: usize) -> Result<Option<Vec<u8>>, ApiError> {
        let mut whole = Vec::with_capacity(limit);
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(whole))
    }

    /// Reads and discards more of the body, so that a client that is still sending receives the error response instead
    /// of a connection reset.
    pub(super) async fn discard(&mut self) {
        let until = self.received.saturating_add(MAX_DISCARDED_BYTES);
        let reading =
            async { while self.received < until && matches!(self.next().await, Ok(Some(_))) {} };
        // The response is also sent if the body is incomplete.
        let _ = timeout(DISCARD_TIMEOUT, reading).await;
    }
}

fn timed_out(problem: &str) -> ApiError {
    let message = format!("{problem} {} seconds", IDLE_TIMEOUT.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, message)
        .with_header(CONNECTION, HeaderValue::from_static("close"))
}

/// Appends a body to an upload.
///
/// One blocking task hashes and writes the bytes. The task outlives an interrupted request, so that the received bytes
/// are stored and the upload can be resumed. Without `keeps_interrupted_parts`, an interrupted part is rolled back instead.
pub(super) async fn append_to_upload(
    tasks: &TaskTracker,
    upload: Upload,
    memory: &Memory,
    content: &mut Content,
    keeps_interrupted_parts: bool,
) -> Result<Upload, ApiError> {
    if content.is_at_end() {
        return Ok(upload);
    }
    // One batch waits while another is written.
    let (queue, batches) = mpsc::channel(1);
    let is_whole = Arc::new(AtomicBool::new(keeps_interrupted_parts));
    let writer = tasks.spawn_blocking({
        let is_whole = Arc::clone(&is_whole);
        move || {
            let before = upload.checkpoint();
            let mut upload = write_all(upload, batches)?;
            if !is_whole.load(Ordering::Acquire) {
                upload.roll_back(before)?;
            }
            Ok::<_, crate::Error>(upload)
        }
    });
    let received = forward(content, &queue, memory).await;
    is_whole.fetch_or(received.is_ok(), Ordering::Release);
    drop(queue);
    let upload = writer.await.map_err(ApiError::internal)??;
    received.map(|()| upload)
}

/// The frames of an upload that are written together. Their memory is counted until then.
#[derive(Default)]
struct Batch {
    frames: Vec<(Bytes, OwnedSemaphorePermit)>,
    bytes: usize,
}

/// Sends the frames of a body to the thread that writes them. Frames form a batch while the thread is busy: a wake-up
/// of the thread for each frame would cost a quarter of the time of an upload.
async fn forward(
    content: &mut Content,
    queue: &mpsc::Sender<Batch>,
    memory: &Memory,
) -> Result<(), ApiError> {
    let mut batch = Batch::default();
    let received = loop {
        tokio::select! {
            biased;
            slot = queue.reserve(), if batch.bytes > 0 => match slot {
                Ok(slot) => slot.send(mem::take(&mut batch)),
                // The writer has failed; its result has the error.
                Err(_) => return Ok(()),
            },
            next = content.next(), if batch.bytes < MAX_BATCH_BYTES => match next {
                Ok(Some(frame)) => {
                    let counted_bytes = frame.len().max(MIN_COUNTED_FRAME_BYTES);
                    let permit = match memory.try_upload(counted_bytes)? {
                        Some(permit) => permit,
                        None => {
                            // An upload that waits for memory must not hold memory of unwritten frames.
                            let _ = queue.send(mem::take(&mut batch)).await;
                            memory.upload(counted_bytes).await?
                        }
                    };
                    batch.bytes += counted_bytes;
                    batch.frames.push((frame, permit));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
        }
    };
    // The bytes before an interruption are stored too.
    let _ = queue.send(batch).await;
    received
}

fn write_all(mut upload: Upload, mut batches: mpsc::Receiver<Batch>) -> crate::Result<Upload> {
    while let Some(batch) = batches.blocking_recv() {
        // An upload that waits for further frames holds no memory.
        let mut gathered = Vec::new();
        for (frame, _permit) in batch.frames {
            if gathered.is_empty() && frame.len() >= MIN_WRITE_BYTES {
                upload.write(&frame)?;
                continue;
            }
            gathered.extend_from_slice(&frame);
            if gathered.len() >= MIN_WRITE_BYTES {
                upload.write(&gathered)?;
                gathered.clear();
            }
        }
        upload.write(&gathered)?;
    }
    Ok(upload)
}
