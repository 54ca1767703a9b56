//! [`RegistryTarget`]: a repository as the target of a transfer.

mod blob;
mod compressed_layer;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use std::time::Instant;

use async_trait::async_trait;
use futures_util::future::{OptionFuture, join4};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::blob::Blob;
use super::cache::{BlobLocations, PushCache};
use super::compress::Compressor;
use super::engine::{Outcome, Plan, Target, Transfer};
use super::image::Image;
use super::progress::{Event, Progress};
use super::push::Pushed;
use super::queue::Counter;
use crate::connection::{Connection, LoginScope};
use crate::distribution::{Client, Manifest, Mount};
use crate::error::Result;
use crate::model::{Access, Descriptor, Digest, Reference, RegistryHost, RepositoryPath, Tag};

/// The minimum size of a blob that is sent in parts, so that an interrupted upload is resumed. To send a smaller blob
/// again costs less than the requests between parts. The size of a compressed layer is the one before compression.
const MIN_RESUMABLE_BYTES: u64 = 64 * 1024 * 1024;

/// A repository as the target of an image.
pub(super) struct RegistryTarget<'a> {
    pub(super) client: &'a Client,
    pub(super) connection: &'a Connection,
    pub(super) tag: Option<&'a Tag>,
    pub(super) compressor: Compressor,
    pub(super) cache: Option<&'a PushCache>,
    pub(super) mounts: Mounts<'a>,
    pub(super) progress: &'a dyn Progress,
}

#[async_trait]
impl Target for RegistryTarget<'_> {
    async fn known_descriptors(&self, blobs: &[Blob]) -> Vec<Option<Descriptor>> {
        let tars = blobs.iter().filter(|blob| blob.is_tar());
        let diff_ids: Vec<Digest> = tars.map(|tar| tar.digest().clone()).collect();
        let compressed = match self.cache {
            Some(cache) if !diff_ids.is_empty() => {
                cache.compressed_layers(self.compressor.compression(), diff_ids).await
            }
            _ => Vec::new(),
        };
        let mut compressed = compressed.into_iter();
        let known = blobs.iter().map(|blob| match blob.is_tar() {
            true => compressed.next().flatten(),
            false => Some(blob.descriptor()),
        });
        known.collect()
    }

    async fn plan(&self, image: Option<&Image>, known: &[Option<Descriptor>]) -> Result<Plan> {
        let blobs = known.iter().flatten().map(|known| self.client.blob_exists(&known.digest));
        let blobs = stream::iter(blobs.collect::<Vec<_>>()).buffered(CONCURRENT_LOOKUPS);
        let image = OptionFuture::from(image.map(|image| self.find(image)));
        let (blobs, image) =
            futures_util::future::try_join(blobs.try_collect::<Vec<bool>>(), async {
                image.await.transpose()
            })
            .await?;
        let is_complete = known.iter().all(Option::is_some) && blobs.iter().all(|exists| *exists);
        match image.flatten() {
            Some(plan) if is_complete => Ok(plan),
            _ => {
                let mut found = blobs.into_iter();
                let exists =
                    known.iter().map(|known| known.is_some() && found.next() == Some(true));
                Ok(Plan::Write(exists.collect()))
            }
        }
    }

    async fn write(
        &self,
        blob: &Blob,
        known: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome> {
        self.send(blob, known, counter).await
    }

    /// Puts the manifests below the root and all referrers, then the root, at the tag if there is one. A referrer can
    /// precede its subject.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests-with-subject>
    async fn publish(&self, image: &Image) -> Result<()> {
        let below = image.children().iter().chain(image.referrers());
        let report = |reference: &Reference| self.tell(Event::Manifest { reference });
        self.client.publish(below, image.signatures(), image.root(), self.tag, &report).await
    }

    async fn write_name(&self, image: &Image) -> Result<()> {
        let Some(tag) = self.tag else { return Ok(()) };
        let reference = tag.clone().into();
        self.client.put_manifest(&reference, image.root()).await?;
        self.tell(Event::Manifest { reference: &reference });
        Ok(())
    }

    fn overloads(&self) -> u64 {
        self.client.retry().overloads()
    }
}

impl RegistryTarget<'_> {
    fn tell(&self, event: Event<'_>) {
        self.progress.event(&event);
    }

    /// Returns the missing content if the repository has all manifests of the image; `None` if it lacks one.
    async fn find(&self, image: &Image) -> Result<Option<Plan>> {
        let root = &image.root().digest;
        let by_digest = Reference::Digest(root.clone());
        let by_tag = self.tag.map(|tag| Reference::Tag(tag.clone()));
        let tagged = OptionFuture::from(by_tag.as_ref().map(|tag| self.client.manifest(tag)));
        let attached = self.client.are_attached(image.referrers());
        let below = self.have_all(image.children(), image.signatures());
        let root_lookup = self.client.manifest(&by_digest);
        let (tagged, found_root, attached, below) =
            join4(tagged, root_lookup, attached, below).await;
        if !attached? || !below? || found_root?.is_none() {
            return Ok(None);
        }
        let found =
            tagged.transpose()?.map(|found| found.is_some_and(|found| found.digest == *root));
        Ok(Some(if found == Some(false) { Plan::Name } else { Plan::Done }))
    }

    /// Returns whether the repository has the `manifests`, and the `tagged` ones at their tags.
    async fn have_all(&self, manifests: &[Manifest], tagged: &[(Tag, Manifest)]) -> Result<bool> {
        let by_digest = manifests.iter().map(|manifest| (manifest.digest.clone().into(), manifest));
        let by_tag = tagged.iter().map(|(tag, manifest)| (Reference::Tag(tag.clone()), manifest));
        let lookups = by_digest.chain(by_tag).map(|(reference, manifest)| async move {
            let found = self.client.manifest(&reference).await?;
            Ok(found.is_some_and(|found| found.digest == manifest.digest))
        });
        let lookups = stream::iter(lookups.collect::<Vec<_>>()).buffered(CONCURRENT_LOOKUPS);
        lookups.try_fold(true, |all, one| async move { Ok(all && one) }).await
    }

    /// Transfers an image to the repository. `started` is the start of the operation, and `retried` the number of
    /// retries of the client before it.
    pub(super) async fn push(
        &self,
        image: &Image,
        concurrency: Option<usize>,
        started: Instant,
        retried: u64,
    ) -> Result<Pushed> {
        let transfer = Transfer { target: self, concurrency, progress: self.progress };
        let repository = self.client.repository()?;
        let transferred = transfer.run(image).await;
        self.connection.end_reservations(repository.path()).await;
        let (image, outcomes) = transferred?;
        self.cache_locations(&outcomes).await;
        let tag = self.tag.cloned();
        let retries = self.client.retry().retries() - retried;
        Ok(Pushed::new(repository, &image, tag, &outcomes, retries, started.elapsed()))
    }

    /// Adds the locations of the blobs to the push cache, if they are new.
    async fn cache_locations(&self, outcomes: &[Outcome]) {
        let Some(cache) = self.cache else { return };
        let blobs = outcomes.iter().map(|outcome| &outcome.descriptor.digest);
        if !self.mounts.have_all(blobs.clone()) {
            // Every target repository is one of this project.
            let Ok(repository) = self.client.repository() else { return };
            let (host, path) = (repository.host(), repository.path());
            cache.add_locations(host, path, blobs.cloned().collect()).await;
        }
    }
}

/// The maximum number of concurrent lookups. Each uses one connection.
const CONCURRENT_LOOKUPS: usize = 16;

/// The repositories from which blobs can be mounted.
pub(super) enum Mounts<'a> {
    /// The source repository of a copy, if the credentials are for both repositories.
    From(&'a RepositoryPath),
    /// The other repositories of the organization in the push cache.
    Neighbours {
        connection: &'a Connection,
        path: &'a RepositoryPath,
        locations: BlobLocations,
        /// A client with credentials for the organization, created for the first mount; `None` if there are no such
        /// credentials.
        client: Box<OnceCell<Option<Client>>>,
    },
    /// No repository.
    Nowhere,
}

impl<'a> Mounts<'a> {
    /// Returns the neighbours of a repository in the push cache.
    pub(super) async fn neighbours(
        connection: &'a Connection,
        path: &'a RepositoryPath,
        host: &RegistryHost,
        cache: Option<&PushCache>,
    ) -> Self {
        let locations = match cache {
            Some(cache) => cache.locations(host, path).await,
            None => BlobLocations::default(),
        };
        Self::Neighbours { connection, path, locations, client: Box::default() }
    }

    /// Returns whether the repository is a cached location of all these blobs.
    fn have_all<'b>(&self, blobs: impl Iterator<Item = &'b Digest>) -> bool {
        match self {
            Self::Neighbours { path, locations, .. } => locations.have_all(path, blobs),
            Self::From(_) | Self::Nowhere => false,
        }
    }

    /// Requests the registry to mount a blob. Returns `None` if no repository is known to have it, or the request
    /// fails. The blob must then be sent.
    async fn mount(&self, target: &Client, blob: &Digest) -> Option<Mount> {
        match self {
            Self::From(path) => or_upload(target.mount_blob(blob, path).await),
            Self::Neighbours { connection, path, locations, client } => {
                let from = locations.other_repositories(path, blob).next()?;
                // Credentials for one repository do not allow access to a neighbour.
                let connect = || async {
                    let scope = LoginScope::Organization.of(path, Access::Push);
                    or_upload(connection.client(path, &scope).await)
                };
                let client = client.get_or_init(connect).await.as_ref()?;
                or_upload(client.mount_blob(blob, from).await)
            }
            Self::Nowhere => None,
        }
    }
}

fn or_upload<T>(result: Result<T>) -> Option<T> {
    let unmounted = |error| tracing::debug!(%error, "cannot mount the blob, so it is sent");
    result.map_err(unmounted).ok()
}
