//! [`PendingChange`]: the record of a change that is being made.

use std::fmt::Display;

use super::event::{AuditedResource, ChangedImage, Details, Event};
use super::{AUDIT_TARGET, CallAudit};
use crate::error::{Error, Result};
use crate::model::{Digest, Reference, RepositoryPath};
use crate::permission::Action;

/// The record of a change that is being made; [`finish`](Self::finish) completes it with the result.
///
/// A record that is dropped before, as when its call is cancelled, is completed with the outcome `unknown`.
#[derive(Debug)]
#[must_use = "a change that is not finished is recorded as one of unknown outcome"]
pub struct PendingChange {
    call: CallAudit,
    action: Action,
    path: RepositoryPath,
    image: ChangedImage,
    finished: bool,
}

impl PendingChange {
    pub(super) fn new(call: CallAudit, action: Action, path: &RepositoryPath) -> Self {
        let image = ChangedImage::default();
        Self { call, action, path: path.clone(), image, finished: false }
    }

    /// Sets the tag or digest of the changed image. A digest is also the [digest](Self::set_digest).
    pub fn set_reference(&mut self, reference: &Reference) {
        if let Reference::Digest(digest) = reference {
            self.set_digest(digest);
        }
        self.image.reference = Some(reference.clone());
    }

    /// Sets the digest of the changed image.
    pub fn set_digest(&mut self, digest: &Digest) {
        self.image.digest = Some(digest.clone());
    }

    /// Sets the image that was copied, such as `<path>:<tag>`.
    pub fn set_source(&mut self, source: impl Display) {
        self.image.source = Some(source.to_string());
    }

    /// Records the result of the change.
    ///
    /// A denial by the policy is recorded as a decision already, and not as a change. A change cannot be
    /// undone, so an event of level `ERROR` reports a failure to write to the file.
    pub async fn finish<T>(mut self, result: &Result<T>) {
        self.finished = true;
        if let Err(Error::PermissionDenied { decision: Some(_), .. }) = result {
            return;
        }
        let details = Details::change(&self.image, result.as_ref().err());
        if let Err(error) = self.call.record([self.event(details)]).await {
            self.report_unrecorded(&error);
        }
    }

    fn event<'a>(&'a self, details: Details<'a>) -> Event<'a> {
        self.call.event(self.action, AuditedResource::Repository(&self.path), details)
    }

    fn report_unrecorded(&self, error: &Error) {
        tracing::error!(
            target: AUDIT_TARGET,
            request = %self.call.request,
            repository = %self.path,
            action = self.action.as_str(),
            error = error as &(dyn std::error::Error + 'static),
            "a change is not in the audit file"
        );
    }
}

impl Drop for PendingChange {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // No future is left to await the write, and at the end of a program no other thread either.
        let event = [self.event(Details::change_of_unknown_outcome(&self.image))];
        let recorded = self.call.trace(event).and_then(|written| match written {
            Some((file, lines)) => file.append_blocking(&lines),
            None => Ok(()),
        });
        if let Err(error) = recorded {
            self.report_unrecorded(&error);
        }
    }
}
