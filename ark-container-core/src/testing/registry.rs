//! [`TestRegistry`]: a registry inside a test.

use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::local::{Faults, LocalBackend, Registry};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::model::RegistryHost;

/// A registry in a temporary folder, served on a free port of this machine until it is dropped.
///
/// The server is the same as for `local:` registries, so clients and pushes behave the same. The registry
/// is empty at the start. Dropping it deletes the folder.
///
/// ```
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::testing::TestRegistry;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ark_container_core::Result<()> {
/// let registry = TestRegistry::start()?;
/// let catalog = registry.catalog().in_organization(OrganizationId::TBD);
/// let repository = catalog.create("test/repo").await?;
/// assert_eq!(repository.url.host(), &registry.host());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestRegistry {
    backend: LocalBackend,
    host: RegistryHost,
    faults: Faults,
    _stop: DropGuard,
    _folder: TempDir,
}

impl TestRegistry {
    /// Starts the registry as a task of the current tokio runtime.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be created, or no port is free.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|error| {
            Error::failed("cannot create the folder of a test registry").with_source(error)
        })?;
        let backend = LocalBackend::open(Some(folder.path()))?;
        let faults = Faults::default();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let registry =
            Registry::bind_with_faults(backend.clone(), any_port, faults.clone())?.announced()?;
        let host = registry.local_addr().into();
        let stop = CancellationToken::new();
        tokio::spawn(registry.serve(stop.clone().cancelled_owned()));
        Ok(Self { backend, host, faults, _stop: stop.drop_guard(), _folder: folder })
    }

    /// Returns a catalog of the registry, whose caller is the administrator of every organization.
    pub fn catalog(&self) -> Catalog {
        Catalog::from_backend_as_administrator(self.backend.clone())
    }

    /// Returns the backend, for use with another policy.
    pub fn backend(&self) -> LocalBackend {
        self.backend.clone()
    }

    /// Makes the next `count` requests fail with this HTTP status, such as 503 or 429. Replaces the rest of
    /// an earlier call.
    ///
    /// ```
    /// # use ark_container_core::testing::TestRegistry;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = TestRegistry::start()?;
    /// registry.fail_next(1, 503);
    /// let url = format!("http://{}/v2/", registry.host());
    /// assert_eq!(reqwest::get(&url).await?.status(), 503);
    /// assert_eq!(reqwest::get(&url).await?.status(), 401);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the status is not an error status, 400 to 599.
    pub fn fail_next(&self, count: u32, status: u16) {
        assert!((400..600).contains(&status), "{status} is not the status of an error");
        self.faults.set(count, status);
    }

    /// Returns the address at which the registry listens.
    pub fn host(&self) -> RegistryHost {
        self.host.clone()
    }
}
