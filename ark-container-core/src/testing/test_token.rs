//! [`TestToken`]: what a token says, before it is signed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::identity::PrincipalName;
use crate::model::OrganizationId;

/// The claim from which AWS STS takes the tags of a session.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp>
const SESSION_TAGS: &str = "https://aws.amazon.com/tags";

const LIFETIME: Duration = Duration::from_secs(3600);

/// What a token says, before a [`TokenIssuer`](super::TokenIssuer) signs it.
///
/// It names a principal by the default [`ClaimNames`](crate::identity::ClaimNames) and is good for an hour;
/// every claim and header can be set to anything, or left out.
#[derive(Debug, Clone, PartialEq)]
pub struct TestToken {
    claims: Map<String, Value>,
    header: Map<String, Value>,
}

impl TestToken {
    /// A token for the principal called `name`, a member of no organization.
    pub fn new(name: &PrincipalName) -> Self {
        let token = Self { claims: Map::new(), header: Map::new() };
        let now = SystemTime::now();
        token
            .with_claim("sub", name.id())
            .with_claim("kind", name.kind().as_str())
            .with_claim("iat", unix_seconds(now))
            .expiring_at(now + LIFETIME)
    }

    /// Its principal is a member of `organizations`.
    #[must_use]
    pub fn with_organizations(
        self,
        organizations: impl IntoIterator<Item = OrganizationId>,
    ) -> Self {
        self.with_claim("organizations", texts(organizations))
    }

    /// Its principal administers `organizations`.
    #[must_use]
    pub fn with_administers(self, organizations: impl IntoIterator<Item = OrganizationId>) -> Self {
        self.with_claim("administers", texts(organizations))
    }

    /// It also says, for AWS STS, what its claims say by now: session tags `kind`, `organization`,
    /// `organization2` and so on, `administers`, `administers2` and so on.
    #[must_use]
    pub fn with_session_tags(self) -> Self {
        let mut tags = Map::new();
        if let Some(kind) = self.claims.get("kind") {
            tags.insert("kind".to_owned(), json!([kind]));
        }
        for (claim, tag) in [("organizations", "organization"), ("administers", "administers")] {
            let organizations = self.claims.get(claim).and_then(Value::as_array);
            for (index, organization) in organizations.into_iter().flatten().enumerate() {
                let slot = if index == 0 { String::new() } else { (index + 1).to_string() };
                tags.insert(format!("{tag}{slot}"), json!([organization]));
            }
        }
        self.with_claim(SESSION_TAGS, json!({ "principal_tags": tags }))
    }

    /// It is good until `time`, in whole seconds.
    #[must_use]
    pub fn expiring_at(self, time: SystemTime) -> Self {
        self.with_claim("exp", unix_seconds(time))
    }

    /// It is good from `time` on, in whole seconds.
    #[must_use]
    pub fn not_before(self, time: SystemTime) -> Self {
        self.with_claim("nbf", unix_seconds(time))
    }

    /// It says `value` in the claim `name`, which may be one that the issuer would fill in.
    #[must_use]
    pub fn with_claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// It has no claim `name`, not even one that the issuer would fill in.
    #[must_use]
    pub fn without_claim(self, name: &str) -> Self {
        self.with_claim(name, Value::Null)
    }

    /// Its header says `value` in the parameter `name`, such as `kid` or `alg`, whatever it is signed by.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Its header has no parameter `name`, not even one that the issuer would fill in.
    #[must_use]
    pub fn without_header(self, name: &str) -> Self {
        self.with_header(name, Value::Null)
    }

    /// Header and claims, with the issuer's for what this token does not say itself.
    pub(super) fn filled(
        &self,
        header: Map<String, Value>,
        claims: Map<String, Value>,
    ) -> (Value, Value) {
        let fill = |mut issuers: Map<String, Value>, own: &Map<String, Value>| {
            issuers.extend(own.clone());
            issuers.retain(|_, value| !value.is_null());
            Value::Object(issuers)
        };
        (fill(header, &self.header), fill(claims, &self.claims))
    }
}

fn texts(organizations: impl IntoIterator<Item = OrganizationId>) -> Vec<String> {
    organizations.into_iter().map(|organization| organization.to_string()).collect()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_tags_say_what_the_claims_say() {
        let other = OrganizationId::from_u128(1);
        let token = TestToken::new(&"user:alice".parse().unwrap())
            .with_organizations([OrganizationId::TBD, other])
            .with_administers([other])
            .with_session_tags();
        assert_eq!(
            token.claims[SESSION_TAGS],
            json!({"principal_tags": {
                "kind": ["user"],
                "organization": [OrganizationId::TBD],
                "organization2": [other],
                "administers": [other],
            }}),
        );
    }

    #[test]
    fn what_a_token_says_goes_before_what_the_issuer_fills_in() {
        let token = TestToken::new(&"user:alice".parse().unwrap())
            .with_claim("aud", "other")
            .without_claim("iss")
            .with_header("kid", "other")
            .without_header("typ");
        let parts =
            |names: [&str; 2]| Map::from_iter(names.map(|name| (name.into(), "ours".into())));
        let (header, claims) = token.filled(parts(["kid", "typ"]), parts(["aud", "iss"]));
        assert_eq!(header, json!({"kid": "other"}));
        assert_eq!((&claims["aud"], claims.get("iss")), (&json!("other"), None));
    }
}
