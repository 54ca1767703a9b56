//! [`Neighbours`]: the organization's other repositories, which may have a blob already.

use tokio::sync::OnceCell;

use crate::distribution::{Client, Mount};
use crate::error::Result;
use crate::model::{Access, Digest, RepositoryUrl};
use crate::push::cache::BlobLocations;
use crate::push::{LoginScope, Push};

/// The other repositories of the organization, as far as earlier pushes remember.
pub(in crate::push) struct Neighbours<'a> {
    push: &'a Push,
    locations: BlobLocations,
    /// A client that may read from them, once there has been something to mount; `None` where there
    /// are no credentials for it.
    client: OnceCell<Option<Client>>,
}

impl<'a> Neighbours<'a> {
    pub(in crate::push) async fn find(push: &'a Push, repository: &RepositoryUrl) -> Self {
        let locations = match &push.cache {
            Some(cache) => cache.locations(repository.host(), repository.path()).await,
            None => BlobLocations::default(),
        };
        Self { push, locations, client: OnceCell::new() }
    }

    /// Whether it is remembered of all these blobs that the repository has them.
    pub(super) fn have_all<'b>(&self, blobs: impl Iterator<Item = &'b Digest>) -> bool {
        self.locations.have_all(&self.push.path, blobs)
    }

    /// Asks the registry to take a blob over from a neighbour; `None` if none is known to have it, or
    /// it cannot be asked: then the blob has to be sent.
    pub(super) async fn mount(&self, blob: &Digest) -> Option<Mount> {
        let from = self.locations.beside(&self.push.path, blob).next()?;
        let client = self.client.get_or_init(|| self.connect()).await.as_ref()?;
        self.or_upload(client.mount_blob(blob, from).await)
    }

    /// Credentials that reach one repository reach no neighbour.
    async fn connect(&self) -> Option<Client> {
        let scope = LoginScope::Organization.of(&self.push.path, Access::Push);
        self.or_upload(self.push.connection.client(&self.push.path, &scope).await)
    }

    fn or_upload<T>(&self, result: Result<T>) -> Option<T> {
        let unmounted = |error| tracing::debug!(%error, "a blob is sent that could not be mounted");
        result.map_err(unmounted).ok()
    }
}
