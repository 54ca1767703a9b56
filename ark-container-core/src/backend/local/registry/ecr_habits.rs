//! [`EcrHabits`]: how AWS ECR speaks the distribution API, for tests.
//!
//! What no documentation of AWS says is from the reports named at each habit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::header;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;

use super::access::Operation;
use super::body::{self, Body, WithHeader};
use super::error::{ApiError, Code};
use super::habits::{Habits, Part};
use super::route::{Resource, Target};
use crate::backend::local::store::UploadId;

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html>
const SMALLEST_PART: u64 = 5 * 1024 * 1024;

const CHALLENGE: &str = "Basic realm=\"https://ecr.amazonaws.com/\",service=\"ecr.amazonaws.com\"";

/// How the registry of an AWS account behaves.
///
/// An upload's parts may have any length from 5 MiB: the 20 MiB of `UploadLayerPart` are a limit of
/// the API alone. Source: <https://github.com/jdx/mise/pull/11376>
#[derive(Debug)]
pub(crate) struct EcrHabits {
    account: String,
    mounts: AtomicBool,
    refuses_subjects: AtomicBool,
    fails_empty_put: AtomicBool,
    uploads: Mutex<HashMap<UploadId, Parts>>,
}

/// The parts of an upload, as far as they matter for those that follow.
#[derive(Debug, Default)]
struct Parts {
    /// Where the latest one starts.
    latest: u64,
    /// Where the first one ended, once there is a second.
    first_end: Option<u64>,
    /// Whether one that has a successor is too small.
    too_small: bool,
}

impl EcrHabits {
    /// The habits of the registry of an account.
    pub(crate) fn new(account: impl Into<String>) -> Self {
        Self {
            account: account.into(),
            mounts: AtomicBool::new(false),
            refuses_subjects: AtomicBool::new(false),
            fails_empty_put: AtomicBool::new(false),
            uploads: Mutex::default(),
        }
    }

    /// Mounts blobs from now on, or no longer: a setting of the account, off unless told.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
    pub(crate) fn set_mounts(&self, mounts: bool) {
        self.mounts.store(mounts, Ordering::Relaxed);
    }

    /// Refuses manifests with a subject from now on, or no longer.
    pub(crate) fn set_refuses_subjects(&self, refuses: bool) {
        self.refuses_subjects.store(refuses, Ordering::Relaxed);
    }

    /// Fails the next upload that ends without a byte in its last request.
    pub(crate) fn fail_next_empty_put(&self) {
        self.fails_empty_put.store(true, Ordering::Relaxed);
    }

    fn parts<T>(&self, read: impl FnOnce(&mut HashMap<UploadId, Parts>) -> T) -> T {
        // A map holds together whatever panicked while it was locked.
        read(&mut self.uploads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The message of an error where ECR has its own.
    fn message(&self, code: Code, target: &Target) -> Option<String> {
        let Target::InRepository { path: Ok(path), resource } = target else { return None };
        match (code, resource) {
            (Code::NameUnknown, _) => Some(format!(
                "The repository with name '{path}' does not exist in the registry with id '{}'",
                self.account
            )),
            (Code::ManifestUnknown, _) => Some("Requested image not found".to_owned()),
            // Source: <https://github.com/moby/buildkit/issues/3776>
            (Code::TagImmutable, Resource::Manifest(tag)) => Some(format!(
                "The image tag '{tag}' already exists in the '{path}' repository and cannot be \
                 overwritten because the repository is immutable."
            )),
            _ => None,
        }
    }
}

impl Habits for EcrHabits {
    /// A password that is none gets a text; one that has expired is denied.
    ///
    /// Source: <https://github.com/mdlavin/copy-docker-image/issues/5>,
    /// <https://github.com/aws/aws-cli/issues/6580>
    fn refuse(&self, error: ApiError, target: &Target) -> Response<Body> {
        match error.code() {
            Code::Unauthorized => {
                let mut response = Response::new(body::full("Not Authorized\n"));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
                    .with(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                    .with(header::WWW_AUTHENTICATE, CHALLENGE)
            }
            Code::Expired => {
                let message = "Your authorization token has expired. Reauthenticate and try again.";
                ApiError::new(StatusCode::FORBIDDEN, Code::Denied, message).into_response()
            }
            code => match self.message(code, target) {
                Some(message) => error.with_message(message).into_response(),
                None => error.into_response(),
            },
        }
    }

    /// Images can be deleted over HTTP, blobs and uploads cannot.
    ///
    /// Source: <https://github.com/aws/containers-roadmap/issues/1229>
    fn operation(&self, resource: &Resource, method: &Method) -> Option<Operation> {
        let deletes = method == Method::DELETE && !matches!(resource, Resource::Manifest(_));
        resource.operation(method).filter(|_| !deletes)
    }

    fn mounts(&self) -> bool {
        self.mounts.load(Ordering::Relaxed)
    }

    /// A part that does not say where it starts starts at 0. One that is too small is found out when
    /// the upload ends.
    ///
    /// Source: <https://github.com/apple/containerization/issues/790>,
    /// <https://github.com/dotnet/sdk-container-builds/issues/424>
    fn take_part(&self, part: &Part) -> Result<(), ApiError> {
        let Part { id, stored, is_empty, is_last, .. } = *part;
        let start = part.start.unwrap_or(0);
        if !is_empty && start != stored {
            let message = format!("First byte of the layer part is {start} instead of {stored}");
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            return Err(ApiError::new(status, Code::BlobUploadInvalid, message));
        }
        let too_small = self.parts(|uploads| {
            let parts = uploads.entry(id).or_default();
            // A part that comes again after it was cut off is no further one.
            if !is_empty && stored > parts.latest {
                parts.first_end.get_or_insert(stored);
                parts.too_small |= stored - parts.latest < SMALLEST_PART;
                parts.latest = stored;
            }
            parts.too_small
        });
        if is_last && too_small {
            let message = "All layer parts except the last part should be at least 5MB";
            return Err(ApiError::bad_request(Code::BlobUploadInvalid, message));
        }
        if is_last && is_empty && self.fails_empty_put.swap(false, Ordering::Relaxed) {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(ApiError::new(status, Code::Unknown, "Internal Server Error"));
        }
        Ok(())
    }

    /// A part goes to the API with its first and last byte, so that it is there as a whole or not at all.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html>
    fn keeps_cut_parts(&self) -> bool {
        false
    }

    /// Source: <https://github.com/regclient/regclient/pull/82>
    fn part_stored(&self) -> StatusCode {
        StatusCode::CREATED
    }

    /// What it tells sticks at the first part, though the others are stored.
    ///
    /// Source: <https://github.com/aws/containers-roadmap/issues/2831>
    fn told_after_part(&self, id: &UploadId, size: u64) -> u64 {
        self.parts(|uploads| uploads.get(id).and_then(|parts| parts.first_end)).unwrap_or(size)
    }

    fn told_when_asked(&self, _size: u64) -> Result<u64, ApiError> {
        let message = "The upload could not be found";
        Err(ApiError::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, message))
    }

    /// Source: <https://github.com/aws/containers-roadmap/issues/2783>,
    /// <https://github.com/opcr-io/policy/issues/149>
    fn take_manifest(&self, bytes: &[u8]) -> Result<(), ApiError> {
        let has_subject = || {
            let manifest: Option<Value> = serde_json::from_slice(bytes).ok();
            manifest.is_some_and(|manifest| manifest.get("subject").is_some())
        };
        if self.refuses_subjects.load(Ordering::Relaxed) && has_subject() {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let message = "Invalid parameter at 'ImageManifest' failed to satisfy constraint: \
                           'Invalid JSON syntax'";
            return Err(ApiError::new(status, Code::Unsupported, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
