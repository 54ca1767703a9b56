//! [`Claims`] and [`ClaimNames`]: the principal and the lifetime in the claims of a token.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::error::Error;
use crate::identity::{Principal, PrincipalKind, PrincipalName};
use crate::model::{OrganizationId, Organizations};

/// The names of the claims that describe a principal. The defaults are `sub`, `kind`, `organizations` and
/// `administers`.
///
/// The kind is `user`, `robot` or `ingest-job`, and is required. The organizations are arrays of GUIDs.
/// Without such a claim the principal has no organizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    subject: String,
    kind: String,
    organizations: String,
    administers: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            subject: "sub".to_owned(),
            kind: "kind".to_owned(),
            organizations: "organizations".to_owned(),
            administers: "administers".to_owned(),
        }
    }
}

impl ClaimNames {
    /// Sets the claim with the id of the principal.
    #[must_use]
    pub fn with_subject(mut self, claim: impl Into<String>) -> Self {
        self.subject = claim.into();
        self
    }

    /// Sets the claim with the kind of the principal.
    #[must_use]
    pub fn with_kind(mut self, claim: impl Into<String>) -> Self {
        self.kind = claim.into();
        self
    }

    /// Sets the claim with the organizations that the principal is a member of.
    #[must_use]
    pub fn with_organizations(mut self, claim: impl Into<String>) -> Self {
        self.organizations = claim.into();
        self
    }

    /// Sets the claim with the organizations that the principal administers.
    #[must_use]
    pub fn with_administers(mut self, claim: impl Into<String>) -> Self {
        self.administers = claim.into();
        self
    }

    /// Returns the principal that the claims describe.
    pub(super) fn principal(&self, claims: &Claims) -> Result<Principal, TokenProblem> {
        let kind: PrincipalKind = claims.text(&self.kind, "kind")?.parse().map_err(|error| {
            TokenProblem::invalid(format!(
                "has a claim \"{}\" that is not a kind: {error}",
                self.kind
            ))
        })?;
        let subject = claims.text(&self.subject, "subject")?;
        let name = PrincipalName::new(kind, subject).map_err(|error| {
            TokenProblem::invalid(format!(
                "has a claim \"{}\" that is not a name: {error}",
                self.subject
            ))
        })?;
        let member_of = claims.organizations(&self.organizations)?;
        let administers = claims.organizations(&self.administers)?;
        Ok(Principal::new(name, member_of, administers))
    }
}

/// The claims of a token.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Decodes the claims of a token without verifying its signature.
    pub(super) fn unverified(token: &str) -> Result<Self, TokenProblem> {
        // The cause is dropped because it would quote the token.
        let decoded = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(token);
        let no_token = |_| TokenProblem::invalid("is not a signed JSON Web Token");
        Ok(Self(decoded.map_err(no_token)?.claims))
    }

    /// Takes the claims of a token whose signature was verified.
    pub(super) fn verified(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    pub(super) fn lifetime(&self) -> Result<Lifetime, TokenProblem> {
        Lifetime::new(self.0.get("nbf"), self.0.get("exp"))
    }

    /// Returns the string in the claim `name`. `what` is the property of the principal, for errors.
    fn text(&self, name: &str, what: &str) -> Result<&str, TokenProblem> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => {
                Err(TokenProblem::invalid(format!("has a claim \"{name}\" that is not a string")))
            }
            None => Err(TokenProblem::invalid(format!(
                "has no claim \"{name}\"; if another claim holds the {what}, name it in the \
                 setting identity.claims.{what}"
            ))),
        }
    }

    /// Returns the organizations that the claim `name` lists.
    fn organizations(&self, name: &str) -> Result<Organizations, TokenProblem> {
        let refused =
            |problem: &str| TokenProblem::invalid(format!("has a claim \"{name}\" {problem}"));
        let Some(value) = self.0.get(name) else { return Ok(Organizations::none()) };
        let listed = value.as_array().ok_or_else(|| refused("that is not a list"))?;
        let organization = |item: &Value| -> Result<OrganizationId, TokenProblem> {
            let text =
                item.as_str().ok_or_else(|| refused("that lists an item other than a string"))?;
            text.parse()
                .map_err(|error| refused(&format!("that lists an invalid organization: {error}")))
        };
        listed.iter().map(organization).collect()
    }
}

/// The maximum difference between the clocks of this machine and the issuer.
pub(super) const CLOCK_LEEWAY: Duration = Duration::from_secs(30);

/// The Unix time of the start of the year 10000, which RFC 3339 cannot represent.
const MAX_EPOCH_SECONDS: f64 = 253_402_300_800.0;

/// The period in which a token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    not_before: Option<SystemTime>,
    expires_at: SystemTime,
}

impl Lifetime {
    /// Parses the claims `nbf` and `exp`. A token without `exp` is invalid. The lifetime of a token is not limited.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4>
    pub(super) fn new(
        not_before: Option<&Value>,
        expires_at: Option<&Value>,
    ) -> Result<Self, TokenProblem> {
        let expires_at = expires_at.ok_or_else(|| TokenProblem::invalid("has no claim \"exp\""))?;
        Ok(Self {
            not_before: not_before.map(|value| time(value, "nbf")).transpose()?,
            expires_at: time(expires_at, "exp")?,
        })
    }

    pub(super) fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Fails if the token is not valid at `now`, within the leeway.
    pub(super) fn check(&self, now: SystemTime) -> Result<(), TokenProblem> {
        let shown = humantime::format_rfc3339_seconds;
        let later =
            |a: SystemTime, b: SystemTime| a.duration_since(b).is_ok_and(|by| by > CLOCK_LEEWAY);
        if later(now, self.expires_at) {
            return Err(TokenProblem::invalid(format!("expired at {}", shown(self.expires_at))));
        }
        match self.not_before {
            Some(start) if later(start, now) => {
                Err(TokenProblem::invalid(format!("is not valid before {}", shown(start))))
            }
            _ => Ok(()),
        }
    }
}

/// Parses seconds since the Unix epoch, which may have a fraction.
fn time(value: &Value, claim: &str) -> Result<SystemTime, TokenProblem> {
    let seconds = value.as_f64().filter(|seconds| *seconds < MAX_EPOCH_SECONDS);
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    since
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .ok_or_else(|| TokenProblem::invalid(format!("has a claim \"{claim}\" that is not a time")))
}

/// The reason why a token does not identify a principal.
#[derive(Debug)]
pub(super) enum TokenProblem {
    /// The token is invalid. The text follows `the token`, such as `has expired`.
    Invalid(String),
    /// The token could not be verified.
    Unverified(Error),
}

impl TokenProblem {
    pub(super) fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid(problem.into())
    }

    /// Returns the error about `token`, such as `the token in jwt.json`.
    pub(super) fn into_error(self, token: impl Display) -> Error {
        match self {
            Self::Invalid(problem) => Error::unauthenticated(format!("{token} {problem}")),
            Self::Unverified(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn principal(names: &ClaimNames, claims: Value) -> Result<Principal, String> {
        let Value::Object(claims) = claims else { panic!("{claims} are no claims") };
        let named = names.principal(&Claims::verified(claims));
        named.map_err(|problem| problem.into_error("the token").to_string())
    }

    #[test]
    fn claims_describe_a_principal() {
        let braces = format!("{{{}}}", TBD.to_uppercase());
        let claims = json!({"sub": "alice", "kind": "user", "organizations": [braces]});
        let alice = principal(&ClaimNames::default(), claims).unwrap();
        assert_eq!(alice.to_string(), "user:alice");
        assert_eq!(alice.organizations(), Organizations::from(OrganizationId::TBD));
        assert!(!alice.administers(OrganizationId::TBD));
    }

    #[test]
    fn claim_names_are_configurable() {
        let names = ClaimNames::default()
            .with_subject("email")
            .with_kind("https://ark.example/kind")
            .with_organizations("groups")
            .with_administers("owns");
        let claims = json!({
            "sub": "0b1", "kind": "user", "email": "nightly", "https://ark.example/kind": "robot",
            "organizations": [TBD], "owns": [TBD], "groups": []
        });
        let nightly = principal(&names, claims).unwrap();
        assert_eq!(nightly.to_string(), "robot:nightly");
        assert!(nightly.administers(OrganizationId::TBD));
        let mine_only =
            json!({"email": "a", "https://ark.example/kind": "user", "organizations": [TBD]});
        assert_eq!(principal(&names, mine_only).unwrap().organizations(), Organizations::none());
    }

    #[test]
    fn kind_and_subject_are_required() {
        let rejection = |claims| principal(&ClaimNames::default(), claims).unwrap_err();
        assert_eq!(
            rejection(json!({"sub": "alice", "organizations": [TBD]})),
            "not authenticated: the token has no claim \"kind\"; if another claim holds the kind, \
             name it in the setting identity.claims.kind",
        );
        assert_eq!(
            rejection(json!({"kind": "user"})),
            "not authenticated: the token has no claim \"sub\"; if another claim holds the \
             subject, name it in the setting identity.claims.subject",
        );
    }

    #[test]
    fn invalid_claims_are_rejected() {
        for (claim, value, problem) in [
            ("kind", json!("admin"), "that is not a kind: \"admin\" is not a valid principal kind"),
            ("kind", json!("User"), "that is not a kind: \"User\""),
            ("kind", json!(["user"]), "that is not a string"),
            ("kind", json!(null), "that is not a string"),
            ("sub", json!(""), "that is not a name"),
            ("sub", json!("a\nb"), "that is not a name"),
            ("sub", json!(7), "that is not a string"),
            ("organizations", json!("*"), "that is not a list"),
            ("organizations", json!(null), "that is not a list"),
            ("organizations", json!(["*"]), "that lists an invalid organization"),
            ("organizations", json!(["all"]), "that lists an invalid organization"),
            ("administers", json!(true), "that is not a list"),
            ("administers", json!([TBD, 1]), "that lists an item other than a string"),
        ] {
            let mut claims = json!({"sub": "alice", "kind": "user"});
            claims[claim] = value;
            let message = principal(&ClaimNames::default(), claims).unwrap_err();
            assert!(message.contains(&format!("claim \"{claim}\" {problem}")), "{message}");
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn problem(outcome: Result<impl std::fmt::Debug, TokenProblem>) -> String {
        outcome.unwrap_err().into_error("the token").to_string()
    }

    #[test]
    fn lifetime_has_thirty_seconds_leeway() {
        let lifetime = Lifetime::new(Some(&json!(1000)), Some(&json!(2000.5))).unwrap();
        for good in [970, 1000, 2000, 2030] {
            assert!(lifetime.check(at(good)).is_ok(), "{good}");
        }
        assert_eq!(
            problem(lifetime.check(at(969))),
            "not authenticated: the token is not valid before 1970-01-01T00:16:40Z"
        );
        assert_eq!(
            problem(lifetime.check(at(2031))),
            "not authenticated: the token expired at 1970-01-01T00:33:20Z"
        );
    }

    #[test]
    fn missing_or_invalid_times_are_rejected() {
        assert!(problem(Lifetime::new(None, None)).ends_with("the token has no claim \"exp\""));
        for bad in [json!("2000"), json!(null), json!(-1), json!(1e300), json!([1]), json!(3e11)] {
            let exp = problem(Lifetime::new(None, Some(&bad)));
            assert!(exp.ends_with("the token has a claim \"exp\" that is not a time"), "{exp}");
            let nbf = problem(Lifetime::new(Some(&bad), Some(&json!(1))));
            assert!(nbf.ends_with("the token has a claim \"nbf\" that is not a time"), "{nbf}");
        }
    }
}
