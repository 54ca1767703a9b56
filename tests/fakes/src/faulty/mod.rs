//! [`FaultyRegistry`]: a registry behind a link that fails, by chance and yet repeatably.

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

/// A registry behind a link that goes wrong, by chance and yet repeatably; it stops when it is dropped.
///
/// It passes requests on to a real registry on this machine. After [`disturb`](Self::disturb), some are
/// refused for now (408, 429, 500, 502, 503, 504) or for their credentials (401), come twice, come late, or
/// are cut at any byte; and some answers name another digest, are cut at any byte, or are lost after
/// what was asked for was done. What happens to the nth request of a kind follows from the seed.
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
/// // … a push with `with_endpoint(faulty.host())`, whose log is explained by:
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

/// What all connections share.
#[derive(Debug)]
struct Link {
    upstream: RegistryHost,
    client: reqwest::Client,
    plan: Mutex<FaultPlan>,
    received: AtomicU64,
}

impl FaultyRegistry {
    /// A link to the registry at `upstream`, on a free port of the loopback interface. Nothing goes
    /// wrong yet.
    ///
    /// # Errors
    /// [`Error::Failed`] if no port can be taken.
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

    /// Where it listens: what a push takes as its endpoint.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// Lets things go wrong from now on, and forgets those that did.
    pub fn disturb(&self, seed: u64) {
        *self.link.plan() = FaultPlan::new(seed);
    }

    /// Lets nothing go wrong any more.
    pub fn calm(&self) {
        self.link.plan().end();
    }

    /// What went wrong, in order: for the message of a test that fails.
    pub fn faults(&self) -> Vec<String> {
        self.link.plan().told().to_vec()
    }

    /// How many bytes clients have sent so far, heads of requests included.
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
            Err(error) => tracing::warn!(%error, "the faulty registry cannot take a connection"),
        }
    }
}

async fn serve(stream: TcpStream, link: Arc<Link>) {
    // Whatever comes late because this failed is still right.
    let _ = stream.set_nodelay(true);
    let cut = link.plan().connection();
    let wire = TokioIo::new(CutConnection::new(stream, cut, link.clone()));
    let service = service_fn(move |request| relay::answer(link.clone(), request));
    if let Err(error) = http1::Builder::new().serve_connection(wire, service).await {
        tracing::debug!(%error, "a connection to the faulty registry ended early");
    }
}

/// A connection that is cut after some byte in one of its directions, and counts what comes in.
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
        // At once, and not with the next byte: the client may be waiting for an answer.
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
