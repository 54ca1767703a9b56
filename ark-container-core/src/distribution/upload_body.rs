//! [`UploadBody`]: the content of an upload; and [`UploadMonitor`]: detects a stalled upload.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::bytes::Bytes;

use super::client::RESPONSE_TIMEOUT;
use crate::error::BoxError;

/// The maximum time in which a registry verifies and stores an upload.
const STORE_TIMEOUT: Duration = Duration::from_secs(300);

/// Observes an upload while it is sent.
#[derive(Debug, Clone)]
pub(super) struct UploadMonitor(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The number of bytes that are not sent yet; `None` if the size is unknown.
    remaining: Option<u64>,
    has_ended: bool,
    moved_at: Instant,
    failure: Option<BoxError>,
}

impl UploadMonitor {
    /// Returns a body of `size` bytes and its monitor. Content of another size is an error.
    pub(super) fn start<S>(pieces: S, size: u64) -> (UploadBody<S>, Self) {
        Self::start_with(pieces, Some(size))
    }

    /// Returns a body of unknown size and its monitor.
    pub(super) fn start_unsized<S>(pieces: S) -> (UploadBody<S>, Self) {
        Self::start_with(pieces, None)
    }

    fn start_with<S>(pieces: S, size: Option<u64>) -> (UploadBody<S>, Self) {
        let state = State {
            remaining: size,
            has_ended: size == Some(0),
            moved_at: Instant::now(),
            failure: None,
        };
        let sending = Self(Arc::new(Mutex::new(state)));
        (UploadBody { pieces: Box::pin(pieces), sending: sending.clone(), failed: false }, sending)
    }

    /// Waits until the upload is stalled: no piece was sent within the timeout.
    pub(super) async fn stalled(&self) {
        loop {
            let deadline = self.with(|state| {
                state.moved_at + if state.has_ended { STORE_TIMEOUT } else { RESPONSE_TIMEOUT }
            });
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    /// Returns the error of reading the content, if there was one. A second call returns `None`.
    pub(super) fn failure(&self) -> Option<BoxError> {
        self.with(|state| state.failure.take())
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // The state is consistent after every change, so a panic in another thread is harmless.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Counts sent bytes.
    fn count(&mut self, bytes: u64) -> io::Result<()> {
        let Some(remaining) = self.remaining else { return Ok(()) };
        let too_many = || io::Error::other("it is longer than expected");
        let remaining = remaining.checked_sub(bytes).ok_or_else(too_many)?;
        self.remaining = Some(remaining);
        self.has_ended = remaining == 0;
        Ok(())
    }
}

/// The body of an upload, in pieces.
pub(super) struct UploadBody<S> {
    pieces: Pin<Box<S>>,
    sending: UploadMonitor,
    failed: bool,
}

impl<S, E> Stream for UploadBody<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    type Item = Result<Bytes, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let read = std::task::ready!(self.pieces.as_mut().poll_next(cx));
        let next = self.sending.with(|state| {
            state.moved_at = Instant::now();
            let failure: BoxError = match read {
                Some(Ok(piece)) => match state.count(piece.len() as u64) {
                    Ok(()) => return Some(Ok(piece)),
                    Err(error) => error.into(),
                },
                None => match state.remaining {
                    None | Some(0) => {
                        state.has_ended = true;
                        return None;
                    }
                    Some(missing) => {
                        let problem = format!("it ends {missing} bytes too early");
                        io::Error::new(io::ErrorKind::UnexpectedEof, problem).into()
                    }
                },
                Some(Err(error)) => error.into(),
            };
            state.failure = Some(failure);
            Some(Err("the content cannot be read"))
        });
        self.failed = matches!(next, Some(Err(_)));
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn upload_stalls_only_without_sent_bytes() {
        let pieces = stream::iter(["x"; 3].map(|piece| Ok::<_, io::Error>(Bytes::from(piece))));
        let (mut content, sending) = UploadMonitor::start(pieces, 3);
        let started = Instant::now();
        let moving = async {
            for _ in 0..2 {
                tokio::time::sleep(RESPONSE_TIMEOUT - Duration::from_secs(1)).await;
                content.next().await.unwrap().unwrap();
            }
        };
        let ((), ()) = futures_util::future::join(sending.stalled(), moving).await;
        assert_eq!(started.elapsed(), 3 * RESPONSE_TIMEOUT - Duration::from_secs(2));
    }

    #[tokio::test]
    async fn content_of_another_size_fails() {
        for size in [6, 8] {
            let pieces = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"content"))]);
            let (content, sending) = UploadMonitor::start(pieces, size);
            assert!(content.collect::<Vec<_>>().await.pop().unwrap().is_err());
            assert!(sending.failure().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn registry_has_time_to_store_upload() {
        let (content, sending) = UploadMonitor::start(
            stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"content"))]),
            7,
        );
        assert_eq!(content.count().await, 1);
        let started = Instant::now();
        sending.stalled().await;
        assert_eq!(started.elapsed(), STORE_TIMEOUT);
        assert!(sending.failure().is_none());
    }
}
