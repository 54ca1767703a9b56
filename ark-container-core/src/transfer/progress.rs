//! [`Progress`]: receives the events of a transfer.

use std::time::Duration;

use serde::Serializer;

use crate::model::{Digest, Reference};

/// Receives the events of a push, pull or copy while it runs.
///
/// The transfer calls [`event`](Self::event) often, so the method must return quickly. `()` ignores all events.
pub trait Progress: Send + Sync {
    /// Receives an event.
    fn event(&self, event: &Event<'_>);
}

impl Progress for () {
    fn event(&self, _: &Event<'_>) {}
}

/// An event of a transfer. The name of a blob is its digest, or the diff ID of a layer that is compressed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The image has this blob. All blobs are reported before the first one is transferred.
    Found {
        /// The blob.
        blob: &'a Digest,
        /// The size at the source, in bytes.
        size: u64,
        /// Whether the blob is a layer that is compressed before it is sent.
        is_tar: bool,
    },
    /// The state of a blob changed.
    Blob {
        /// The blob.
        blob: &'a Digest,
        /// The new state.
        state: BlobState,
    },
    /// More bytes of a blob were transferred, counted at the source, before compression.
    Moved {
        /// The blob.
        blob: &'a Digest,
        /// The number of bytes; negative if they must be transferred again.
        bytes: i64,
    },
    /// A manifest was put.
    Manifest {
        /// The tag or digest.
        reference: &'a Reference,
    },
}

/// The state of a blob in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobState {
    /// The target had the blob before the transfer.
    Exists,
    /// The registry mounted the blob from another repository.
    Mounted,
    /// The blob is being compressed and sent.
    Compressing,
    /// The blob is being sent.
    Sending,
    /// The blob is being fetched.
    Fetching,
    /// The transfer failed temporarily, and is retried after a delay.
    Retrying,
    /// The whole blob was sent to the repository.
    Sent,
    /// The whole blob was fetched to this machine.
    Fetched,
}

/// Serializes a duration as seconds, with a fraction.
pub(crate) fn as_seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Serializes a value as text.
pub(crate) fn as_text<S: Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
