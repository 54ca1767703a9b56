//! A registry that lives as long as some work with it.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join;
use tokio::sync::oneshot;

use super::{LocalBackend, Registry};
use crate::error::Error;
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
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let registry = Registry::bind(self.clone(), any_port)?;
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
}
