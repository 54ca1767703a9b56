//! [`Event`]: one event of the audit, as a line of JSON and as a `tracing` event.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use tracing::field;

use super::{AUDIT_TARGET, RequestId};
use crate::error::Error;
use crate::identity::{Principal, PrincipalKind, PrincipalName};
use crate::model::{Digest, OrganizationId, Reference, RepositoryPath};
use crate::permission::{Action, PolicyRequest};

/// The last Unix time that RFC 3339 can represent: the end of the year 9999.
const MAX_EPOCH_SECONDS: Duration = Duration::from_secs(253_402_300_799);

/// The object of an event.
#[derive(Debug, Clone, Copy)]
pub(in crate::permission) enum AuditedResource<'a> {
    /// One repository, which may not exist.
    Repository(&'a RepositoryPath),
    /// The repositories of one organization.
    Organization(OrganizationId),
    /// The repositories of every organization that exists.
    EveryOrganization,
}

impl<'a> From<&PolicyRequest<'a>> for AuditedResource<'a> {
    fn from(request: &PolicyRequest<'a>) -> Self {
        match request.repository {
            Some(path) => Self::Repository(path),
            None => Self::Organization(request.organization),
        }
    }
}

/// One event. The fields are those of the [documentation](super).
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    pub(super) time: Timestamp,
    pub(super) event: &'static str,
    pub(super) request: RequestId,
    pub(super) principal: &'a PrincipalName,
    pub(super) kind: PrincipalKind,
    pub(super) organization: EventOrganization,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<&'a RepositoryPath>,
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<&'a Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<&'a Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) narrowing: Option<&'static str>,
}

impl<'a> Event<'a> {
    /// Creates an event with the current time, without the fields of its kind.
    pub(super) fn new(
        event: &'static str,
        request: RequestId,
        principal: &'a Principal,
        action: Action,
        resource: AuditedResource<'a>,
    ) -> Self {
        let (organization, repository) = match resource {
            AuditedResource::Repository(path) => (Some(path.organization()), Some(path)),
            AuditedResource::Organization(organization) => (Some(organization), None),
            AuditedResource::EveryOrganization => (None, None),
        };
        Self {
            time: Timestamp(SystemTime::now()),
            event,
            request,
            principal: principal.name(),
            kind: principal.kind(),
            organization: EventOrganization(organization),
            repository,
            action: action.as_str(),
            decision: None,
            rule: None,
            origin: None,
            reference: None,
            digest: None,
            source: None,
            outcome: None,
            error: None,
            scope: None,
            expires_at: None,
            narrowing: None,
        }
    }

    /// Returns the event as JSON on one line, with a newline.
    pub(super) fn line(&self) -> serde_json::Result<String> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        Ok(line)
    }

    /// Sends the event to `tracing`, without its time and absent fields. `tracing` adds its own time.
    pub(super) fn trace(&self) {
        tracing::info!(
            target: AUDIT_TARGET,
            event = self.event,
            request = %self.request,
            principal = %self.principal,
            kind = self.kind.as_str(),
            organization = %self.organization,
            repository = self.repository.map(field::display),
            action = self.action,
            decision = self.decision,
            rule = self.rule,
            origin = self.origin,
            reference = self.reference.map(field::display),
            digest = self.digest.map(field::display),
            source = self.source,
            outcome = self.outcome,
            error = self.error.as_deref(),
            scope = self.scope.as_deref(),
            expires_at = self.expires_at.map(field::display),
            narrowing = self.narrowing
        );
    }
}

/// An organization's GUID, or `*` for every organization.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventOrganization(Option<OrganizationId>);

impl Display for EventOrganization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(organization) => organization.fmt(f),
            None => f.write_str("*"),
        }
    }
}

impl Serialize for EventOrganization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time in UTC as in RFC 3339, in milliseconds. A time outside the years 1970 to 9999 becomes the nearest
/// valid one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp(pub(super) SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0.clamp(UNIX_EPOCH, UNIX_EPOCH + MAX_EPOCH_SECONDS);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns the text of an error and of its causes, the outermost first.
pub(super) fn error_with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
