//! A running local registry on a free port, a client for it, and a log.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::{HintCommands, LocalBackend, Registry};
use ark_container_core::model::{Access, OrganizationId, RepositoryPath, Scope, Stage};
pub(crate) use ark_container_fakes::registry_client::{
    Answer, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OURS, RegistryClient, THEIRS, answer, descriptor,
    path, sample, sha256, sha512,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Returns a scope with full access to an organization.
pub(crate) fn all_of(organization: OrganizationId) -> Scope {
    Scope::organizations(Stage::default(), [organization], Access::Delete)
}

/// The commands in the hints of a [`Server`].
pub(crate) const COMMANDS: HintCommands = HintCommands {
    login: |path| format!("log-in {}", path.map_or("any".to_owned(), ToString::to_string)),
    create_repository: |path| format!("create {path}"),
};

/// A running registry. Dropping it stops it.
pub(crate) struct Server {
    pub(crate) backend: LocalBackend,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<ark_container_core::Result<()>>,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts a registry in a new folder with the repository `app` of each organization.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(folder.path());
        server._folder = Some(folder);
        for organization in [OURS, THEIRS] {
            server.create(&path(organization, "app")).await;
        }
        server
    }

    /// Starts a registry in an existing folder.
    pub(crate) fn start_in(folder: &Path) -> Self {
        let backend = LocalBackend::open(Some(folder)).unwrap();
        let any_port = "127.0.0.1:0".parse().unwrap();
        let registry = Registry::bind(backend.clone(), any_port).unwrap();
        let registry = registry.with_hint_commands(COMMANDS);
        let address = registry.local_addr();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(registry.serve(async { drop(stopped.await) }));
        Self { backend, address, stop: Some(stop), serving, _folder: None }
    }

    pub(crate) async fn create(&self, path: &RepositoryPath) {
        self.backend.create_repository(path, &CreateOptions::default()).await.unwrap();
    }

    /// Requests the shutdown of the registry, without waiting for its end.
    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the registry has stopped.
    pub(crate) async fn stopped(mut self) {
        self.tell_to_stop();
        self.serving.await.unwrap().unwrap();
    }

    /// Returns a client with credentials for a scope.
    pub(crate) async fn client(&self, scope: &Scope) -> RegistryClient {
        let credentials = self.backend.credentials(scope, &Default::default()).await.unwrap();
        RegistryClient::new(self.address, credentials.password.expose())
    }

    /// Returns a client with full access to our organization.
    pub(crate) async fn our_client(&self) -> RegistryClient {
        self.client(&all_of(OURS)).await
    }
}

/// Advances tokio's clock by `time`.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Reads the rest of a connection that the other side closes.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends the connection as a close does.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The log of a program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
