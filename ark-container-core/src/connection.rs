//! [`Connection`]: from a backend to a client of one of its repositories, where it is dialled, and how far
//! its login goes.

use std::time::Duration;

use crate::backend::RegistryBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;
use crate::credentials::CredentialsOptions;
use crate::distribution::{Client, Retry};
use crate::error::Result;
use crate::model::{Access, RegistryHost, RepositoryPath, RepositoryUrl, Scope};

/// How far a login goes that is asked for on behalf of one repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LoginScope {
    /// To that repository, and no further than what is done there takes.
    #[default]
    Repository,
    /// To all repositories of its organization, to pull and to push: one login, where the backend
    /// keeps logins, for all that a build uploads.
    Organization,
}

impl LoginScope {
    /// What a login is asked for that is to give `access` to the repository at `path`.
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
pub(crate) const TRANSFER_CREDENTIALS: CredentialsOptions = CredentialsOptions {
    lifetime: None,
    min_remaining: Some(Duration::ZERO),
    require_scoped: false,
};

/// How repositories are reached.
#[derive(Clone, Copy)]
pub(crate) struct Connection<'a> {
    pub(crate) backend: &'a dyn RegistryBackend,
    /// Where to dial, if not at the host that the credentials name.
    pub(crate) endpoint: Option<&'a RegistryHost>,
    pub(crate) retry: &'a Retry,
}

impl Connection<'_> {
    /// A client of a repository, with credentials for `scope`.
    pub(crate) async fn open(&self, path: &RepositoryPath, scope: &Scope) -> Result<Client> {
        let credentials = self.backend.credentials(scope, &TRANSFER_CREDENTIALS).await?;
        // The credentials say which registry takes them, also where an emulator stands in for it.
        let host = credentials.host.clone();
        let url = RepositoryUrl::new(host.clone(), path.clone());
        let client = Client::with_endpoint(url, credentials, self.endpoint.unwrap_or(&host))?;
        Ok(client.with_retry(self.retry.clone()))
    }
}

/// Where a repository is dialled.
#[derive(Debug, Clone, Default)]
pub(crate) enum Endpoint {
    /// At the host that the credentials name.
    #[default]
    Own,
    /// At another host.
    Host(RegistryHost),
    /// At a registry over this folder, which lives as long as what is done.
    #[cfg(feature = "local")]
    Folder(LocalBackend),
}

impl Endpoint {
    /// The host to dial, if not the credentials' own.
    pub(crate) fn host(&self) -> Option<&RegistryHost> {
        match self {
            Self::Host(host) => Some(host),
            _ => None,
        }
    }

    /// Does some work with what is dialled, once that is served.
    pub(crate) async fn reach<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        match self {
            #[cfg(feature = "local")]
            Self::Folder(local) => local.serve_while(|host| work(Self::Host(host))).await,
            endpoint => work(endpoint.clone()).await,
        }
    }
}
