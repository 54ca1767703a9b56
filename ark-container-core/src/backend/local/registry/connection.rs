//! [`Connection`]: the timeouts of a connection, and the limit of open connections.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::body::IDLE_TIMEOUT;

/// The maximum number of open connections. Further ones wait in the operating system's queue. Each connection
/// may hold one of the 512 blocking threads of a runtime. macOS limits a process to 256 open files by default.
const MAX_CONNECTIONS: usize = if cfg!(target_os = "macos") { 64 } else { 256 };

/// The timeout for the headers of a request. For the first request of a connection it starts with the connection, and
/// for a later request with the first byte of the headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The minimum time since an unauthenticated connection first waited for its client, before the connection may be
/// closed to make room for a new one.
const MIN_EVICTION_AGE: Duration = Duration::from_secs(1);

/// The open connections of a registry.
#[derive(Debug)]
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    next_id: AtomicU64,
    /// The unauthenticated connections, oldest first, each with the time at which it first waited for its client. A
    /// connection whose first request has not been read yet is not in the list.
    unauthenticated: Mutex<BTreeMap<u64, (Instant, CancellationToken)>>,
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            next_id: AtomicU64::default(),
            unauthenticated: Mutex::default(),
        })
    }

    /// Accepts the next connection. Returns it with its token, a child of `cut`: the connection must end when
    /// the token is cancelled.
    ///
    /// If too many connections are open, the oldest unauthenticated one is closed, so that clients without a
    /// password cannot block the service.
    pub(super) async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        cut: &CancellationToken,
    ) -> io::Result<(Stream, CancellationToken)> {
        let (stream, _) = listener.accept().await?;
        let permit = self.acquire_permit().await;
        // A failure only delays responses.
        let _ = stream.set_nodelay(true);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let closed = cut.child_token();
        let connection = Connection {
            id,
            connections: self.clone(),
            closed: closed.clone(),
            is_tracked: AtomicBool::new(false),
            phase: Mutex::new(Phase::Headers),
            _permit: permit,
        };
        Ok((Stream::new(stream, Arc::new(connection)), closed))
    }

    async fn acquire_permit(&self) -> OwnedSemaphorePermit {
        loop {
            if self.permits.available_permits() == 0 {
                self.evict_oldest();
            }
            let permit = self.permits.clone().acquire_owned();
            if let Ok(Ok(permit)) = timeout(MIN_EVICTION_AGE / 10, permit).await {
                return permit;
            }
        }
    }

    fn evict_oldest(&self) {
        let mut unauthenticated = self.unauthenticated();
        if let Some(oldest) = unauthenticated.first_entry()
            && oldest.get().0.elapsed() >= MIN_EVICTION_AGE
        {
            tracing::debug!("too many connections: the oldest unauthenticated one is closed");
            oldest.remove().1.cancel();
        }
    }

    fn unauthenticated(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, CancellationToken)>> {
        // A panic while the map was locked leaves it consistent.
        self.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection. Dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    connections: Arc<Connections>,
    closed: CancellationToken,
    /// Whether the connection has authenticated or is in the list of unauthenticated connections.
    is_tracked: AtomicBool,
    phase: Mutex<Phase>,
    _permit: OwnedSemaphorePermit,
}

/// The next event on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The rest of the headers of a request.
    Headers,
    /// The response of a request.
    Response,
    /// The first byte of the next request.
    NextRequest,
}

impl Connection {
    /// Records that a request had a valid password. The connection is no longer closed to make room for others.
    pub(super) fn authenticated(&self) {
        self.is_tracked.store(true, Ordering::Relaxed);
        self.connections.unauthenticated().remove(&self.id);
    }

    /// Records that the connection waits for its client: all received bytes are read, or the client does not
    /// read a response.
    fn waits_for_client(&self) {
        if !self.is_tracked.swap(true, Ordering::Relaxed) {
            let waiting = (Instant::now(), self.closed.clone());
            self.connections.unauthenticated().insert(self.id, waiting);
        }
    }

    /// Records that the headers of a request have arrived. Dropping the result records the end of its
    /// response.
    pub(super) fn start_request(self: &Arc<Self>) -> RunningRequest {
        *self.phase() = Phase::Response;
        RunningRequest(self.clone())
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.authenticated();
    }
}

/// A request of a connection whose response has not ended.
#[derive(Debug)]
pub(super) struct RunningRequest(Arc<Connection>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        *self.0.phase() = Phase::NextRequest;
    }
}

/// The stream of a connection. Reading fails if headers take longer than [`HEADER_TIMEOUT`]. Writing fails if
/// the client receives nothing for [`IDLE_TIMEOUT`]. The readers of bodies have their own timeouts.
pub(super) struct Stream {
    tcp: TcpStream,
    connection: Arc<Connection>,
    headers: Option<IncomingHeaders>,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    fn new(tcp: TcpStream, connection: Arc<Connection>) -> Self {
        let headers = Some(IncomingHeaders::of_first_request());
        Self { tcp, connection, headers, write_deadline: None }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn watch_write<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_deadline = None;
            return polled;
        }
        // The connection also waits for a client that does not read its response.
        self.connection.waits_for_client();
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + IDLE_TIMEOUT)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.tcp).poll_read(context, buffer);
        let received = &mut buffer.filled_mut()[before..];
        let connection = self.connection.clone();
        if polled.is_pending() {
            connection.waits_for_client();
        }
        let mut phase = connection.phase();
        if *phase != Phase::Headers {
            self.headers = None;
        }
        if *phase == Phase::NextRequest && !received.is_empty() {
            *phase = Phase::Headers;
        }
        if *phase != Phase::Headers {
            return polled;
        }
        let headers = self.headers.get_or_insert_with(IncomingHeaders::of_later_request);
        headers.reject_bare_line_feed(received);
        if polled.is_pending() {
            ready!(headers.deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.watch_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        self.watch_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// The headers of an incoming request.
struct IncomingHeaders {
    deadline: Pin<Box<Sleep>>,
    /// The previous byte.
    previous: u8,
    /// Whether a line with content has arrived. Empty lines before the request line do not end the headers.
    has_content: bool,
    /// Whether the current line has no content yet.
    is_blank_line: bool,
    is_complete: bool,
}

impl IncomingHeaders {
    fn of_first_request() -> Self {
        Self {
            deadline: Box::pin(sleep_until(Instant::now() + HEADER_TIMEOUT)),
            previous: 0,
            has_content: false,
            is_blank_line: true,
            is_complete: false,
        }
    }

    /// Returns the headers of a request whose start may have been read together with the previous request. The
    /// first empty line ends them, so that no byte of a body is replaced.
    fn of_later_request() -> Self {
        Self { previous: b'\r', has_content: true, ..Self::of_first_request() }
    }

    /// Replaces a line feed without a carriage return by a NUL, which makes hyper reject the request with
    /// 400. By default, hyper accepts it as the end of a line, and a proxy may not.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc9112#section-2.2>
    fn reject_bare_line_feed(&mut self, received: &mut [u8]) {
        for byte in received {
            if self.is_complete {
                return;
            }
            match *byte {
                b'\n' if self.previous != b'\r' => {
                    *byte = 0;
                    self.is_complete = true;
                }
                b'\n' => {
                    self.is_complete = self.has_content && self.is_blank_line;
                    self.is_blank_line = true;
                }
                b'\r' => {}
                _ => (self.has_content, self.is_blank_line) = (true, false),
            }
            self.previous = *byte;
        }
    }
}
