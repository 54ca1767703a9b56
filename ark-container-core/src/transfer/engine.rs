//! [`Transfer`]: moves one image to a target. The engine of every push, pull and copy.
//!
//! The target first returns which blobs it has. The missing blobs are written next, several at once. The manifests
//! follow, each after the manifests that it names. The name of the image is written last.

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
    /// Returns the descriptor of each blob in the target's manifest; `None` for a layer whose digest after compression
    /// is not known yet.
    async fn known_descriptors(&self, blobs: &[Blob]) -> Vec<Option<Descriptor>> {
        blobs.iter().map(|blob| Some(blob.descriptor())).collect()
    }

    /// Looks up the image and its blobs in the target. The image is `None` if the digest of a layer is not known yet.
    /// By default, the target looks up each blob when it is written, which is fast on this machine.
    async fn plan(&self, _: Option<&Image>, known: &[Option<Descriptor>]) -> Result<Plan> {
        Ok(Plan::Write(vec![false; known.len()]))
    }

    /// Writes a blob. `counter` counts its bytes when they are read.
    async fn write(
        &self,
        blob: &Blob,
        known: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome>;

    /// Writes the manifests of an image whose blobs are written, and then its name.
    async fn publish(&self, image: &Image) -> Result<()>;

    /// Writes the name of an image whose manifests and blobs the target has.
    async fn write_name(&self, _: &Image) -> Result<()> {
        Ok(())
    }

    /// Returns the number of times that the target was overloaded.
    fn overloads(&self) -> u64 {
        0
    }
}

/// The missing content of a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: the target has the image under its name.
    Done,
    /// The name: the target has all manifests and blobs.
    Name,
    /// A manifest or blob. Contains for each blob whether the target has it.
    Write(Vec<bool>),
}

/// The outcome of the transfer of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The descriptor of the blob in the target's manifest.
    pub(super) descriptor: Descriptor,
    pub(super) state: BlobState,
    /// The number of transferred bytes.
    pub(super) bytes: u64,
    /// The number of bytes that an earlier, interrupted transfer had transferred.
    pub(super) resumed: u64,
    /// The number of bytes that compression saved.
    pub(super) saved: u64,
}

impl Outcome {
    /// Returns the outcome of a blob that was not transferred.
    pub(super) fn unsent(descriptor: Descriptor, state: BlobState) -> Self {
        Self { descriptor, state, bytes: 0, resumed: 0, saved: 0 }
    }

    /// Returns the outcome of a blob that was transferred, except for the `resumed` bytes.
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

/// Returns the number of blobs in a state, and their total bytes.
pub(super) fn tally(outcomes: &[Outcome], state: BlobState) -> (usize, u64) {
    let found = outcomes.iter().filter(|outcome| outcome.state == state);
    (found.clone().count(), found.map(|outcome| outcome.descriptor.size).sum())
}

/// A transfer of one image to a target.
pub(super) struct Transfer<'a> {
    pub(super) target: &'a dyn Target,
    /// The maximum number of concurrent large blobs; `None` adapts to the link.
    pub(super) concurrency: Option<usize>,
    pub(super) progress: &'a dyn Progress,
}

impl Transfer<'_> {
    /// Transfers the missing content, and returns the image in the target with the outcome of each blob.
    pub(super) async fn run(&self, image: &Image) -> Result<(Image, Vec<Outcome>)> {
        let blobs = image.blobs();
        for blob in blobs {
            let (size, is_tar) = (blob.size(), blob.is_tar());
            self.tell(Event::Found { blob: blob.digest(), size, is_tar });
        }
        let known = self.target.known_descriptors(blobs).await;
        let found = compressed(blobs, known.iter().map(Option::as_ref));
        let whole = image.with_compressed_layers(&found)?;
        match (self.target.plan(whole.as_ref(), &known).await?, whole) {
            (Plan::Write(exists), _) => {
                let outcomes = self.write(blobs, &known, &exists).await?;
                let written = outcomes.iter().map(|outcome| Some(&outcome.descriptor));
                let whole = image.with_compressed_layers(&compressed(blobs, written))?;
                let whole =
                    whole.ok_or_else(|| Error::failed("the image's manifest lacks a layer"))?;
                self.target.publish(&whole).await?;
                Ok((whole, outcomes))
            }
            (plan, Some(whole)) => {
                if plan == Plan::Name {
                    self.target.write_name(&whole).await?;
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

/// Returns the descriptors of the compressed layers by their diff IDs.
fn compressed<'a>(
    blobs: &'a [Blob],
    descriptors: impl Iterator<Item = Option<&'a Descriptor>>,
) -> HashMap<&'a Digest, &'a Descriptor> {
    let layers = blobs.iter().zip(descriptors).filter(|(blob, _)| blob.is_tar());
    layers.filter_map(|(blob, descriptor)| Some((blob.digest(), descriptor?))).collect()
}

/// Adds the options of every transfer to a builder with the fields `platforms`, `concurrency` and `progress`.
macro_rules! transfer_options {
    ($builder:ident) => {
        impl $builder {
            /// Sets the platforms of an image with several. The default is the image as it is.
            pub fn with_platforms(self, platforms: $crate::transfer::PlatformChoice) -> Self {
                Self { platforms, ..self }
            }

            /// Sets the maximum number of concurrent blobs, at least one. The default adapts to the link.
            pub fn with_concurrency(self, concurrency: usize) -> Self {
                Self { concurrency: Some(concurrency.max(1)), ..self }
            }

            /// Sets the receiver of progress events.
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
