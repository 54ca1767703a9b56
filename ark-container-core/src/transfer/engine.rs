//! [`Transfer`]: moves one image to a target. It is the engine of every push, pull and copy.
//!
//! The target first says what it has. The missing blobs are written next, several at once, and the manifests last:
//! each after what it names, and the name of the image at the very end.

use std::collections::HashMap;

use async_trait::async_trait;

use super::blob::Blob;
use super::image::Image;
use super::progress::{BlobState, Event, Progress};
use super::queue::Counter;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest};

/// A target of images: a repository, a layout or an archive.
#[async_trait]
pub(super) trait Target: Send + Sync {
    /// Returns what a manifest will say of each blob, as far as that is known before the blob is written: the
    /// digest of a layer that is compressed first may be unknown.
    async fn known(&self, blobs: &[Blob]) -> Vec<Option<Descriptor>> {
        blobs.iter().map(|blob| Some(blob.descriptor())).collect()
    }

    /// Finds out what the target has of an image and of its blobs. The image is `None` as long as its manifests
    /// cannot be written. A target on this machine looks for each blob when it is written.
    async fn plan(&self, _: Option<&Image>, known: &[Option<Descriptor>]) -> Result<Plan> {
        Ok(Plan::Write(vec![false; known.len()]))
    }

    /// Writes a blob. `counter` counts its bytes while they are read.
    async fn write(
        &self,
        blob: &Blob,
        known: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome>;

    /// Writes the manifests of an image whose blobs are written, and then gives it its name.
    async fn publish(&self, image: &Image) -> Result<()>;

    /// Gives an image that the target has as a whole its name.
    async fn name(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Returns how often the target asked for fewer requests.
    fn overloads(&self) -> u64 {
        0
    }
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The target has the image under its name.
    Done,
    /// The target has all of the image, which needs its name.
    Name,
    /// The target lacks something: for each blob, whether it has this one.
    Write(Vec<bool>),
}

/// The outcome of the transfer of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What a manifest says of it.
    pub(super) descriptor: Descriptor,
    pub(super) state: BlobState,
    /// The bytes that were transferred for it.
    pub(super) bytes: u64,
    /// The bytes that an earlier, interrupted transfer had transferred.
    pub(super) resumed: u64,
    /// The bytes that its compression saved.
    pub(super) saved: u64,
}

impl Outcome {
    /// Returns the outcome of a blob that need not be transferred.
    pub(super) fn unsent(descriptor: Descriptor, state: BlobState) -> Self {
        Self { descriptor, state, bytes: 0, resumed: 0, saved: 0 }
    }

    /// Returns the outcome of a blob that was transferred, except for the bytes that were `resumed`.
    pub(super) fn moved(
        descriptor: Descriptor,
        state: BlobState,
        resumed: u64,
        saved: u64,
    ) -> Self {
        let bytes = descriptor.size - resumed;
        Self { descriptor, state, bytes, resumed, saved }
    }
}

/// Returns the number of blobs in a state, and their bytes.
pub(super) fn tally(outcomes: &[Outcome], state: BlobState) -> (usize, u64) {
    let found = outcomes.iter().filter(|outcome| outcome.state == state);
    (found.clone().count(), found.map(|outcome| outcome.descriptor.size).sum())
}

/// A transfer of one image to a target.
pub(super) struct Transfer<'a> {
    pub(super) target: &'a dyn Target,
    /// The maximum number of large blobs at once; `None` adapts it to the link.
    pub(super) concurrency: Option<usize>,
    pub(super) progress: &'a dyn Progress,
}

impl Transfer<'_> {
    /// Transfers what the target lacks, and returns the image as it is there with the outcome of each blob.
    pub(super) async fn run(&self, image: &Image) -> Result<(Image, Vec<Outcome>)> {
        let blobs = image.blobs();
        for blob in blobs {
            let (size, is_tar) = (blob.size(), blob.is_tar());
            self.tell(Event::Found { blob: blob.digest(), size, is_tar });
        }
        let known = self.target.known(blobs).await;
        let found = compressed(blobs, known.iter().map(Option::as_ref));
        let whole = image.with_compressed_layers(&found)?;
        match (self.target.plan(whole.as_ref(), &known).await?, whole) {
            (Plan::Write(there), _) => {
                let outcomes = self.write(blobs, &known, &there).await?;
                let became = outcomes.iter().map(|outcome| Some(&outcome.descriptor));
                let whole = image.with_compressed_layers(&compressed(blobs, became))?;
                let whole =
                    whole.ok_or_else(|| Error::failed("the image's manifest lacks a layer"))?;
                self.target.publish(&whole).await?;
                Ok((whole, outcomes))
            }
            (plan, Some(whole)) => {
                if plan == Plan::Name {
                    self.target.name(&whole).await?;
                }
                let outcomes = blobs.iter().zip(known).filter_map(|(blob, descriptor)| {
                    self.tell(Event::Blob { blob: blob.digest(), state: BlobState::Exists });
                    Some(Outcome::unsent(descriptor?, BlobState::Exists))
                });
                Ok((whole, outcomes.collect()))
            }
            (_, None) => Err(Error::failed("the image's manifest lacks a layer")),
        }
    }

    pub(super) fn tell(&self, event: Event<'_>) {
        self.progress.event(&event);
    }
}

/// Returns what the layers that are compressed became, by their diff IDs.
fn compressed<'a>(
    blobs: &'a [Blob],
    became: impl Iterator<Item = Option<&'a Descriptor>>,
) -> HashMap<&'a Digest, &'a Descriptor> {
    let layers = blobs.iter().zip(became).filter(|(blob, _)| blob.is_tar());
    layers.filter_map(|(blob, became)| Some((blob.digest(), became?))).collect()
}

/// Adds the options of every transfer to a builder with the fields `platforms`, `concurrency` and `progress`.
macro_rules! transfer_options {
    ($builder:ident) => {
        impl $builder {
            /// Chooses platforms of an image that has several. By default it is transferred as it is.
            pub fn with_platforms(self, platforms: $crate::transfer::PlatformChoice) -> Self {
                Self { platforms, ..self }
            }

            /// Sets the maximum number of blobs at once, at least one. The default adapts to the link.
            pub fn with_concurrency(self, concurrency: usize) -> Self {
                Self { concurrency: Some(concurrency.max(1)), ..self }
            }

            /// Reports what happens while it runs.
            pub fn with_progress(
                self,
                progress: std::sync::Arc<dyn $crate::transfer::Progress>,
            ) -> Self {
                Self { progress, ..self }
            }
        }
    };
}

pub(super) use transfer_options;
