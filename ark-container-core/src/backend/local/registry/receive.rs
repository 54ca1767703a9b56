//! What clients send: bodies, received with bounded memory and cut when they stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::error::{ApiError, Code};
use crate::backend::local::store::Upload;

/// How long a client may send nothing, or take nothing, before it is cut.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// Frames on their way to the disk. A frame is at most as large as the connection's read buffer.
const QUEUED_FRAMES: usize = 8;

/// Frames smaller than this are written together: each write costs a system call.
const WRITE_SIZE: usize = 128 * 1024;

/// What is read and thrown away after a refusal.
const DISCARD_AT_MOST: u64 = 8 * 1024 * 1024;
const DISCARD_FOR: Duration = Duration::from_secs(2);

/// The body of a request, and how much of it has come.
pub(super) struct Content {
    incoming: Incoming,
    received: u64,
}

impl Content {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self { incoming, received: 0 }
    }

    /// How many bytes have come so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether nothing more will come.
    pub(super) fn is_at_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// How long the client said that it is; `None` if it did not.
    pub(super) fn declared_length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = match timeout(STALL, self.incoming.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    let message = format!("the request's body ended early: {error}");
                    return Err(ApiError::bad_request(Code::BlobUploadInvalid, message));
                }
                Err(_) => return Err(stalled()),
            };
            // Trailers say nothing that the registry needs.
            if let Ok(bytes) = frame.into_data() {
                self.received += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
    }

    /// The whole of it; `None` if it is longer than `limit` bytes.
    pub(super) async fn collect(&mut self, limit: usize) -> Result<Option<Vec<u8>>, ApiError> {
        if self.incoming.size_hint().lower() > limit as u64 {
            return Ok(None);
        }
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(whole))
    }

    /// Reads on for a while, so that a client which is still sending when it is refused sees the
    /// answer instead of a connection that was reset.
    pub(super) async fn discard(&mut self) {
        let until = self.received.saturating_add(DISCARD_AT_MOST);
        let reading =
            async { while self.received < until && matches!(self.next().await, Ok(Some(_))) {} };
        // Whether the client was done or not, it now gets its answer.
        let _ = timeout(DISCARD_FOR, reading).await;
    }
}

fn stalled() -> ApiError {
    let message = format!("nothing was received for {} seconds", STALL.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, message)
        .with_header(CONNECTION, HeaderValue::from_static("close"))
}

/// Appends a body to an upload.
///
/// The bytes go to one blocking task that hashes and writes them. It outlives a request that is cut,
/// so that whatever has arrived is stored and the upload can go on from there; or, unless it
/// `keeps_cut_parts`, goes on from where it was.
pub(super) async fn append(
    tasks: &TaskTracker,
    upload: Upload,
    content: &mut Content,
    keeps_cut_parts: bool,
) -> Result<Upload, ApiError> {
    if content.is_at_end() {
        return Ok(upload);
    }
    let (queue, frames) = mpsc::channel(QUEUED_FRAMES);
    let is_whole = Arc::new(AtomicBool::new(keeps_cut_parts));
    let writer = tasks.spawn_blocking({
        let is_whole = Arc::clone(&is_whole);
        move || {
            let before = upload.checkpoint();
            let mut upload = write_all(upload, frames)?;
            if !is_whole.load(Ordering::Acquire) {
                upload.roll_back(before)?;
            }
            Ok::<_, crate::Error>(upload)
        }
    });
    let received = forward(content, &queue).await;
    is_whole.fetch_or(received.is_ok(), Ordering::Release);
    drop(queue);
    let upload = writer.await.map_err(ApiError::internal)??;
    received.map(|()| upload)
}

async fn forward(content: &mut Content, queue: &mpsc::Sender<Bytes>) -> Result<(), ApiError> {
    while let Some(bytes) = content.next().await? {
        // A writer that takes no more has failed, and says itself why.
        if queue.send(bytes).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn write_all(mut upload: Upload, mut frames: mpsc::Receiver<Bytes>) -> crate::Result<Upload> {
    let mut gathered = Vec::new();
    while let Some(frame) = frames.blocking_recv() {
        if frame.len() >= WRITE_SIZE {
            upload.write(&frame)?;
            continue;
        }
        gathered.clear();
        gathered.extend_from_slice(&frame);
        while gathered.len() < WRITE_SIZE
            && let Ok(frame) = frames.try_recv()
        {
            gathered.extend_from_slice(&frame);
        }
        upload.write(&gathered)?;
    }
    Ok(upload)
}
