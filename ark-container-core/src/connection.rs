//! [`Connection`]: opens clients of a backend's repositories, with logins that are renewed; and
//! [`LoginScope`], how far these logins reach.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::RegistryBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::distribution::{Authenticate, Client, Manifest, Retry};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{
    Access, Digest, Reference, RegistryHost, RepositoryPath, RepositoryUrl, Scope, Tag,
};
use crate::permission::Permissioned;

/// How far a login reaches that is requested for one repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoginScope {
    /// The repository alone, with the access level that the operation needs.
    #[default]
    Repository,
    /// All repositories of the organization, to pull and to push: one login, where the backend caches
    /// logins, for all that a build uploads.
    Organization,
}

impl LoginScope {
    /// Returns the scope of a login that grants `access` to the repository at `path`.
    pub(crate) fn of(self, path: &RepositoryPath, access: Access) -> Scope {
        match self {
            Self::Repository => Scope::repository(path.clone(), access),
            Self::Organization => {
                let access = access.max(Access::Push);
                Scope::organizations(path.stage().clone(), [path.organization()], access)
            }
        }
    }
}

/// Options for the credentials of a transfer.
///
/// A transfer renews its credentials when they expire, so that cached ones are good enough however little
/// of a configured lifetime is left.
const TRANSFER_CREDENTIALS: CredentialsOptions = CredentialsOptions {
    lifetime: None,
    min_remaining: Some(Duration::ZERO),
    require_scoped: false,
};

/// How long the backend may take to say why an image is missing, which delays the error.
const REASON_TIMEOUT: Duration = Duration::from_secs(3);

/// A backend, where its registry is dialled, and how requests are retried.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    backend: Arc<dyn RegistryBackend>,
    endpoint: Endpoint,
    retry: Retry,
    /// The guarded backend of a catalog, whose audit records what is pushed.
    audited: Option<Permissioned<Arc<dyn RegistryBackend>>>,
}

/// Where a registry is dialled.
#[derive(Debug, Clone)]
enum Endpoint {
    /// At the host that the credentials name.
    CredentialsHost,
    /// At another host.
    Host(RegistryHost),
    /// At a registry over this folder, in this process.
    #[cfg(feature = "local")]
    Folder(LocalBackend),
    /// At this address, where this process serves the folder.
    #[cfg(feature = "local")]
    ServedFolder(RegistryHost, LocalBackend),
}

impl Connection {
    /// Returns a connection that dials the host which the backend's credentials name.
    pub(crate) fn new(backend: Arc<dyn RegistryBackend>) -> Self {
        let (endpoint, retry) = (Endpoint::CredentialsHost, Retry::default());
        Self { backend, endpoint, retry, audited: None }
    }

    /// Returns a connection of a catalog, whose audit records what is pushed.
    pub(crate) fn audited(backend: &Permissioned<Arc<dyn RegistryBackend>>) -> Self {
        Self { audited: Some(backend.clone()), ..Self::new(Arc::new(backend.clone())) }
    }

    /// Runs a push to the repository at `path`, and records it where there is an audit.
    ///
    /// `source` is the image that is copied, and `digest` finds the digest in the result.
    pub(crate) async fn record_push<T>(
        &self,
        path: &RepositoryPath,
        tag: Option<&Tag>,
        source: Option<String>,
        push: impl Future<Output = Result<T>>,
        digest: impl Fn(&T) -> &Digest,
    ) -> Result<T> {
        let Some(backend) = &self.audited else { return push.await };
        let mut change = backend.begin_push(path).await?;
        if let Some(tag) = tag {
            change.set_reference(&Reference::Tag(tag.clone()));
        }
        if let Some(source) = source {
            change.set_source(source);
        }
        let pushed = push.await;
        if let Ok(pushed) = &pushed {
            change.set_digest(digest(pushed));
        }
        change.finish(&pushed).await;
        pushed
    }

    /// Dials another host than the credentials name.
    pub(crate) fn with_endpoint(self, endpoint: RegistryHost) -> Self {
        Self { endpoint: Endpoint::Host(endpoint), ..self }
    }

    /// Serves a folder of this machine within the process instead of dialling a server.
    #[cfg(feature = "local")]
    pub(crate) fn with_local(self, local: &LocalBackend) -> Self {
        Self { endpoint: Endpoint::Folder(local.clone()), ..self }
    }

    /// Returns how requests are retried.
    pub(crate) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Sets how requests are retried.
    pub(crate) fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Does the work with a connection to a server: a folder is served until the work has ended, and
    /// what has arrived of uploads is stored by then.
    pub(crate) async fn serve_while<T, F>(self, work: impl FnOnce(Self) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        match self.endpoint.clone() {
            #[cfg(feature = "local")]
            Endpoint::Folder(local) => {
                let local = local.for_one_transfer();
                let served = |host| Endpoint::ServedFolder(host, local.clone());
                local.serve_while(|host| work(Self { endpoint: served(host), ..self })).await
            }
            _ => work(self).await,
        }
    }

    /// Opens a client of a repository with credentials for `scope`, which it renews by itself.
    ///
    /// A folder is served for as long as the client or a clone of it exists.
    pub(crate) async fn client(&self, path: &RepositoryPath, scope: &Scope) -> Result<Client> {
        let credentials = self.backend.credentials(scope, &TRANSFER_CREDENTIALS).await?;
        // The credentials name the registry that accepts them, also where an emulator stands in for it.
        let host = credentials.host.clone();
        let url = RepositoryUrl::new(host.clone(), path.clone());
        let client = match &self.endpoint {
            Endpoint::CredentialsHost => Client::new(url, credentials)?,
            Endpoint::Host(endpoint) => Client::with_endpoint(url, credentials, endpoint)?,
            #[cfg(feature = "local")]
            Endpoint::ServedFolder(endpoint, _) => {
                Client::with_endpoint(url, credentials, endpoint)?
            }
            #[cfg(feature = "local")]
            Endpoint::Folder(local) => {
                let (endpoint, server) = local.serve_until_dropped()?;
                Client::with_endpoint(url, credentials, &endpoint)?.with_server(Arc::new(server))
            }
        };
        let login = BackendLogin { backend: Arc::clone(&self.backend), scope: scope.clone() };
        Ok(client.with_retry(self.retry.clone()).with_authenticate(Arc::new(login)))
    }
}

impl Connection {
    /// Fetches the manifest or index of an image.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist. Where the backend knows why it
    /// cannot be read, such as that it is archived, the source of the error says so.
    pub(crate) async fn fetch_image(
        &self,
        client: &Client,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Manifest> {
        let missing = match client.fetch_manifest(reference).await {
            Err(error @ Error::NotFound { kind: ResourceKind::Image, .. }) => error,
            fetched => return fetched,
        };
        let described = self.backend.describe_image(path, reference);
        match tokio::time::timeout(REASON_TIMEOUT, described).await {
            Ok(Err(Error::NotFound { source: Some(reason), .. })) => {
                Err(missing.with_source(reason))
            }
            _ => Err(missing),
        }
    }
}

/// The blobs of a registry on this machine, which are copied from file to file. The caller must have opened a client
/// with credentials for the repository: these methods do not authorize.
impl Connection {
    /// Returns the folder of the registry, and the path of a blob in it, if they are on this machine.
    pub(crate) async fn find_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
    ) -> Result<Option<(PathBuf, PathBuf)>> {
        match &self.endpoint {
            #[cfg(feature = "local")]
            Endpoint::ServedFolder(_, local) => local.find_blob(path, digest).await,
            _ => {
                let (_, _) = (path, digest);
                Ok(None)
            }
        }
    }

    /// Tells a registry on this machine that the transfer has ended, so that its claims of blobs end.
    pub(crate) async fn end_claims(&self, path: &RepositoryPath) {
        match &self.endpoint {
            #[cfg(feature = "local")]
            Endpoint::ServedFolder(_, local) => local.end_claims(path).await,
            _ => {
                let _ = path;
            }
        }
    }

    /// Returns whether [`import_blob`](Self::import_blob) may be called.
    pub(crate) fn imports_blobs(&self) -> bool {
        match &self.endpoint {
            #[cfg(feature = "local")]
            Endpoint::ServedFolder(..) => true,
            _ => false,
        }
    }

    /// Stores a range of a file as a blob of a registry on this machine. `copied` is called with the length of each
    /// piece, and ends the copy by returning `false`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the content has another digest; [`Error::Failed`] if it cannot be copied.
    pub(crate) async fn import_blob(
        &self,
        path: &RepositoryPath,
        digest: &Digest,
        source: (Arc<File>, Range<u64>),
        copied: impl FnMut(u64) -> bool + Send + 'static,
    ) -> Result<()> {
        match &self.endpoint {
            #[cfg(feature = "local")]
            Endpoint::ServedFolder(_, local) => {
                local.import_blob(path, digest, source, copied).await
            }
            _ => {
                let (_, _) = (source, copied);
                let why = "the registry is not on this machine";
                Err(Error::failed(format!("cannot copy {digest} to {path}: {why}")))
            }
        }
    }
}

/// Renews a client's credentials by asking the backend that gave the first ones.
#[derive(Debug)]
struct BackendLogin {
    backend: Arc<dyn RegistryBackend>,
    scope: Scope,
}

#[async_trait]
impl Authenticate for BackendLogin {
    async fn renew(&self) -> Result<RegistryCredentials> {
        self.backend.credentials(&self.scope, &TRANSFER_CREDENTIALS).await
    }
}

/// Adds the options that every transfer has to a builder with a field `connection`.
macro_rules! connection_options {
    ($builder:ident) => {
        impl $builder {
            /// Uses the connection of a catalog.
            pub(crate) fn with_connection(
                self,
                connection: $crate::connection::Connection,
            ) -> Self {
                Self { connection, ..self }
            }

            /// Dials another host than the credentials name: a tunnel, or a registry that the program
            /// serves to itself on a port of its own.
            pub fn with_endpoint(self, endpoint: $crate::model::RegistryHost) -> Self {
                Self { connection: self.connection.with_endpoint(endpoint), ..self }
            }

            /// Serves a folder of this machine for as long as this takes: no server has to run, and one
            /// that runs is not disturbed.
            #[cfg(feature = "local")]
            pub fn with_local(self, local: &$crate::backend::local::LocalBackend) -> Self {
                Self { connection: self.connection.with_local(local), ..self }
            }

            /// Sets how temporary errors are retried. Clones of a [`Retry`](crate::distribution::Retry)
            /// share their budget.
            pub fn with_retry(self, retry: $crate::distribution::Retry) -> Self {
                Self { connection: self.connection.with_retry(retry), ..self }
            }
        }
    };
}

pub(crate) use connection_options;

#[cfg(test)]
#[cfg(all(feature = "local", feature = "testing"))]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::RegistryBackendExt;
    use crate::backend::CreateOptions;
    use crate::model::OrganizationId;

    #[tokio::test]
    async fn client_of_local_folder_serves_it_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalBackend::open(Some(folder.path())).unwrap();
        let path = local.repository_path(OrganizationId::TBD, &"a".parse().unwrap()).unwrap();
        local.create_repository(&path, &CreateOptions::default()).await.unwrap();
        let connection = Connection::new(Arc::new(local.clone())).with_local(&local);
        let scope = Scope::repository(path.clone(), Access::Push);
        let client = connection.client(&path, &scope).await.unwrap();
        let digest = client.upload_blob_bytes("content").await.unwrap();
        // What is being fetched keeps the server alive, too.
        let content = client.fetch_blob(&digest).await.unwrap();
        let server = client.base().clone();
        drop(client);
        let pieces: Vec<_> = content.try_collect().await.unwrap();
        assert_eq!(pieces.concat(), b"content");
        tokio::task::yield_now().await;
        assert!(reqwest::get(server).await.unwrap_err().is_connect());
    }
}
