//! Registries within the process, which live as long as they are needed.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join;
use tokio::sync::oneshot;
#[cfg(feature = "push")]
use tokio_util::task::AbortOnDropHandle;

use super::{LocalBackend, Registry};
use crate::error::{Error, Result};
use crate::model::RegistryHost;

impl LocalBackend {
    /// Serves the folder while some work is done, which is given where: on a port of its own, so no
    /// server has to run, and one that does is not disturbed.
    ///
    /// # Behavior
    /// - When the work has ended, what has arrived of uploads is stored before this returns.
    /// - Dropping it cuts everything at once.
    ///
    /// # Errors
    /// Those of the work, then those of [`Registry::bind`] and [`Registry::serve`].
    pub async fn serve_while<T, E, F, W>(&self, work: W) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
        W: FnOnce(RegistryHost) -> F,
    {
        let registry = self.bind_any_port()?;
        let endpoint = registry.local_addr().into();
        let (working, done) = oneshot::channel::<()>();
        let serving = registry.serve(async move {
            // The sender is dropped when the work has ended.
            let _ = done.await;
        });
        let working = async {
            let _working = working;
            work(endpoint).await
        };
        let (served, worked) = join(serving, working).await;
        let worked = worked?;
        served?;
        Ok(worked)
    }

    /// Serves the folder on a port of its own until the handle that is returned is dropped, which cuts
    /// everything at once.
    #[cfg(feature = "push")]
    pub(crate) fn serve_until_dropped(
        &self,
    ) -> Result<(RegistryHost, AbortOnDropHandle<Result<()>>)> {
        let registry = self.bind_any_port()?;
        let endpoint = registry.local_addr().into();
        let serving = tokio::spawn(registry.serve(std::future::pending()));
        Ok((endpoint, AbortOnDropHandle::new(serving)))
    }

    fn bind_any_port(&self) -> Result<Registry> {
        Registry::bind(self.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}
