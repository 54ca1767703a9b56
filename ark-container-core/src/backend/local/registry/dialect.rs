//! [`Dialect`]: behaviour in which registries differ, within the specification or outside it.

use std::fmt;
#[cfg(feature = "testing")]
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Method, Response, StatusCode};

use super::auth::Operation;
use super::body::Body;
use super::error::ApiError;
use super::route::{Resource, Target};
use crate::backend::local::store::UploadId;
use crate::model::{Digest, RepositoryPath};

/// Behaviour in which registries differ. The default bodies are the behaviour of the local registry.
pub(crate) trait Dialect: fmt::Debug + Send + Sync {
    /// Returns the response of a request that was rejected or failed.
    fn error_response(&self, error: ApiError, _target: &Target) -> Response<Body> {
        error.into_response()
    }

    /// Checks a request before it is authenticated.
    fn check_request(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// Returns the operation of a method; `None` if it is not supported.
    fn operation(&self, resource: &Resource, method: &Method) -> Option<Operation> {
        resource.operation(method)
    }

    /// Returns whether a blob of one repository may be mounted in another.
    fn mounts(&self) -> bool {
        true
    }

    /// Checks the next part of an upload before it is stored.
    fn check_part(&self, _part: &Part) -> Result<(), ApiError> {
        Ok(())
    }

    /// Returns whether the received bytes of an interrupted part are kept.
    fn keeps_interrupted_parts(&self) -> bool {
        true
    }

    /// Returns the status of the response to a stored part that is not the last.
    fn part_status(&self) -> StatusCode {
        StatusCode::ACCEPTED
    }

    /// Returns the number of bytes that the response to a part reports as stored. `size` is the real number.
    fn reported_after_part(&self, _id: &UploadId, size: u64) -> u64 {
        size
    }

    /// Returns the number of bytes that the upload status reports as stored. `size` is the real number.
    fn reported_status(&self, size: u64) -> Result<u64, ApiError> {
        Ok(size)
    }

    /// Returns whether a stored manifest is served.
    fn serves(&self, _path: &RepositoryPath, _digest: &Digest) -> bool {
        true
    }

    /// Checks a manifest before it is stored.
    fn check_manifest(&self, _bytes: &[u8]) -> Result<(), ApiError> {
        Ok(())
    }
}

/// An incoming part of an upload, as its request announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The upload.
    pub(crate) id: UploadId,
    /// The number of bytes of the upload that are stored already.
    pub(crate) stored: u64,
    /// The offset that the client announces, if any.
    pub(crate) start: Option<u64>,
    /// Whether the part has no bytes.
    pub(crate) is_empty: bool,
    /// Whether the part ends the upload.
    pub(crate) is_last: bool,
}

/// The dialect of the local registry.
#[derive(Debug)]
pub(super) struct LocalDialect;

impl Dialect for LocalDialect {}

/// The dialect of the local registry, in which a test can make the next requests fail.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<(u32, StatusCode)>>);

#[cfg(feature = "testing")]
impl Faults {
    /// Makes the next `count` requests fail with `status`.
    pub(crate) fn set(&self, count: u32, status: u16) {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (count, status);
    }
}

#[cfg(feature = "testing")]
impl Dialect for Faults {
    fn check_request(&self) -> Result<(), ApiError> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, status) = *faults;
        let Some(left) = left.checked_sub(1) else { return Ok(()) };
        *faults = (left, status);
        Err(ApiError::injected(status))
    }
}
