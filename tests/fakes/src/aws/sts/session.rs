//! [`Session`]: how a role is to be assumed, and within which limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::assume::principal_tags;
use super::parameters::Parameters;
use super::{invalid, unsatisfied};
use crate::aws::accounts::{Caller, Credential, KnownRole};
use crate::aws::error::ApiError;
use crate::aws::exchange::Exchange;
use crate::aws::iam::Grants;
use crate::aws::identities::{AccessKey, identifier};
use crate::aws::policy::Policy;
use crate::aws::{secret, xml};

/// Source: `roleDurationSecondsType` in the service model.
const SHORTEST: u64 = 900;
const LONGEST: u64 = 43_200;

/// What sessions have unless they are told.
///
/// Source: `DurationSeconds` of <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const DEFAULT: Duration = Duration::from_secs(60 * 60);

/// The longest session of a role that another role's session assumes.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html> (role chaining)
const LONGEST_CHAINED: Duration = Duration::from_secs(60 * 60);

/// The most characters of a session policy.
///
/// Source: `sessionPolicyDocumentType` in the service model, and `Policy` of
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const LONGEST_POLICY: usize = 2_048;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Session {
    name: String,
    duration: Option<Duration>,
    policy: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
}

/// Credentials that were given.
#[derive(Debug)]
pub(super) struct Begun {
    key: AccessKey,
    token: String,
    expires_at: SystemTime,
    caller: Arc<Caller>,
    /// In percent of the limit.
    packed: Option<usize>,
}

impl Session {
    /// Reads what both operations have; the tags come from elsewhere.
    pub(super) fn parse(
        parameters: &mut Parameters,
        tags: BTreeMap<String, String>,
    ) -> Result<Self, ApiError> {
        let name = parameters.required("RoleSessionName")?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        // Source: `roleSessionNameType` in the service model.
        if !(2..=64).contains(&name.chars().count()) || !name.chars().all(is_allowed) {
            let constraint = "Member must have length from 2 to 64 and satisfy regular expression \
                              pattern: [\\w+=,.@-]*";
            return Err(unsatisfied(&name, "roleSessionName", constraint));
        }
        let duration = match parameters.optional("DurationSeconds") {
            None => None,
            Some(text) => Some(parse_duration(&text)?),
        };
        Ok(Self { name, duration, policy: parameters.optional("Policy"), tags })
    }

    /// Gives credentials for the role.
    pub(super) fn begin(
        self,
        exchange: &Exchange<'_>,
        role: &KnownRole,
        chained: bool,
    ) -> Result<Begun, ApiError> {
        let duration = self.checked_duration(role, chained)?;
        let packed = self.packed(exchange.world.packed_limit)?;
        let policy = self.policy.as_deref().map(Policy::parse).transpose().map_err(|error| {
            ApiError::new("MalformedPolicyDocument", format!("Syntax errors in policy: {error}"))
        })?;
        let host = &exchange.world.host;
        let expires_at = exchange.now() + duration;
        let role_name = role.arn.rsplit('/').next().unwrap_or_default();
        let (partition, account) = (host.partition(), host.account());
        let caller = Arc::new(Caller {
            account: account.to_owned(),
            arn: format!("arn:{partition}:sts::{account}:assumed-role/{role_name}/{}", self.name),
            user_id: format!("{}:{}", role.id, self.name),
            tags: principal_tags(role, &self.tags),
            grants: Grants { identity: role.policies.clone(), session: policy },
            role_arn: Some(role.arn.clone()),
            expires_at: Some(expires_at),
        });
        let random = |error| ApiError::internal(exchange.service, error);
        let token = secret::<300>().map_err(random)?;
        let key = AccessKey::new(identifier("ASIA", &token), secret::<30>().map_err(random)?);
        exchange.world.accounts.add(Credential {
            key: key.clone(),
            session_token: Some(token.clone()),
            caller: caller.clone(),
        });
        Ok(Begun { key, token, expires_at, caller, packed })
    }

    fn checked_duration(&self, role: &KnownRole, chained: bool) -> Result<Duration, ApiError> {
        let duration = self.duration.unwrap_or_else(|| DEFAULT.min(role.max_session));
        if chained && duration > LONGEST_CHAINED {
            return Err(invalid(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed \
                 by role chaining",
            ));
        }
        if duration > role.max_session {
            return Err(invalid(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            ));
        }
        Ok(duration)
    }

    /// How much policy and tags take of what they may, in percent.
    fn packed(&self, limit: usize) -> Result<Option<usize>, ApiError> {
        if self.policy.is_none() && self.tags.is_empty() {
            return Ok(None);
        }
        let policy = self.policy.as_deref().unwrap_or_default();
        let minified = serde_json::from_str::<Value>(policy).map(|policy| policy.to_string().len());
        let policy_size = minified.unwrap_or(policy.len());
        let tags_size: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let plain = policy.chars().count() * 100 / LONGEST_POLICY;
        let percent = ((policy_size + tags_size) * 100).div_ceil(limit);
        if percent > 100 || policy.chars().count() > LONGEST_POLICY {
            let percent = percent.max(plain).max(101);
            let message = format!(
                "Packed policy consumes {percent}% of allotted space, please use smaller policy."
            );
            return Err(ApiError::new("PackedPolicyTooLarge", message));
        }
        Ok(Some(percent))
    }
}

fn parse_duration(text: &str) -> Result<Duration, ApiError> {
    match text.parse() {
        Ok(seconds @ SHORTEST..=LONGEST) => Ok(Duration::from_secs(seconds)),
        Ok(0..SHORTEST) | Err(_) => Err(unsatisfied(
            text,
            "durationSeconds",
            "Member must have value greater than or equal to 900",
        )),
        Ok(_) => Err(unsatisfied(
            text,
            "durationSeconds",
            "Member must have value less than or equal to 43200",
        )),
    }
}

impl Begun {
    /// Source: `AssumeRoleResponse` in the service model: `Credentials`, `AssumedRoleUser`,
    /// `PackedPolicySize`.
    pub(super) fn elements(&self) -> Vec<String> {
        let expiration = humantime::format_rfc3339_seconds(self.expires_at).to_string();
        let credentials = [
            xml::text("AccessKeyId", &self.key.id),
            xml::text("SecretAccessKey", &self.key.secret),
            xml::text("SessionToken", &self.token),
            xml::text("Expiration", &expiration),
        ];
        let user =
            [xml::text("AssumedRoleId", &self.caller.user_id), xml::text("Arn", &self.caller.arn)];
        let mut elements =
            vec![xml::nested("Credentials", &credentials), xml::nested("AssumedRoleUser", &user)];
        if let Some(packed) = self.packed {
            elements.push(xml::text("PackedPolicySize", &packed.to_string()));
        }
        elements
    }
}
