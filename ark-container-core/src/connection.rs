//! [`Connection`]: from a backend to a client of one of its repositories.

use crate::backend::RegistryBackend;
use crate::distribution::{Client, Retry};
use crate::error::Result;
use crate::model::{RegistryHost, RepositoryPath, RepositoryUrl, Scope};

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
        let credentials = self.backend.credentials(scope).await?;
        // The credentials say which registry takes them, also where an emulator stands in for it.
        let host = credentials.host.clone();
        let url = RepositoryUrl::new(host.clone(), path.clone());
        let client = Client::with_endpoint(url, credentials, self.endpoint.unwrap_or(&host))?;
        Ok(client.with_retry(self.retry.clone()))
    }
}
