//! [`Registry`]: a server of the OCI distribution API for the repositories of a folder.

mod auth;
mod blobs;
mod body;
mod connection;
mod dialect;
#[cfg(feature = "_ecr_emulation")]
pub mod ecr_emulation;
mod error;
mod manifests;
mod memory;
mod requests;
mod route;

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::auth::Authorize;
use self::connection::{Connections, Stream};
#[cfg(feature = "testing")]
pub(crate) use self::dialect::Faults;
use self::dialect::{Dialect, LocalDialect};
pub use self::error::HintCommands;
#[cfg(feature = "push")]
pub(super) use self::error::{STORAGE_FULL, is_storage_full};
use self::requests::Service;
use super::LocalBackend;
use super::address::{self, Announcement};
use super::store::{Store, SweepResult};
use super::token::Signer;
use crate::error::{Error, Result};

/// The time that running requests have to finish after the registry was stopped. Docker and others kill
/// a process after 10 seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);

/// The time without a write after which an upload is abandoned and removed. A blob that no image needs is removed
/// after the same time.
const UPLOAD_IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum number of connections that wait in the operating system until they are accepted. With 128, the
/// value of the standard library, clients retry with growing delays.
const MAX_WAITING_CONNECTIONS: i32 = 1024;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// A registry for docker, podman, skopeo and other clients.
///
/// The registry implements the whole OCI distribution specification v1.1 for the repositories of a
/// [`LocalBackend`]. Clients authenticate with a password of [`RegistryBackend::credentials`]. Any number of
/// registries and other processes may use the same folder at once.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md>
///
/// ```
/// use ark_container_core::backend::local::{LocalBackend, Registry};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let backend = LocalBackend::open(Some(folder))?;
/// let registry = Registry::bind(backend, "127.0.0.1:0".parse()?)?;
/// println!("serving on {}", registry.local_addr());
///
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let serving = tokio::spawn(registry.serve(async { drop(stopped.await) }));
/// drop(stop);
/// serving.await??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`RegistryBackend::credentials`]: crate::RegistryBackend::credentials
#[derive(Debug)]
pub struct Registry {
    listener: net::TcpListener,
    address: SocketAddr,
    store: Store,
    authorizer: Arc<dyn Authorize>,
    dialect: Arc<dyn Dialect>,
    announcement: Option<Announcement>,
    commands: Option<HintCommands>,
}

impl Registry {
    /// Binds the address; port 0 selects a free port. Clients can connect from then on, and receive responses
    /// once [`serve`](Self::serve) runs.
    ///
    /// # Errors
    /// [`Error::Failed`] if the address is in use or is not an address of this machine, or if the folder cannot
    /// be created or its key cannot be used.
    pub fn bind(backend: LocalBackend, address: SocketAddr) -> Result<Self> {
        let store = backend.store().clone();
        store.create()?;
        let signer = Signer::open(store.root())?;
        Self::bind_as(store, address, Arc::new(signer), Arc::new(LocalDialect))
    }

    /// Binds a registry whose requests can be made to fail.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    #[cfg(feature = "testing")]
    pub(crate) fn bind_with_faults(
        backend: LocalBackend,
        address: SocketAddr,
        faults: Faults,
    ) -> Result<Self> {
        Ok(Self { dialect: Arc::new(faults), ..Self::bind(backend, address)? })
    }

    /// Binds a registry that emulates another service with its passwords and its dialect.
    ///
    /// # Errors
    /// [`Error::Failed`] if the address is in use, or is not an address of this machine.
    fn bind_as(
        store: Store,
        address: SocketAddr,
        authorizer: Arc<dyn Authorize>,
        dialect: Arc<dyn Dialect>,
    ) -> Result<Self> {
        let listener =
            net::TcpListener::bind(address).map_err(|error| cannot_listen(address, error))?;
        rustix::net::listen(&listener, MAX_WAITING_CONNECTIONS)
            .map_err(|error| cannot_listen(address, error.into()))?;
        let address = listener.local_addr().map_err(|error| cannot_listen(address, error))?;
        Ok(Self {
            listener,
            address,
            store,
            authorizer,
            dialect,
            announcement: None,
            commands: None,
        })
    }

    /// Announces the address: while the registry runs, it is the host of the URLs of all repositories in the
    /// folder. A registry that serves a single push is not announced.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another announced registry serves the folder.
    pub fn announced(mut self) -> Result<Self> {
        self.announcement = Some(address::announce(&self.store, self.address)?);
        Ok(self)
    }

    /// Adds commands to the error messages, which clients such as docker show to their users.
    pub fn with_hint_commands(mut self, commands: HintCommands) -> Self {
        self.commands = Some(commands);
        self
    }

    /// Returns the address that the registry listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes.
    ///
    /// The registry then accepts no more connections, gives running requests up to 8 seconds to finish, and
    /// aborts the remaining ones. The received bytes of an upload are stored, and the upload can resume at the
    /// next registry over the folder. Dropping the future closes all connections immediately.
    ///
    /// An [announced](Self::announced) registry removes abandoned uploads and blobs, at the start and every hour.
    /// An upload is abandoned after a day without a write. A blob is abandoned if no image needs it and no client
    /// has requested it for a day.
    ///
    /// # Errors
    /// [`Error::Failed`] if the runtime cannot use the listening socket. The failure of a request is sent to its
    /// client and logged.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let failed =
            |error| Error::failed(format!("cannot serve on {}", self.address)).with_source(error);
        self.listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(self.listener).map_err(failed)?;
        let cut = CancellationToken::new();
        let stopping = cut.child_token();
        let _cut_when_dropped = cut.clone().drop_guard();
        let tasks = TaskTracker::new();
        // A sweep reads every repository, which would delay a registry that serves a single push.
        if self.announcement.is_some() {
            let sweeping = sweep_hourly(self.store.clone());
            tasks.spawn(stopping.clone().run_until_cancelled_owned(sweeping));
        }
        let service = Arc::new(Service::new(
            self.store,
            self.authorizer,
            self.dialect,
            self.commands,
            tasks.clone(),
        ));
        tracing::info!(address = %self.address, "serving");

        let accepting = accept_all(listener, service, &tasks, &stopping, &cut);
        let stop = async {
            shutdown.await;
            stopping.cancel();
        };
        join(accepting, stop).await;
        tasks.close();
        if timeout(SHUTDOWN_TIMEOUT, tasks.wait()).await.is_err() {
            tracing::warn!("running requests are aborted");
            cut.cancel();
            tasks.wait().await;
        }
        drop(self.announcement);
        Ok(())
    }
}

fn cannot_listen(address: SocketAddr, error: io::Error) -> Error {
    Error::failed(format!("cannot listen on {address}")).with_source(error)
}

async fn sweep_hourly(store: Store) {
    let mut hours = interval(SWEEP_INTERVAL);
    hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        hours.tick().await;
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.sweep(UPLOAD_IDLE_TIMEOUT)).await {
            Ok(Ok(swept)) => {
                let SweepResult { uploads, blobs, leftovers } = swept;
                tracing::debug!(uploads, blobs, leftovers, "swept");
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot sweep abandoned uploads"),
            Err(error) => tracing::warn!(%error, "cannot sweep abandoned uploads"),
        }
    }
}

/// The time that a connection may be idle between two requests.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The size of a connection's buffers, which limits the headers of a request and the frames of an upload. A
/// token for several hundred organizations fits.
const BUFFER_BYTES: usize = 64 * 1024;

/// The delay after a failed `accept`, for example for lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts connections until `stopping` is cancelled. Each connection then ends after its current request, or
/// when `cut` is cancelled.
async fn accept_all(
    listener: TcpListener,
    service: Arc<Service>,
    tasks: &TaskTracker,
    stopping: &CancellationToken,
    cut: &CancellationToken,
) {
    let connections = Connections::new();
    while let Some(accepted) =
        stopping.run_until_cancelled(connections.accept(&listener, cut)).await
    {
        match accepted {
            Ok((stream, closed)) => {
                let serving = serve(stream, service.clone(), stopping.clone());
                tasks.spawn(closed.run_until_cancelled_owned(serving));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve(stream: Stream, service: Arc<Service>, stopping: CancellationToken) {
    let connection = stream.connection().clone();
    let respond = service_fn(move |request| service.clone().handle(request, connection.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE_TIMEOUT)
        .max_header_size(BUFFER_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), respond);
    let mut connection = std::pin::pin!(connection);
    let ended = match stopping.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(feature = "_fuzzing")]
pub(super) mod fuzzing {
    //! Private parsers of the registry, for the fuzz targets.

    use hyper::HeaderMap;
    use hyper::header::{AUTHORIZATION, HeaderValue};

    use super::auth;
    use super::blobs::{self, RequestedRange};
    use super::route::Target;
    use crate::model::RepositoryPath;

    /// The endpoint that the path of a URL names.
    #[derive(Debug, PartialEq, Eq)]
    pub enum Route {
        /// The check of the API version.
        Base,
        /// No endpoint.
        Unknown,
        /// An endpoint of an invalid repository.
        InvalidRepository,
        /// An endpoint of a repository, with its `Debug` output.
        In(RepositoryPath, String),
    }

    /// Returns the endpoint that the path of a URL names.
    pub fn route(path: &str) -> Route {
        match Target::parse(path) {
            Target::Base => Route::Base,
            Target::Unknown => Route::Unknown,
            Target::InRepository { path: Err(_), .. } => Route::InvalidRepository,
            Target::InRepository { path: Ok(path), resource } => {
                Route::In(path, format!("{resource:?}"))
            }
        }
    }

    /// Returns the first and the last byte that a `Range` header requests of `size` bytes.
    pub fn range(header: &str, size: u64) -> Option<(u64, u64)> {
        match blobs::parse_range(header, size) {
            RequestedRange::Part { first, last } => Some((first, last)),
            RequestedRange::Whole | RequestedRange::Unsatisfiable => None,
        }
    }

    /// Returns the offset and the length of the part that a `Content-Range` header announces.
    pub fn chunk(header: &str) -> Option<(u64, u64)> {
        blobs::parse_chunk(header)
    }

    /// Returns the password in an `Authorization` header.
    pub fn password(header: &[u8]) -> Option<String> {
        let value = HeaderValue::from_bytes(header).ok()?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        auth::password(&headers).map(|password| password.expose().to_owned())
    }
}
