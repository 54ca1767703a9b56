//! [`ClaimNames`]: which claims of a token name a principal.

use serde_json::{Map, Value};

use super::lifetime::Lifetime;
use super::refusal::Refusal;
use crate::identity::{Principal, PrincipalKind, PrincipalName};
use crate::model::{OrganizationId, Organizations};

/// Which claims of a token name a principal. The defaults are `sub`, `kind`, `organizations` and
/// `administers`.
///
/// The kind is `user`, `robot` or `ingest-job`, and has to be there: what a token does not say, its
/// bearer may not do. The organizations are arrays of GUIDs; without the claim there are none.
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
    /// The claim that says what the principal is called among those of its kind.
    #[must_use]
    pub fn with_subject(mut self, claim: impl Into<String>) -> Self {
        self.subject = claim.into();
        self
    }

    /// The claim that says what kind of thing asks.
    #[must_use]
    pub fn with_kind(mut self, claim: impl Into<String>) -> Self {
        self.kind = claim.into();
        self
    }

    /// The claim that lists the organizations that the principal is a member of.
    #[must_use]
    pub fn with_organizations(mut self, claim: impl Into<String>) -> Self {
        self.organizations = claim.into();
        self
    }

    /// The claim that lists the organizations that the principal administers.
    #[must_use]
    pub fn with_administers(mut self, claim: impl Into<String>) -> Self {
        self.administers = claim.into();
        self
    }

    /// The principal that the claims name.
    pub(super) fn principal(&self, claims: &Claims) -> Result<Principal, Refusal> {
        let kind: PrincipalKind = claims.text(&self.kind, "kind")?.parse().map_err(|error| {
            Refusal::token(format!("has a claim \"{}\" that is no kind: {error}", self.kind))
        })?;
        let subject = claims.text(&self.subject, "subject")?;
        let name = PrincipalName::new(kind, subject).map_err(|error| {
            Refusal::token(format!("has a claim \"{}\" that is no name: {error}", self.subject))
        })?;
        let member_of = claims.organizations(&self.organizations)?;
        let administers = claims.organizations(&self.administers)?;
        Ok(Principal::new(name, member_of, administers))
    }
}

/// What a token says.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// What a token says that nobody has verified.
    pub(super) fn unverified(token: &str) -> Result<Self, Refusal> {
        // Why it is no token is not told: the cause would quote from it.
        let decoded = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(token);
        let no_token = |_| Refusal::token("is no signed JSON Web Token");
        Ok(Self(decoded.map_err(no_token)?.claims))
    }

    /// What a token says whose signature was verified.
    pub(super) fn verified(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    pub(super) fn lifetime(&self) -> Result<Lifetime, Refusal> {
        Lifetime::new(self.0.get("nbf"), self.0.get("exp"))
    }

    /// The text of the claim called `name`, which says the principal's `what`.
    fn text(&self, name: &str, what: &str) -> Result<&str, Refusal> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Refusal::token(format!("has a claim \"{name}\" that is no text"))),
            None => Err(Refusal::token(format!(
                "has no claim \"{name}\"; where another claim says the {what}, name it in the setting \
                 identity.claims.{what}"
            ))),
        }
    }

    /// The organizations that the claim called `name` lists.
    fn organizations(&self, name: &str) -> Result<Organizations, Refusal> {
        let refused = |problem: &str| Refusal::token(format!("has a claim \"{name}\" {problem}"));
        let Some(value) = self.0.get(name) else { return Ok(Organizations::none()) };
        let listed = value.as_array().ok_or_else(|| refused("that is no list"))?;
        let organization = |item: &Value| -> Result<OrganizationId, Refusal> {
            let text = item.as_str().ok_or_else(|| refused("that lists what is no text"))?;
            text.parse().map_err(|error| refused(&format!("that lists no organization: {error}")))
        };
        listed.iter().map(organization).collect()
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
        named.map_err(|refusal| refusal.into_error("the token").to_string())
    }

    #[test]
    fn claims_name_a_principal() {
        let braces = format!("{{{}}}", TBD.to_uppercase());
        let claims = json!({"sub": "alice", "kind": "user", "organizations": [braces]});
        let alice = principal(&ClaimNames::default(), claims).unwrap();
        assert_eq!(alice.to_string(), "user:alice");
        assert_eq!(alice.organizations(), Organizations::from(OrganizationId::TBD));
        assert!(!alice.administers(OrganizationId::TBD));
    }

    #[test]
    fn claims_may_have_other_names() {
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
    fn who_does_not_say_what_it_is_is_nobody() {
        let refused = |claims| principal(&ClaimNames::default(), claims).unwrap_err();
        assert_eq!(
            refused(json!({"sub": "alice", "organizations": [TBD]})),
            "not authenticated: the token has no claim \"kind\"; where another claim says the kind, \
             name it in the setting identity.claims.kind",
        );
        assert_eq!(
            refused(json!({"kind": "user"})),
            "not authenticated: the token has no claim \"sub\"; where another claim says the subject, \
             name it in the setting identity.claims.subject",
        );
        for (kind, problem) in [
            (json!("admin"), "that is no kind: \"admin\" is not a valid principal kind"),
            (json!("User"), "that is no kind: \"User\""),
            (json!(["user"]), "that is no text"),
            (json!(null), "that is no text"),
        ] {
            let refused = refused(json!({"sub": "alice", "kind": kind}));
            assert!(refused.contains(problem), "{refused}");
        }
        for (subject, problem) in [
            (json!(""), "that is no name"),
            (json!("a\nb"), "that is no name"),
            (json!(7), "that is no text"),
        ] {
            let refused = refused(json!({"sub": subject, "kind": "user"}));
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn organizations_are_guids_one_by_one() {
        for (claim, value, problem) in [
            ("organizations", json!("*"), "claim \"organizations\" that is no list"),
            ("organizations", json!(null), "claim \"organizations\" that is no list"),
            ("organizations", json!(["*"]), "claim \"organizations\" that lists no organization"),
            ("organizations", json!(["all"]), "that lists no organization"),
            ("administers", json!(true), "claim \"administers\" that is no list"),
            ("administers", json!([TBD, 1]), "claim \"administers\" that lists what is no text"),
        ] {
            let mut claims = json!({"sub": "alice", "kind": "user"});
            claims[claim] = value;
            let refused = principal(&ClaimNames::default(), claims).unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
    }
}
