//! [`Dialect`]: behaviour in which registries differ, within the specification and beside it.

use std::fmt;
#[cfg(feature = "testing")]
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Method, Response, StatusCode};

use super::access::Operation;
use super::body::Body;
use super::error::ApiError;
use super::route::{Resource, Target};
use crate::backend::local::store::UploadId;

/// Behaviour in which registries differ. The default bodies are the behaviour of the local registry.
pub(crate) trait Dialect: fmt::Debug + Send + Sync {
    /// The answer to a request that was refused or has failed.
    fn refuse(&self, error: ApiError, _target: &Target) -> Response<Body> {
        error.into_response()
    }

    /// Looks at a request before it is authenticated.
    fn take_request(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// What `method` does; `None` where it does nothing.
    fn operation(&self, resource: &Resource, method: &Method) -> Option<Operation> {
        resource.operation(method)
    }

    /// Whether a blob of one repository may be mounted in another.
    fn mounts(&self) -> bool {
        true
    }

    /// Looks at the next part of an upload before it is stored.
    fn take_part(&self, _part: &Part) -> Result<(), ApiError> {
        Ok(())
    }

    /// Whether what has arrived of a part is kept where the client is cut off in the middle of it.
    fn keeps_cut_parts(&self) -> bool {
        true
    }

    /// The status of a part that was stored and is not the last.
    fn part_stored(&self) -> StatusCode {
        StatusCode::ACCEPTED
    }

    /// Of `size` bytes that are stored, how many the client is told of after a part.
    fn told_after_part(&self, _id: &UploadId, size: u64) -> u64 {
        size
    }

    /// The same when the client asks.
    fn told_when_asked(&self, size: u64) -> Result<u64, ApiError> {
        Ok(size)
    }

    /// Looks at a manifest before it is stored.
    fn take_manifest(&self, _bytes: &[u8]) -> Result<(), ApiError> {
        Ok(())
    }
}

/// A part of an upload that arrives, as its request announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of which upload.
    pub(crate) id: UploadId,
    /// How many bytes of the upload are stored already.
    pub(crate) stored: u64,
    /// Where the client says that it starts; `None` if it does not say.
    pub(crate) start: Option<u64>,
    /// Whether no byte comes.
    pub(crate) is_empty: bool,
    /// Whether the upload ends with it.
    pub(crate) is_last: bool,
}

/// The dialect of the local registry.
#[derive(Debug)]
pub(super) struct LocalDialect;

impl Dialect for LocalDialect {}

/// The dialect of the local registry in which the next requests fail, as a test sets it.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<(u32, StatusCode)>>);

#[cfg(feature = "testing")]
impl Faults {
    /// Sets how many requests fail, and with which status.
    pub(crate) fn set(&self, count: u32, status: u16) {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (count, status);
    }
}

#[cfg(feature = "testing")]
impl Dialect for Faults {
    fn take_request(&self) -> Result<(), ApiError> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, status) = *faults;
        let Some(left) = left.checked_sub(1) else { return Ok(()) };
        *faults = (left, status);
        Err(ApiError::injected(status))
    }
}
