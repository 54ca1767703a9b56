//! The audit: an event for each decision, each change and all issued credentials.
//!
//! Every event is sent to [`tracing`] with the target [`AUDIT_TARGET`]. With
//! [`Permissioned::with_audit`](super::Permissioned::with_audit) every event is also written to an [`AuditFile`], as
//! one line of JSON. No event contains a secret. Leaving a repository out of a listing causes no event.
//!
//! # Kinds of events
//!
//! A `decision` is recorded before the call does anything. If the decision cannot be recorded, the call fails.
//!
//! ```json
//! {"time":"2026-07-14T09:21:07.312Z","event":"decision","request":"5f1c9a2b7d3e4f60-1","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"create-repository","decision":"allow","rule":"member","origin":"memberships.toml:3"}
//! {"time":"2026-07-14T09:21:07.312Z","event":"decision","request":"5f1c9a2b7d3e4f60-2","principal":"ingest-job:nightly","kind":"ingest-job","organization":"*","action":"list-repositories","decision":"deny","rule":"error","error":"cannot read memberships.toml: Permission denied"}
//! ```
//!
//! A `change` is recorded when it is complete or has failed. Since a change cannot be undone, a failure to
//! write the event to the file does not fail the call: a `tracing` event of level `ERROR` reports the
//! failure. A push or copy has an event for each tag.
//!
//! ```json
//! {"time":"2026-07-14T09:21:07.312Z","event":"change","request":"5f1c9a2b7d3e4f60-1","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"create-repository","outcome":"done"}
//! {"time":"2026-07-14T09:21:07.312Z","event":"change","request":"5f1c9a2b7d3e4f60-3","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"delete-image","reference":"latest","outcome":"failed","error":"repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video does not exist"}
//! {"time":"2026-07-14T09:21:07.312Z","event":"change","request":"5f1c9a2b7d3e4f60-5","principal":"user:alice","kind":"user","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","repository":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video","action":"push","reference":"stable","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","source":"prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/candidate:v1","outcome":"done"}
//! ```
//!
//! `credentials` are recorded before the caller receives them, once for each organization in their scope.
//! If they cannot be recorded, the call fails.
//!
//! ```json
//! {"time":"2026-07-14T09:21:07.312Z","event":"credentials","request":"5f1c9a2b7d3e4f60-4","principal":"robot:build","kind":"robot","organization":"2ea25035-6aa4-42fb-9955-92288ea1b972","action":"pull","scope":"repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/*:pull","expires_at":"2026-07-14T10:21:07.000Z","narrowing":"scoped"}
//! ```
//!
//! # Fields
//!
//! | field | of | content |
//! |---|---|---|
//! | `time` | all | RFC 3339 in UTC, to the millisecond. Not a field of `tracing`'s events |
//! | `event` | all | `decision`, `change` or `credentials` |
//! | `request` | all | the call that the event belongs to; unique among the calls of all processes |
//! | `principal` | all | the caller, such as `user:alice` |
//! | `kind` | all | the caller's kind: `user`, `robot` or `ingest-job` |
//! | `organization` | all | the organization's GUID, or `*` in a decision for a listing of all that exist |
//! | `repository` | all | the repository's path; absent if the event is not about one repository |
//! | `action` | all | the word of an [`Action`], such as `create-repository`; for credentials, their most powerful action |
//! | `decision` | `decision` | `allow` or `deny` |
//! | `rule` | `decision` | the policy's [rule](super::Decision::rule); `error` for a denial because the policy could not decide |
//! | `origin` | `decision` | file and line of the rule, such as `memberships.toml:3`; absent for built-in rules |
//! | `reference` | `change` | the tag or digest of the image that was deleted or pushed; absent for a change of the repository, and for a push without a tag |
//! | `digest` | `change` | the digest of the image that was deleted or pushed; absent if unknown |
//! | `source` | `change` | the image that was copied; absent if the image was not copied from a repository |
//! | `outcome` | `change` | `done`, `failed`, or `unknown` if the call was cancelled before it ended |
//! | `error` | `decision`, `change` | the error of the policy or the change, with its causes; absent if there was none |
//! | `scope` | `credentials` | the scope of the credentials in this organization, in the form of a [`Scope`] |
//! | `expires_at` | `credentials` | when the credentials expire, in the form of `time` |
//! | `narrowing` | `credentials` | `scoped` if the registry refuses everything beyond the scope, `caller` if it does not |
//!
//! The format is stable. Later versions may add fields, kinds of events and words, but do not change or
//! remove any. The JSON schema of a line is in `schemas/audit.schema.json`. Use `jq` to query the file:
//!
//! ```text
//! jq -c 'select(.event == "change" and .action == "delete-repository")' audit.jsonl
//! ```

mod event;
mod file;

use std::collections::hash_map::RandomState;
use std::fmt::{self, Display};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use serde::{Serialize, Serializer};

pub use file::AuditFile;

pub(super) use self::event::AuditedResource;
use self::event::{Event, Timestamp, error_with_causes};
use super::{Action, Decision};
use crate::credentials::{Narrowing, RegistryCredentials};
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{Access, Digest, Reference, RepositoryPath, Scope, ScopeTarget};
use crate::observability::DECISIONS;

/// The target of every audit event.
///
/// The level is `INFO`. The fields are those of [the format](self), without `time`.
pub const AUDIT_TARGET: &str = "ark::audit";

/// The rule of a denial because the policy could not decide.
const UNDECIDED: &str = "error";

/// A random identifier of this process, common to its calls.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Identifies one call: sixteen random hexadecimal digits for the process, and the number of the call. Not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RequestId {
    process: u64,
    call: u64,
}

impl RequestId {
    /// Creates the identifier of a new call.
    fn next() -> Self {
        Self { process: *PROCESS, call: CALLS.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.call)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Records the events of one call. The events share one request id.
///
/// Every method returns [`Error::Failed`] or [`Error::Temporary`] when an event cannot be written to the
/// file. The call must then fail.
#[derive(Debug, Clone)]
pub(super) struct CallAudit {
    file: Option<AuditFile>,
    request: RequestId,
    principal: Arc<Principal>,
}

impl CallAudit {
    /// Starts the record of a new call. Events are also written to `file`, if there is one.
    pub(super) fn begin(file: Option<&AuditFile>, principal: &Arc<Principal>) -> Self {
        Self { file: file.cloned(), request: RequestId::next(), principal: Arc::clone(principal) }
    }

    /// Records a decision. The call must do nothing before its decision is recorded.
    pub(super) async fn decision(
        &self,
        action: Action,
        resource: AuditedResource<'_>,
        decision: &Decision,
    ) -> Result<()> {
        self.record([self.decision_event(action, resource, decision)]).await
    }

    /// Records a denial because the policy failed with `error`.
    pub(super) async fn undecided(
        &self,
        action: Action,
        resource: AuditedResource<'_>,
        error: &Error,
    ) -> Result<()> {
        self.record([self.undecided_event(action, resource, error)]).await
    }

    /// Records credentials before the caller receives them, once for each organization in their scope.
    pub(super) async fn credentials(&self, credentials: &RegistryCredentials) -> Result<()> {
        self.record(self.credentials_events(credentials)).await
    }

    /// Starts the record of a change that is about to be made.
    pub(super) fn begin_change(self, action: Action, path: &RepositoryPath) -> PendingChange {
        PendingChange {
            call: self,
            action,
            path: path.clone(),
            reference: None,
            digest: None,
            source: None,
            finished: false,
        }
    }

    fn decision_event<'a>(
        &'a self,
        action: Action,
        resource: AuditedResource<'a>,
        decision: &'a Decision,
    ) -> Event<'a> {
        Event {
            decision: Some(if decision.is_allowed() { "allow" } else { "deny" }),
            rule: Some(decision.rule()),
            origin: decision.origin(),
            ..self.event("decision", action, resource)
        }
    }

    fn undecided_event<'a>(
        &'a self,
        action: Action,
        resource: AuditedResource<'a>,
        error: &Error,
    ) -> Event<'a> {
        Event {
            decision: Some("deny"),
            rule: Some(UNDECIDED),
            error: Some(error_with_causes(error)),
            ..self.event("decision", action, resource)
        }
    }

    fn credentials_events<'a>(&'a self, credentials: &'a RegistryCredentials) -> Vec<Event<'a>> {
        let scope = &credentials.scope;
        let action = furthest(scope.access());
        let event = |resource, scope: &Scope| Event {
            scope: Some(scope.to_string()),
            expires_at: Some(Timestamp(credentials.expires_at)),
            narrowing: Some(match credentials.narrowing {
                Narrowing::Scoped => "scoped",
                Narrowing::Caller => "caller",
            }),
            ..self.event("credentials", action, resource)
        };
        match scope.target() {
            ScopeTarget::Repository(path) => vec![event(AuditedResource::Repository(path), scope)],
            ScopeTarget::Organizations(stage, organizations) => {
                let events = organizations.iter().map(|organization| {
                    let one = Scope::organizations(stage.clone(), [*organization], scope.access());
                    event(AuditedResource::Organization(*organization), &one)
                });
                events.collect()
            }
        }
    }

    fn event<'a>(
        &'a self,
        kind: &'static str,
        action: Action,
        resource: AuditedResource<'a>,
    ) -> Event<'a> {
        Event::new(kind, self.request, &self.principal, action, resource)
    }

    async fn record<'a>(&self, events: impl IntoIterator<Item = Event<'a>>) -> Result<()> {
        let Some((file, lines)) = self.trace(events)? else { return Ok(()) };
        file.append(lines).await
    }

    /// Sends events to `tracing`. Returns the audit file, if there is one, and the lines to write to it.
    fn trace<'a>(
        &self,
        events: impl IntoIterator<Item = Event<'a>>,
    ) -> Result<Option<(&AuditFile, String)>> {
        let mut lines = String::new();
        for event in events {
            if let Some(decision) = event.decision {
                let action = event.action;
                metrics::counter!(DECISIONS, "action" => action, "decision" => decision)
                    .increment(1);
            }
            event.trace();
            if self.file.is_some() {
                let line = event.line();
                lines += &line
                    .map_err(|error| Error::failed("cannot write an event").with_source(error))?;
            }
        }
        Ok(self.file.as_ref().map(|file| (file, lines)))
    }
}

/// The record of a change in progress. [`finish`](Self::finish) writes the record with the result.
///
/// A record that is dropped before, such as when its call is cancelled, is written with the outcome `unknown`.
#[derive(Debug)]
#[must_use = "a change that is not finished is recorded with the outcome `unknown`"]
pub struct PendingChange {
    call: CallAudit,
    action: Action,
    path: RepositoryPath,
    reference: Option<Reference>,
    digest: Option<Digest>,
    source: Option<String>,
    finished: bool,
}

impl PendingChange {
    /// Sets the tag or digest of the changed image. A digest also sets the [digest](Self::set_digest) field.
    pub fn set_reference(&mut self, reference: &Reference) {
        if let Reference::Digest(digest) = reference {
            self.set_digest(digest);
        }
        self.reference = Some(reference.clone());
    }

    /// Sets the digest of the changed image.
    pub fn set_digest(&mut self, digest: &Digest) {
        self.digest = Some(digest.clone());
    }

    /// Sets the image that was copied, such as `<path>:<tag>`.
    pub fn set_source(&mut self, source: impl Display) {
        self.source = Some(source.to_string());
    }

    /// Records the result of the change.
    ///
    /// A denial by the policy is already recorded as a decision, and is not recorded as a change. A failure
    /// to write to the file does not fail the call, because the change cannot be undone: an event of level
    /// `ERROR` reports the failure.
    pub async fn finish<T>(mut self, result: &Result<T>) {
        self.finished = true;
        if let Err(Error::PermissionDenied { decision: Some(_), .. }) = result {
            return;
        }
        let event = match result {
            Ok(_) => self.event("done", None),
            Err(error) => self.event("failed", Some(error_with_causes(error))),
        };
        if let Err(error) = self.call.record([event]).await {
            self.report_unrecorded(&error);
        }
    }

    fn event(&self, outcome: &'static str, error: Option<String>) -> Event<'_> {
        Event {
            reference: self.reference.as_ref(),
            digest: self.digest.as_ref(),
            source: self.source.as_deref(),
            outcome: Some(outcome),
            error,
            ..self.call.event("change", self.action, AuditedResource::Repository(&self.path))
        }
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
        // The write blocks: no future can await it, and when a program ends no other thread is left.
        let recorded =
            self.call.trace([self.event("unknown", None)]).and_then(|written| match written {
                Some((file, lines)) => file.append_blocking(&lines),
                None => Ok(()),
            });
        if let Err(error) = recorded {
            self.report_unrecorded(&error);
        }
    }
}

/// Returns the most powerful action that an access level allows.
fn furthest(access: Access) -> Action {
    match access {
        Access::Pull => Action::Pull,
        Access::Push => Action::Push,
        Access::Delete => Action::DeleteImage,
    }
}

#[cfg(test)]
mod tests;
