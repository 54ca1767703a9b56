//! [`Event`]: one event of the audit, as a line of JSON and for `tracing`.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::{AUDIT_TARGET, RequestId};
use crate::credentials::{Narrowing, RegistryCredentials};
use crate::error::Error;
use crate::identity::{Principal, PrincipalKind};
use crate::model::{Digest, OrganizationId, Reference, RepositoryPath, Scope};
use crate::permission::{Action, Decision, PolicyRequest};

/// The rule of a denial because the policy could not decide.
const UNDECIDED: &str = "error";

/// The last second that RFC 3339 can write: the end of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

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

impl<'a> AuditedResource<'a> {
    fn organization(self) -> OrganizationText {
        OrganizationText(match self {
            Self::Repository(path) => Some(path.organization()),
            Self::Organization(organization) => Some(organization),
            Self::EveryOrganization => None,
        })
    }

    fn repository(self) -> Option<&'a RepositoryPath> {
        match self {
            Self::Repository(path) => Some(path),
            Self::Organization(_) | Self::EveryOrganization => None,
        }
    }
}

/// An organization's GUID, or `*` for every organization.
#[derive(Debug, Clone, Copy)]
struct OrganizationText(Option<OrganizationId>);

impl Display for OrganizationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(organization) => organization.fmt(f),
            None => f.write_str("*"),
        }
    }
}

/// One event; its fields are those of the [documentation](super).
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    #[serde(serialize_with = "text")]
    time: Timestamp,
    event: &'static str,
    request: RequestId,
    #[serde(serialize_with = "text")]
    principal: &'a Principal,
    #[serde(serialize_with = "text")]
    kind: PrincipalKind,
    #[serde(serialize_with = "text")]
    organization: OrganizationText,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a RepositoryPath>,
    #[serde(serialize_with = "text")]
    action: Action,
    #[serde(flatten)]
    details: Details<'a>,
}

/// The image that a change is about, as far as it is about one and that is known.
#[derive(Debug, Default, Serialize)]
pub(super) struct ChangedImage {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    pub(super) reference: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    pub(super) digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
}

/// The fields that only one kind of event has.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Details<'a> {
    Decision {
        decision: &'static str,
        rule: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
        error: Option<Causes<'a>>,
    },
    Change {
        #[serde(flatten)]
        image: &'a ChangedImage,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
        error: Option<Causes<'a>>,
    },
    Credentials {
        #[serde(serialize_with = "text")]
        scope: Scope,
        #[serde(serialize_with = "text")]
        expires_at: Timestamp,
        narrowing: &'static str,
    },
}

impl<'a> Details<'a> {
    /// Creates the fields of a decision.
    pub(super) fn decision(decision: &'a Decision) -> Self {
        Self::Decision {
            decision: if decision.is_allowed() { "allow" } else { "deny" },
            rule: decision.rule(),
            origin: decision.origin(),
            error: None,
        }
    }

    /// Creates the fields of a denial because the policy could not decide.
    pub(super) fn undecided(error: &'a Error) -> Self {
        let error = Some(Causes(error));
        Self::Decision { decision: "deny", rule: UNDECIDED, origin: None, error }
    }

    /// Creates the fields of a change that was made or failed.
    pub(super) fn change(image: &'a ChangedImage, failure: Option<&'a Error>) -> Self {
        let outcome = if failure.is_some() { "failed" } else { "done" };
        Self::Change { image, outcome, error: failure.map(Causes) }
    }

    /// Creates the fields of a change whose call was cancelled.
    pub(super) fn change_of_unknown_outcome(image: &'a ChangedImage) -> Self {
        Self::Change { image, outcome: "unknown", error: None }
    }

    /// Creates the fields of credentials; `scope` is their scope in the event's organization.
    pub(super) fn credentials(credentials: &RegistryCredentials, scope: Scope) -> Self {
        Self::Credentials {
            scope,
            expires_at: Timestamp(credentials.expires_at),
            narrowing: match credentials.narrowing {
                Narrowing::Scoped => "scoped",
                Narrowing::Caller => "caller",
            },
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Self::Decision { .. } => "decision",
            Self::Change { .. } => "change",
            Self::Credentials { .. } => "credentials",
        }
    }
}

impl<'a> Event<'a> {
    /// Creates an event.
    pub(super) fn new(
        time: SystemTime,
        request: RequestId,
        principal: &'a Principal,
        action: Action,
        resource: AuditedResource<'a>,
        details: Details<'a>,
    ) -> Self {
        Self {
            time: Timestamp(time),
            event: details.event(),
            request,
            principal,
            kind: principal.kind(),
            organization: resource.organization(),
            repository: resource.repository(),
            action,
            details,
        }
    }

    /// Returns the event as JSON on one line, with a newline.
    pub(super) fn line(&self) -> serde_json::Result<String> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        Ok(line)
    }

    /// Reports the event to `tracing`, which has a time of its own.
    pub(super) fn trace(&self) {
        macro_rules! report {
            ($($field:ident = $value:expr),+) => {
                tracing::info!(
                    target: AUDIT_TARGET,
                    event = self.event,
                    request = %self.request,
                    principal = %self.principal,
                    kind = self.kind.as_str(),
                    organization = %self.organization,
                    repository = self.repository.map(tracing::field::display),
                    action = self.action.as_str(),
                    $($field = $value),+
                )
            };
        }
        match &self.details {
            Details::Decision { decision, rule, origin, error } => report!(
                decision = *decision,
                rule = *rule,
                origin = *origin,
                error = error.as_ref().map(tracing::field::display)
            ),
            Details::Change { image, outcome, error } => report!(
                reference = image.reference.as_ref().map(tracing::field::display),
                digest = image.digest.as_ref().map(tracing::field::display),
                source = image.source.as_deref(),
                outcome = *outcome,
                error = error.as_ref().map(tracing::field::display)
            ),
            Details::Credentials { scope, expires_at, narrowing } => report!(
                scope = tracing::field::display(scope),
                expires_at = tracing::field::display(expires_at),
                narrowing = *narrowing
            ),
        }
    }
}

/// RFC 3339 in UTC to the millisecond. A time outside of its years 1970 to 9999 becomes the nearest one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp(pub(super) SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_SECOND);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

/// An error and its causes, the outermost first.
#[derive(Debug)]
pub(super) struct Causes<'a>(&'a Error);

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn optional_text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
