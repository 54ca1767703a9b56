//! [`Progress`]: receives the events of a push, pull or copy.

use std::time::Duration;

use serde::Serializer;

use crate::model::{Digest, Reference};

/// Receives the events of a push, pull or copy while it runs.
///
/// It is called often, from within the transfer, and must return at once. `()` ignores all events.
pub trait Progress: Send + Sync {
    /// Receives an event.
    fn event(&self, event: &Event<'_>);
}

impl Progress for () {
    fn event(&self, _: &Event<'_>) {}
}

/// An event of a transfer. A blob is named by its digest, and a layer that is compressed first by its diff
/// ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The image has this blob. All blobs are reported before any is transferred.
    Found {
        /// The blob.
        blob: &'a Digest,
        /// Its size at the source, in bytes.
        size: u64,
        /// Whether it is compressed before it is sent.
        is_tar: bool,
    },
    /// The state of a blob changed.
    Blob {
        /// The blob.
        blob: &'a Digest,
        /// Its new state.
        state: BlobState,
    },
    /// More bytes of a blob were transferred, counted at the source: before they are compressed.
    Moved {
        /// The blob.
        blob: &'a Digest,
        /// The number of bytes; negative where they have to be transferred again.
        bytes: i64,
    },
    /// A manifest was put.
    Manifest {
        /// Its tag or digest.
        reference: &'a Reference,
    },
}

/// The state of a blob in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobState {
    /// The target has it already.
    Exists,
    /// The registry mounted it from another repository.
    Mounted,
    /// It is being compressed and sent.
    Compressing,
    /// It is being sent.
    Sending,
    /// It is being fetched.
    Fetching,
    /// It was interrupted, and is retried after a delay.
    Retrying,
    /// The repository has all of it now.
    Sent,
    /// This machine has all of it now.
    Fetched,
}

/// Writes a duration as seconds, with their fraction.
pub(crate) fn as_seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Writes a value as text.
pub(crate) fn as_text<S: Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
