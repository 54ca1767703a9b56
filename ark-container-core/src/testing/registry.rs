//! [`TestRegistry`]: a registry of a test's own.

use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::local::{Faults, LocalBackend, Registry};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::model::RegistryHost;

/// A registry in a folder of its own, served on a free port of this machine until it is dropped.
///
/// It is the real one: what docker or a push sees there is what they see on `local:`. It is empty at
/// first, and its folder goes with it.
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
    /// Starts it, as a task of the tokio runtime that this is called in.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is no room for the folder, or no port.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|error| {
            Error::failed("no folder for a registry of a test").with_source(error)
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

    /// A catalog of it, which may do everything.
    pub fn catalog(&self) -> Catalog {
        Catalog::from_backend_as_administrator(self.backend.clone())
    }

    /// The backend, to be guarded in another way.
    pub fn backend(&self) -> LocalBackend {
        self.backend.clone()
    }

    /// Makes the next `count` requests fail with this HTTP status, such as 503 or 429.
    /// It replaces what an earlier call has left.
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
    /// If the status is not one of an error, 400 to 599.
    pub fn fail_next(&self, count: u32, status: u16) {
        assert!((400..600).contains(&status), "{status} is not the status of an error");
        self.faults.set(count, status);
    }

    /// Where it listens.
    pub fn host(&self) -> RegistryHost {
        self.host.clone()
    }
}
