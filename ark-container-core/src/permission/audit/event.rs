//! [`Event`]: one line of the audit.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::{AUDIT_TARGET, RequestId};
use crate::credentials::{Narrowing, RegistryCredentials};
use crate::error::Error;
use crate::identity::{Principal, PrincipalKind};
use crate::model::{OrganizationId, Reference, RepositoryPath, Scope};
use crate::permission::{Action, Decision, PolicyRequest};

/// The rule of a denial because the policy could not decide.
const UNDECIDED: &str = "error";

/// The last second that RFC 3339 can write: the end of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// What an event is about.
#[derive(Debug, Clone, Copy)]
pub(in crate::permission) enum Subject<'a> {
    /// One repository, whether or not it exists.
    Repository(&'a RepositoryPath),
    /// An organization's repositories.
    Organization(OrganizationId),
    /// The repositories of every organization that exists.
    EveryOrganization,
}

impl<'a> From<&PolicyRequest<'a>> for Subject<'a> {
    fn from(request: &PolicyRequest<'a>) -> Self {
        match request.repository {
            Some(path) => Self::Repository(path),
            None => Self::Organization(request.organization),
        }
    }
}

impl<'a> Subject<'a> {
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

/// One event, as the [documentation](super) has it, field by field.
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

/// What is told of one kind of event alone.
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
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
        reference: Option<&'a Reference>,
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
    /// The policy decided.
    pub(super) fn decision(decision: &'a Decision) -> Self {
        Self::Decision {
            decision: if decision.is_allowed() { "allow" } else { "deny" },
            rule: decision.rule(),
            origin: decision.origin(),
            error: None,
        }
    }

    /// The policy could not decide, which is a denial.
    pub(super) fn undecided(error: &'a Error) -> Self {
        let error = Some(Causes(error));
        Self::Decision { decision: "deny", rule: UNDECIDED, origin: None, error }
    }

    /// A change of a repository, or of the image at `reference` in it, was made or failed.
    pub(super) fn change(reference: Option<&'a Reference>, failure: Option<&'a Error>) -> Self {
        let outcome = if failure.is_some() { "failed" } else { "done" };
        Self::Change { reference, outcome, error: failure.map(Causes) }
    }

    /// Nobody waited for what would become of a change.
    pub(super) fn change_of_unknown_outcome(reference: Option<&'a Reference>) -> Self {
        Self::Change { reference, outcome: "unknown", error: None }
    }

    /// Credentials are handed out; `scope` is what they open in the event's organization.
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
    /// What happens at `time`.
    pub(super) fn new(
        time: SystemTime,
        request: RequestId,
        principal: &'a Principal,
        action: Action,
        subject: Subject<'a>,
        details: Details<'a>,
    ) -> Self {
        Self {
            time: Timestamp(time),
            event: details.event(),
            request,
            principal,
            kind: principal.kind(),
            organization: subject.organization(),
            repository: subject.repository(),
            action,
            details,
        }
    }

    /// It as JSON on one line, which ends.
    pub(super) fn line(&self) -> serde_json::Result<String> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        Ok(line)
    }

    /// Tells `tracing`, which has a time of its own.
    pub(super) fn trace(&self) {
        macro_rules! tell {
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
            Details::Decision { decision, rule, origin, error } => tell!(
                decision = *decision,
                rule = *rule,
                origin = *origin,
                error = error.as_ref().map(tracing::field::display)
            ),
            Details::Change { reference, outcome, error } => tell!(
                reference = reference.map(tracing::field::display),
                outcome = *outcome,
                error = error.as_ref().map(tracing::field::display)
            ),
            Details::Credentials { scope, expires_at, narrowing } => tell!(
                scope = tracing::field::display(scope),
                expires_at = tracing::field::display(expires_at),
                narrowing = *narrowing
            ),
        }
    }
}

/// RFC 3339 in UTC to the millisecond; a time that it cannot write becomes the nearest that it can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp(SystemTime);

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

#[cfg(test)]
mod tests;
