//! Sending an image: what the repository lacks, in the order that keeps its tags whole.

mod blob;
mod compressed_layer;
mod queue;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::{Either, OptionFuture, join3, select};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use crate::distribution::{Client, Manifest, Mount};
use crate::error::{Error, Result};
use crate::model::{Access, Descriptor, Digest, Reference, RepositoryUrl, Tag, media_type};
use crate::transfer::cache::BlobLocations;
use crate::transfer::cache::PushCache;
use crate::transfer::compress::Compressor;
use crate::transfer::{BlobState, Event, LocalBlob, LocalImage, Part, Progress, Pushed};
use crate::transfer::{LoginScope, Push};

/// A push, once it is known to where.
pub(super) struct Sender<'a> {
    pub(super) client: &'a Client,
    pub(super) tag: Option<&'a Tag>,
    /// How many large blobs are sent at once; `None` for as many as the link likes.
    pub(super) concurrency: Option<usize>,
    pub(super) compressor: Compressor,
    pub(super) cache: Option<&'a PushCache>,
    pub(super) neighbours: Neighbours<'a>,
    pub(super) progress: &'a dyn Progress,
}

/// What became of a part of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    /// What the manifest says of it.
    descriptor: Descriptor,
    state: BlobState,
    /// The bytes that were sent for it.
    bytes: u64,
    /// The bytes that an earlier push had sent.
    resumed: u64,
    /// The bytes that compressing it spared.
    saved: u64,
}

impl Outcome {
    /// Of a part that need not be sent.
    fn unsent(descriptor: Descriptor, state: BlobState) -> Self {
        Self { descriptor, state, bytes: 0, resumed: 0, saved: 0 }
    }

    /// Of a part that was sent, but for what an earlier push had sent of it.
    fn sent(descriptor: Descriptor, resumed: u64, saved: u64) -> Self {
        let bytes = descriptor.size - resumed;
        Self { descriptor, state: BlobState::Sent, bytes, resumed, saved }
    }
}

impl Sender<'_> {
    /// Sends what the repository lacks.
    pub(super) async fn send(&self, image: &LocalImage) -> Result<Pushed> {
        let (started, retried) = (Instant::now(), self.client.retry().retries());
        let parts = image.parts();
        for part in &parts {
            let blob = part.local();
            let is_tar = matches!(part, Part::Tar(_));
            self.tell(Event::Found { blob: blob.digest(), size: blob.size(), is_tar });
        }
        let known = self.known(&parts).await;
        let tars: HashMap<&Digest, &Descriptor> = parts
            .iter()
            .zip(&known)
            .filter(|(part, _)| matches!(part, Part::Tar(_)))
            .filter_map(|(part, known)| Some((part.local().digest(), known.as_ref()?)))
            .collect();
        let root = image.root_with(|diff_id| tars.get(diff_id).copied())?;
        let asked: Vec<&Digest> = known.iter().flatten().map(|known| &known.digest).collect();
        let (outcomes, root) =
            match plan(self.client, root.as_ref(), image.referrers(), self.tag, &asked).await? {
                Plan::Send(there) => {
                    let mut there = there.into_iter();
                    let there: Vec<bool> = known
                        .iter()
                        .map(|known| known.is_some() && there.next() == Some(true))
                        .collect();
                    let outcomes = self.send_parts(&parts, &known, &there).await?;
                    let root = self.put_manifests(image, &parts, &outcomes).await?;
                    (outcomes, root)
                }
                plan => {
                    let root = root.ok_or_else(unwritten)?;
                    if let (Plan::Tag, Some(tag)) = (plan, self.tag) {
                        let reference = tag.clone().into();
                        self.client.put_manifest(&reference, &root).await?;
                        self.tell(Event::Manifest { reference: &reference });
                    }
                    (self.all_there(&parts, known), root)
                }
            };
        self.remember(&outcomes).await;
        let pushed = Pushed::new(
            self.client.repository()?,
            root.digest,
            self.tag.cloned(),
            &outcomes,
            self.client.retry().retries() - retried,
            started.elapsed(),
        );
        tracing::info!(image = %pushed.url, sent = pushed.bytes_sent, "pushed");
        Ok(pushed)
    }

    /// What the manifest will say of each part, as far as that is known before it is sent.
    async fn known(&self, parts: &[Part<'_>]) -> Vec<Option<Descriptor>> {
        let tars = parts.iter().filter(|part| matches!(part, Part::Tar(_)));
        let diff_ids: Vec<Digest> = tars.map(|tar| tar.local().digest().clone()).collect();
        let compressed = match self.cache {
            Some(cache) if !diff_ids.is_empty() => {
                cache.compressed_layers(self.compressor.compression(), diff_ids).await
            }
            _ => Vec::new(),
        };
        let mut compressed = compressed.into_iter();
        let known = parts.iter().map(|part| match part {
            Part::Tar(_) => compressed.next().flatten(),
            Part::Blob(blob) => Some(as_it_is(blob)),
        });
        known.collect()
    }

    fn tell(&self, event: Event<'_>) {
        self.progress.event(&event);
    }

    /// Remembers where the image's parts are, if that is news.
    async fn remember(&self, outcomes: &[Outcome]) {
        let Some(cache) = self.cache else { return };
        let blobs = outcomes.iter().map(|outcome| &outcome.descriptor.digest);
        if let Ok(repository) = self.client.repository()
            && !self.neighbours.have_all(blobs.clone())
        {
            let (host, path) = (repository.host(), repository.path());
            cache.add_locations(host, path, blobs.cloned().collect()).await;
        }
    }

    fn all_there(&self, parts: &[Part<'_>], known: Vec<Option<Descriptor>>) -> Vec<Outcome> {
        let outcomes = parts.iter().zip(known).filter_map(|(part, descriptor)| {
            self.tell(Event::Blob { blob: part.local().digest(), state: BlobState::Exists });
            Some(Outcome::unsent(descriptor?, BlobState::Exists))
        });
        outcomes.collect()
    }

    /// Puts the manifests below the root and what refers to them, then the root: at the tag, where
    /// there is one. What refers to the root may be there before it.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests-with-subject>
    async fn put_manifests(
        &self,
        image: &LocalImage,
        parts: &[Part<'_>],
        outcomes: &[Outcome],
    ) -> Result<Manifest> {
        let became: HashMap<&Digest, &Descriptor> = parts
            .iter()
            .zip(outcomes)
            .map(|(part, outcome)| (part.local().digest(), &outcome.descriptor))
            .collect();
        let root = image.root_with(|diff_id| became.get(diff_id).copied())?;
        let root = root.ok_or_else(unwritten)?;
        let below = image.children().iter().chain(image.referrers());
        let told = |reference: &Reference| self.tell(Event::Manifest { reference });
        self.client.publish(below, &root, self.tag, &told).await?;
        Ok(root)
    }
}

impl Pushed {
    fn new(
        repository: &RepositoryUrl,
        digest: Digest,
        tag: Option<Tag>,
        outcomes: &[Outcome],
        retries: u64,
        duration: Duration,
    ) -> Self {
        let of = |state: BlobState| outcomes.iter().filter(move |outcome| outcome.state == state);
        let sizes = |state| of(state).map(|outcome| outcome.descriptor.size).sum();
        Self {
            url: repository.image(digest.clone()),
            tag,
            blobs_sent: of(BlobState::Sent).count(),
            bytes_sent: outcomes.iter().map(|outcome| outcome.bytes).sum(),
            blobs_skipped: of(BlobState::Exists).count(),
            bytes_skipped: sizes(BlobState::Exists),
            blobs_mounted: of(BlobState::Mounted).count(),
            bytes_mounted: sizes(BlobState::Mounted),
            bytes_resumed: outcomes.iter().map(|outcome| outcome.resumed).sum(),
            bytes_saved: outcomes.iter().map(|outcome| outcome.saved).sum(),
            retries,
            duration,
            digest,
        }
    }
}

/// A part that is sent as it is. What a manifest says of it stands in the image already.
fn as_it_is(blob: &LocalBlob) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, blob.digest().clone(), blob.size())
}

fn unwritten() -> Error {
    let message = "the image's manifest lacks a layer".to_owned();
    Error::failed(message)
}

/// How many questions are on their way at once. Each takes a connection of its own.
const CONCURRENT_QUESTIONS: usize = 16;

/// What there is to do.
#[derive(Debug)]
enum Plan {
    /// The tag stands for the image: nothing.
    Done,
    /// The image is there by its digest, and needs its tag.
    Tag,
    /// Some of it is there: for each blob that was asked about, whether it is.
    Send(Vec<bool>),
}

/// Asks about the image, if its `root` is known, with what refers to it, and about its blobs at the
/// same time.
async fn plan(
    client: &Client,
    root: Option<&Manifest>,
    referrers: &[Manifest],
    tag: Option<&Tag>,
    blobs: &[&Digest],
) -> Result<Plan> {
    let image = std::pin::pin!(image(client, root, referrers, tag));
    let blobs = blobs.iter().map(|digest| client.blob_exists(digest));
    let blobs = stream::iter(blobs.collect::<Vec<_>>());
    let blobs = std::pin::pin!(blobs.buffered(CONCURRENT_QUESTIONS).try_collect::<Vec<bool>>());
    match select(image, blobs).await {
        Either::Left((image, blobs)) => match image? {
            Some(plan) => Ok(plan),
            None => blobs.await.map(Plan::Send),
        },
        Either::Right((blobs, image)) => {
            let blobs = blobs?;
            Ok(image.await?.unwrap_or(Plan::Send(blobs)))
        }
    }
}

/// Whether the image is there as a whole: a registry takes no manifest whose blobs it lacks.
async fn image(
    client: &Client,
    root: Option<&Manifest>,
    referrers: &[Manifest],
    tag: Option<&Tag>,
) -> Result<Option<Plan>> {
    let Some(root) = root else { return Ok(None) };
    let by_digest = Reference::Digest(root.digest.clone());
    let by_tag = tag.map(|tag| Reference::Tag(tag.clone()));
    let tagged = OptionFuture::from(by_tag.as_ref().map(|tag| client.manifest(tag)));
    let attached = client.are_attached(referrers);
    let (tagged, there, attached) = join3(tagged, client.manifest(&by_digest), attached).await;
    if !attached? {
        return Ok(None);
    }
    let is_root = |digest: &Digest| *digest == root.digest;
    let tagged = tagged.transpose()?.map(|found| found.is_some_and(|found| is_root(&found.digest)));
    Ok(match (tagged, there?.is_some()) {
        (Some(true), _) | (None, true) => Some(Plan::Done),
        (Some(false), true) => Some(Plan::Tag),
        (_, false) => None,
    })
}

/// The other repositories of the organization, as far as earlier pushes remember.
pub(super) struct Neighbours<'a> {
    push: &'a Push,
    locations: BlobLocations,
    /// A client that may read from them, once there has been something to mount; `None` where there
    /// are no credentials for it.
    client: OnceCell<Option<Client>>,
}

impl<'a> Neighbours<'a> {
    pub(super) async fn find(push: &'a Push, repository: &RepositoryUrl) -> Self {
        let locations = match &push.cache {
            Some(cache) => cache.locations(repository.host(), repository.path()).await,
            None => BlobLocations::default(),
        };
        Self { push, locations, client: OnceCell::new() }
    }

    /// Whether it is remembered of all these blobs that the repository has them.
    fn have_all<'b>(&self, blobs: impl Iterator<Item = &'b Digest>) -> bool {
        self.locations.have_all(&self.push.path, blobs)
    }

    /// Asks the registry to take a blob over from a neighbour; `None` if none is known to have it, or
    /// it cannot be asked: then the blob has to be sent.
    async fn mount(&self, blob: &Digest) -> Option<Mount> {
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
