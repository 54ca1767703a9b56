//! [`Connection`]: opens clients of a backend's repositories, and renews their logins within a [`LoginScope`].

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

/// The scope of the login that a transfer requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoginScope {
    /// The repository alone, with the access level that the operation needs.
    #[default]
    Repository,
    /// All repositories of the organization, to pull and push. If the backend caches logins, all uploads of
    /// a build share one login.
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
/// A transfer renews its credentials when they expire, and therefore accepts cached credentials that expire soon.
const TRANSFER_CREDENTIALS: CredentialsOptions = CredentialsOptions {
    lifetime: None,
    min_remaining: Some(Duration::ZERO),
    require_scoped: false,
};

/// The timeout of the request for the reason why an image is missing. The request delays the error.
const REASON_TIMEOUT: Duration = Duration::from_secs(3);

/// A backend, the address of its registry, and the retry settings.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    backend: Arc<dyn RegistryBackend>,
    endpoint: Endpoint,
    retry: Retry,
    /// The backend of a catalog, whose audit records each push.
    audited: Option<Permissioned<Arc<dyn RegistryBackend>>>,
}

/// The address of a registry.
#[derive(Debug, Clone)]
enum Endpoint {
    /// The host of the credentials.
    CredentialsHost,
    /// Another host.
    Host(RegistryHost),
    /// A folder, which this process serves when a client needs it.
    #[cfg(feature = "local")]
    Folder(LocalBackend),
    /// A folder that this process serves at this address.
    #[cfg(feature = "local")]
    ServedFolder(RegistryHost, LocalBackend),
}

impl Connection {
    /// Returns a connection to the host of the backend's credentials.
    pub(crate) fn new(backend: Arc<dyn RegistryBackend>) -> Self {
        let (endpoint, retry) = (Endpoint::CredentialsHost, Retry::default());
        Self { backend, endpoint, retry, audited: None }
    }

    /// Returns a connection of a catalog, whose audit records each push.
    pub(crate) fn audited(backend: &Permissioned<Arc<dyn RegistryBackend>>) -> Self {
        Self { audited: Some(backend.clone()), ..Self::new(Arc::new(backend.clone())) }
    }

    /// Runs a push to the repository at `path`, and records it in the audit of the catalog, if there is one.
    ///
    /// `source` is the source image of a copy. `digest` returns the digest of the result.
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

    /// Connects to another host than that of the credentials.
    pub(crate) fn with_endpoint(self, endpoint: RegistryHost) -> Self {
        Self { endpoint: Endpoint::Host(endpoint), ..self }
    }

    /// Serves a folder of this machine in this process, and connects to it.
    #[cfg(feature = "local")]
    pub(crate) fn with_local(self, local: &LocalBackend) -> Self {
        Self { endpoint: Endpoint::Folder(local.clone()), ..self }
    }

    /// Returns the retry settings.
    pub(crate) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Sets the retry settings.
    pub(crate) fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Runs `work` with a connection to a server. A folder is served until `work` has ended and the received
    /// parts of uploads are stored.
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

    /// Opens a client of a repository with credentials for `scope`, which the client renews.
    ///
    /// A folder is served until the client and its clones are dropped.
    pub(crate) async fn client(&self, path: &RepositoryPath, scope: &Scope) -> Result<Client> {
        let credentials = self.backend.credentials(scope, &TRANSFER_CREDENTIALS).await?;
        // The credentials name the registry that accepts them, which may be an emulator.
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
    /// [`Error::NotFound`] if the repository or the image does not exist. If the backend knows the reason,
    /// such as that the image is archived, the source of the error says so.
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

/// Direct access to the blobs of a registry on this machine, which are copied from file to file, without authorization.
/// The caller must have opened a client with credentials for the repository.
impl Connection {
    /// Returns the folder of the registry and the path of a blob in it, if both are on this machine.
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

    /// Ends the reservations of blobs that the transfer holds in a registry on this machine.
    pub(crate) async fn end_reservations(&self, path: &RepositoryPath) {
        match &self.endpoint {
            #[cfg(feature = "local")]
            Endpoint::ServedFolder(_, local) => local.end_reservations(path).await,
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

    /// Stores a range of a file as a blob of a registry on this machine. Calls `copied` after each write with its
    /// length in bytes; a return value of `false` cancels the copy.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the content has another digest; [`Error::Failed`] if the copy fails.
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

/// Renews the credentials of a client from the backend that returned the first ones.
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

/// Adds the options of every transfer to a builder with a field `connection`.
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

            /// Connects to another host than that of the credentials, such as a tunnel or a registry that this
            /// program serves.
            pub fn with_endpoint(self, endpoint: $crate::model::RegistryHost) -> Self {
                Self { connection: self.connection.with_endpoint(endpoint), ..self }
            }

            /// Serves a folder of this machine during the transfer. The transfer needs no other server of the
            /// folder, and does not disturb one.
            #[cfg(feature = "local")]
            pub fn with_local(self, local: &$crate::backend::local::LocalBackend) -> Self {
                Self { connection: self.connection.with_local(local), ..self }
            }

            /// Sets the retry settings for temporary errors. Clones of a
            /// [`Retry`](crate::distribution::Retry) share their budget.
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
    async fn client_serves_local_folder_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalBackend::open(Some(folder.path())).unwrap();
        let path = local.repository_path(OrganizationId::TBD, &"a".parse().unwrap()).unwrap();
        local.create_repository(&path, &CreateOptions::default()).await.unwrap();
        let connection = Connection::new(Arc::new(local.clone())).with_local(&local);
        let scope = Scope::repository(path.clone(), Access::Push);
        let client = connection.client(&path, &scope).await.unwrap();
        let digest = client.upload_blob_bytes("content").await.unwrap();
        // An unfinished download keeps the server running too.
        let content = client.fetch_blob(&digest).await.unwrap();
        let server = client.base().clone();
        drop(client);
        let pieces: Vec<_> = content.try_collect().await.unwrap();
        assert_eq!(pieces.concat(), b"content");
        tokio::task::yield_now().await;
        assert!(reqwest::get(server).await.unwrap_err().is_connect());
    }
}
