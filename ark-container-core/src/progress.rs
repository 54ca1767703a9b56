//! [`Progress`]: what a push, pull or copy tells while it runs.

use std::time::Duration;

use serde::Serializer;

use crate::model::{Digest, Reference};

/// Is told what a push, pull or copy does, while it does it.
///
/// It is called from within that, often, and must return at once. `()` listens to nothing.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

impl Progress for () {
    fn event(&self, _: &Event<'_>) {}
}

/// What happened. A blob is called by its digest, and a layer that is compressed first by its diff ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The image has this part, of so many bytes where it comes from. All parts are told of at first.
    Found {
        /// Which one.
        blob: &'a Digest,
        /// Its bytes where it comes from.
        size: u64,
        /// Whether it is compressed before it is sent.
        is_tar: bool,
    },
    /// A part is in another state now.
    Blob {
        /// Which one.
        blob: &'a Digest,
        /// What it is in now.
        state: BlobState,
    },
    /// More of a part went through, counted in its bytes where it comes from: they were read,
    /// and sent as they are or compressed.
    Moved {
        /// Which one.
        blob: &'a Digest,
        /// How many bytes more; negative where they must go again.
        bytes: i64,
    },
    /// A manifest was put.
    Manifest {
        /// At which tag or digest.
        reference: &'a Reference,
    },
}

/// The states that a part goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobState {
    /// It is there already.
    Exists,
    /// The registry took it over from another repository.
    Mounted,
    /// It is compressed and sent.
    Compressing,
    /// It is sent.
    Sending,
    /// It is fetched.
    Fetching,
    /// It broke off, and goes on after a while.
    Retrying,
    /// All of it is in the repository now.
    Sent,
    /// All of it is on this machine now.
    Fetched,
}

/// Writes a duration as seconds, with their fraction.
pub(crate) fn as_seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
