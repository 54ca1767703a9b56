//! [`FaultyRegistry`]: a registry behind a faulty link, with repeatable random faults.

mod fault;
mod relay;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use ark_container_core::model::RegistryHost;
use ark_container_core::{Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::fault::{Cut, Fault, FaultPlan};

/// A registry behind a faulty link, with repeatable random faults. Dropping it stops the link.
///
/// The link forwards requests to a real registry on this machine. After [`disturb`](Self::disturb), some requests fail
/// with a temporary error (408, 429, 500, 502, 503, 504) or an authentication error (401), are duplicated, are delayed,
/// or end at any byte. Some responses have a wrong digest, end at any byte, or are lost after the request took effect.
/// The seed determines the fault of the nth request of a kind.
///
/// ```
/// use ark_container_core::backend::local::{LocalBackend, Registry};
/// use ark_container_fakes::FaultyRegistry;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let registry = Registry::bind(LocalBackend::open(Some(folder))?, "127.0.0.1:0".parse()?)?;
/// let faulty = FaultyRegistry::start(registry.local_addr().into()).await?;
/// tokio::spawn(registry.serve(std::future::pending()));
/// faulty.disturb(7);
/// // … a push with `with_endpoint(faulty.host())`. The faults explain its log:
/// assert!(faulty.faults().is_empty());
/// faulty.calm();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyRegistry {
    host: RegistryHost,
    link: Arc<Link>,
    _stop: DropGuard,
}

/// The state that all connections share.
#[derive(Debug)]
struct Link {
    upstream: RegistryHost,
    client: reqwest::Client,
    plan: Mutex<FaultPlan>,
    received: AtomicU64,
}

impl FaultyRegistry {
    /// Starts a link to the registry at `upstream` on a free port of the loopback interface, without faults.
    ///
    /// # Errors
    /// [`Error::Failed`] if no port is free.
    pub async fn start(upstream: RegistryHost) -> Result<Self> {
        let failed = |error| Error::failed("no port for a faulty registry").with_source(error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let host = listener.local_addr().map_err(failed)?.into();
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build();
        let client =
            client.map_err(|error| Error::failed("no client of a registry").with_source(error))?;
        let (plan, received) = (Mutex::default(), AtomicU64::new(0));
        let link = Arc::new(Link { upstream, client, plan, received });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            link.clone(),
            stop.clone(),
        )));
        Ok(Self { host, link, _stop: stop.drop_guard() })
    }

    /// Returns the address of the link, the endpoint of a push.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// Starts faults that a seed determines, and clears the list of faults.
    pub fn disturb(&self, seed: u64) {
        *self.link.plan() = FaultPlan::new(seed);
    }

    /// Stops faults.
    pub fn calm(&self) {
        self.link.plan().end();
    }

    /// Returns the faults so far in order, for the message of a failed test.
    pub fn faults(&self) -> Vec<String> {
        self.link.plan().occurred().to_vec()
    }

    /// Returns the number of bytes that clients have sent, with the heads of requests.
    pub fn received(&self) -> u64 {
        self.link.received.load(Ordering::Relaxed)
    }
}

impl Link {
    fn plan(&self) -> MutexGuard<'_, FaultPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>, stop: CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, link.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => tracing::warn!(%error, "the faulty registry cannot accept a connection"),
        }
    }
}

async fn serve(stream: TcpStream, link: Arc<Link>) {
    // A failure only delays responses.
    let _ = stream.set_nodelay(true);
    let cut = link.plan().connection();
    let wire = TokioIo::new(CutConnection::new(stream, cut, link.clone()));
    let service = service_fn(move |request| relay::answer(link.clone(), request));
    if let Err(error) = http1::Builder::new().serve_connection(wire, service).await {
        tracing::debug!(%error, "a connection to the faulty registry ended early");
    }
}

/// A connection that is closed after some byte in one of its directions. Received bytes are counted.
struct CutConnection {
    stream: TcpStream,
    cut: Cut,
    link: Arc<Link>,
}

impl CutConnection {
    fn new(stream: TcpStream, cut: Cut, link: Arc<Link>) -> Self {
        Self { stream, cut, link }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for CutConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection is closed now and not with the next byte, because the client may wait for a response.
        if matches!(self.cut, Cut::Received(0)) {
            return Poll::Ready(Err(reset()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        self.link.received.fetch_add(read, Ordering::Relaxed);
        if let Cut::Received(left) = &mut self.cut {
            let kept = read.min(*left);
            *left -= kept;
            buffer.set_filled(before + kept as usize);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CutConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Cut::Sent(left) = self.cut else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        if left == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(reset()));
        }
        let most = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..most]))?;
        self.cut = Cut::Sent(left - written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
