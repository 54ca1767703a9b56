//! [`Sending`]: the content of an upload on its way, and whether it still moves.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, Take};
use tokio::time::{Instant, sleep_until};
use tokio_util::bytes::Bytes;
use tokio_util::io::ReaderStream;

use super::client::PATIENCE;

const PIECE_LEN: usize = 256 * 1024;
/// How long a registry may take to verify and store what it has received.
const STORING_PATIENCE: Duration = Duration::from_secs(300);

/// What is known of an upload while and after it runs.
#[derive(Debug, Clone)]
pub(super) struct Sending(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    remaining: u64,
    moved_at: Instant,
    failure: Option<io::Error>,
}

impl Sending {
    /// A stream of the first `size` bytes of `reader`, and the view on it.
    ///
    /// A stream that ends early fails rather than end.
    pub(super) fn start<R>(reader: R, size: u64) -> (Content<R>, Self)
    where
        R: AsyncRead + Send + 'static,
    {
        let state = State { remaining: size, moved_at: Instant::now(), failure: None };
        let sending = Self(Arc::new(Mutex::new(state)));
        let pieces = ReaderStream::with_capacity(reader.take(size), PIECE_LEN);
        (Content { pieces: Box::pin(pieces), sending: sending.clone() }, sending)
    }

    /// Ends when nothing has moved for too long.
    pub(super) async fn stalled(&self) {
        loop {
            let deadline = self.with(|state| {
                let sent = state.remaining == 0;
                state.moved_at + if sent { STORING_PATIENCE } else { PATIENCE }
            });
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    /// Why the content could not be read to its end, if so.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.with(|state| state.failure.take())
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // The state is whole after every change, so a panic elsewhere does not spoil it.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The content of an upload, in pieces.
pub(super) struct Content<R> {
    pieces: Pin<Box<ReaderStream<Take<R>>>>,
    sending: Sending,
}

impl<R: AsyncRead> Stream for Content<R> {
    type Item = Result<Bytes, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let read = std::task::ready!(self.pieces.as_mut().poll_next(cx));
        Poll::Ready(self.sending.with(|state| {
            state.moved_at = Instant::now();
            let failure = match read {
                Some(Ok(piece)) => {
                    state.remaining = state.remaining.saturating_sub(piece.len() as u64);
                    return Some(Ok(piece));
                }
                None if state.remaining == 0 => return None,
                None => {
                    let problem = format!("it ends {} bytes too early", state.remaining);
                    io::Error::new(io::ErrorKind::UnexpectedEof, problem)
                }
                Some(Err(error)) => error,
            };
            state.failure = Some(failure);
            Some(Err("the content cannot be read"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_moves_does_not_stall_and_one_that_stands_does() {
        let (mut content, sending) = Sending::start(tokio::io::repeat(1), 3 * PIECE_LEN as u64);
        let started = Instant::now();
        let moving = async {
            for _ in 0..2 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                content.next().await.unwrap().unwrap();
            }
        };
        let ((), ()) = futures_util::future::join(sending.stalled(), moving).await;
        assert_eq!(started.elapsed(), 3 * PATIENCE - Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_has_time_to_store_what_it_received() {
        let (content, sending) = Sending::start(&b"content"[..], 7);
        assert_eq!(content.count().await, 1);
        let started = Instant::now();
        sending.stalled().await;
        assert_eq!(started.elapsed(), STORING_PATIENCE);
        assert!(sending.failure().is_none());
    }
}
