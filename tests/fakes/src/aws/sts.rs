//! AWS STS, according to its service model of 2011-06-15, in the query protocol.
//!
//! Source: <https://github.com/boto/botocore/blob/develop/botocore/data/sts/2011-06-15/service-2.json.gz>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::aws::accounts::{AccessKey, Caller, Credential, KnownRole, identifier};
use crate::aws::iam::{
    Context, Grants, Named, PolicyKind, Refusal, caller_allows, denied_message, name_of, named_by,
};
use crate::aws::policy::{Policy, Principals};
use crate::aws::protocol::{ApiError, is_tag_text, xml_nested, xml_text};
use crate::aws::server::Exchange;
use crate::aws::{identity_provider, secret};

/// The operation whose requests are not signed.
pub(super) const ASSUME_ROLE_WITH_WEB_IDENTITY: &str = "AssumeRoleWithWebIdentity";

/// Returns the name and the children of the root element of the response.
pub(super) fn answer(exchange: &mut Exchange<'_>) -> Result<(&'static str, Vec<String>), ApiError> {
    match exchange.operation.as_str() {
        "GetCallerIdentity" => {
            Ok(("GetCallerIdentityResponse", vec![get_caller_identity(exchange)?]))
        }
        "AssumeRole" => Ok(("AssumeRoleResponse", vec![assume_role(exchange)?])),
        ASSUME_ROLE_WITH_WEB_IDENTITY => Ok((
            "AssumeRoleWithWebIdentityResponse",
            vec![assume_role_with_web_identity(exchange)?],
        )),
        operation => Err(ApiError::new(
            exchange.service.error_codes().unknown_operation,
            format!("Could not find operation {operation} for version 2011-06-15"),
        )),
    }
}

/// Returns the identity of the caller. The operation needs no permission.
///
/// Source: `GetCallerIdentityResponse` in the service model: `UserId`, `Account`, `Arn`; and
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
fn get_caller_identity(exchange: &Exchange<'_>) -> Result<String, ApiError> {
    let caller = exchange.caller()?;
    Ok(xml_nested(
        "GetCallerIdentityResult",
        &[
            xml_text("Arn", &caller.arn),
            xml_text("UserId", &caller.user_id),
            xml_text("Account", &caller.account),
        ],
    ))
}

/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>
fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("ValidationError", message)
}

/// Returns STS's error for an invalid parameter.
fn unsatisfied(value: &str, parameter: &str, constraint: &str) -> ApiError {
    invalid(format!(
        "1 validation error detected: Value '{value}' at '{parameter}' failed to satisfy \
         constraint: {constraint}"
    ))
}

/// Source: `AssumeRoleRequest` in the service model; required: `RoleArn`, `RoleSessionName`. The fake does not support
/// managed session policies, MFA and transitive tags.
fn assume_role(exchange: &mut Exchange<'_>) -> Result<String, ApiError> {
    let caller = exchange.caller()?;
    let mut parameters = Parameters::parse(exchange.body);
    let role_arn = parameters.required("RoleArn")?;
    let tags = parameters.tags()?;
    let external_id = parameters.optional("ExternalId");
    let source_identity = parameters.optional("SourceIdentity");
    let session = Session::parse(&mut parameters, tags)?;
    parameters.finish()?;
    exchange.resources.push(role_arn.clone());

    let mut context = caller.context().with_request_tags(&session.tags);
    let tagging = (!session.tags.is_empty()).then_some("sts:TagSession");
    // Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>
    let naming = source_identity.as_ref().map(|_| "sts:SetSourceIdentity");
    for (key, value) in [("sts:ExternalId", &external_id), ("sts:SourceIdentity", &source_identity)]
    {
        if let Some(value) = value {
            context = context.with(key, value);
        }
    }
    // A missing role has the same error as a role that the caller may not assume.
    let role = exchange.world.accounts.role(&role_arn);
    for action in std::iter::once("sts:AssumeRole").chain(tagging).chain(naming) {
        let refusal = match role {
            Some(role) => check(&caller, role, action, &context).err(),
            None => Some(Refusal::Implicit(PolicyKind::Trust)),
        };
        if let Some(refusal) = refusal {
            let message = denied_message(&caller.arn, action, &role_arn, refusal);
            return Err(exchange.access_denied(message));
        }
    }
    let role =
        role.ok_or_else(|| ApiError::internal(exchange.service, "a role that is missing"))?;
    let chained = caller.role_arn.is_some();
    let issued = session.issue(exchange, role, chained)?;
    Ok(xml_nested("AssumeRoleResult", &issued.elements()))
}

/// Source: `AssumeRoleWithWebIdentityRequest` in the service model; required: `RoleArn`, `RoleSessionName`,
/// `WebIdentityToken`. The session tags come from the token.
fn assume_role_with_web_identity(exchange: &mut Exchange<'_>) -> Result<String, ApiError> {
    let mut parameters = Parameters::parse(exchange.body);
    let role_arn = parameters.required("RoleArn")?;
    let text = parameters.required("WebIdentityToken")?;
    let accounts = &exchange.world.accounts;
    let token = identity_provider::verify(&accounts.providers, &text, exchange.now());
    let tags = token.as_ref().map(|token| token.tags.clone()).unwrap_or_default();
    let session = Session::parse(&mut parameters, tags)?;
    parameters.finish()?;
    exchange.resources.push(role_arn.clone());
    let token = token?;
    check_tags(&session.tags)?;

    let host = &exchange.world.host;
    let provider = format!(
        "arn:{}:iam::{}:oidc-provider/{}",
        host.partition(),
        host.account(),
        token.provider
    );
    let context = Context::default()
        .with(&format!("{}:sub", token.provider), &token.subject)
        .with(&format!("{}:aud", token.provider), &token.audience)
        .with_request_tags(&session.tags);
    let names =
        |principals: &Principals| principals.federated.contains(&provider).then_some(Named::Itself);
    let tagging = (!session.tags.is_empty()).then_some("sts:TagSession");
    let actions = std::iter::once("sts:AssumeRoleWithWebIdentity").chain(tagging);
    let role = accounts.role(&role_arn).filter(|role| {
        let mut actions = actions.clone();
        actions.all(|action| trust(role, action, &context, names).is_ok())
    });
    let Some(role) = role else {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned();
        return Err(exchange.access_denied(message));
    };
    let issued = session.issue(exchange, role, false)?;
    let mut elements = issued.elements();
    elements.extend([
        xml_text("SubjectFromWebIdentityToken", &token.subject),
        xml_text("Audience", &token.audience),
        xml_text("Provider", &provider),
    ]);
    Ok(xml_nested("AssumeRoleWithWebIdentityResult", &elements))
}

/// Checks that a caller may perform an action on a role.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>
fn check(
    caller: &Caller,
    role: &KnownRole,
    action: &str,
    context: &Context,
) -> Result<(), Refusal> {
    let named = trust(role, action, context, |principals| name_of(caller, principals))?;
    let same_account = role.arn.contains(&format!("::{}:", caller.account));
    let allowed_already = named == Named::Itself && same_account;
    caller_allows(caller, action, &role.arn, context, allowed_already)
}

/// Checks that a role's trust policies allow an action. Returns how they name the principal.
fn trust(
    role: &KnownRole,
    action: &str,
    context: &Context,
    name: impl Fn(&Principals) -> Option<Named>,
) -> Result<Named, Refusal> {
    let named = named_by(&role.trust, action, &role.arn, context, name)?;
    named.ok_or(Refusal::Implicit(PolicyKind::Trust))
}

/// Returns the tags of a role's session. A session tag overrides the role's tag with the same key.
fn principal_tags(
    role: &KnownRole,
    session: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut tags = role.tags.clone();
    tags.retain(|key, _| !session.keys().any(|given| given.eq_ignore_ascii_case(key)));
    tags.extend(session.clone());
    tags
}

/// Source: `roleDurationSecondsType` in the service model.
const MIN_SESSION_SECONDS: u64 = 900;
const MAX_SESSION_SECONDS: u64 = 43_200;

/// The default duration of a session.
///
/// Source: `DurationSeconds` of <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const DEFAULT_SESSION_DURATION: Duration = Duration::from_secs(60 * 60);

/// The maximum duration of a session of a role that another role's session assumes.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html> (role chaining)
const MAX_CHAINED_SESSION_DURATION: Duration = Duration::from_secs(60 * 60);

/// The maximum number of characters of a session policy.
///
/// Source: `sessionPolicyDocumentType` in the service model, and `Policy` of
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const MAX_POLICY_CHARS: usize = 2_048;

/// A requested session.
#[derive(Debug)]
struct Session {
    name: String,
    duration: Option<Duration>,
    policy: Option<String>,
    tags: BTreeMap<String, String>,
}

/// The credentials of a session.
#[derive(Debug)]
struct IssuedSession {
    key: AccessKey,
    token: String,
    expires_at: SystemTime,
    caller: Arc<Caller>,
    /// The packed size in percent of the limit.
    packed: Option<usize>,
}

impl Session {
    /// Reads the parameters that both operations have. The caller provides the tags.
    fn parse(
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

    /// Issues credentials for the role.
    fn issue(
        self,
        exchange: &Exchange<'_>,
        role: &KnownRole,
        chained: bool,
    ) -> Result<IssuedSession, ApiError> {
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
        Ok(IssuedSession { key, token, expires_at, caller, packed })
    }

    fn checked_duration(&self, role: &KnownRole, chained: bool) -> Result<Duration, ApiError> {
        let duration =
            self.duration.unwrap_or_else(|| DEFAULT_SESSION_DURATION.min(role.max_session));
        if chained && duration > MAX_CHAINED_SESSION_DURATION {
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

    /// Returns the packed size of policy and tags in percent of `limit`.
    fn packed(&self, limit: usize) -> Result<Option<usize>, ApiError> {
        if self.policy.is_none() && self.tags.is_empty() {
            return Ok(None);
        }
        let policy = self.policy.as_deref().unwrap_or_default();
        let minified = serde_json::from_str::<Value>(policy).map(|policy| policy.to_string().len());
        let policy_size = minified.unwrap_or(policy.len());
        let tags_size: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let plain = policy.chars().count() * 100 / MAX_POLICY_CHARS;
        let percent = ((policy_size + tags_size) * 100).div_ceil(limit);
        if percent > 100 || policy.chars().count() > MAX_POLICY_CHARS {
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
        Ok(seconds @ MIN_SESSION_SECONDS..=MAX_SESSION_SECONDS) => Ok(Duration::from_secs(seconds)),
        Ok(0..MIN_SESSION_SECONDS) | Err(_) => Err(unsatisfied(
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

impl IssuedSession {
    /// Source: `AssumeRoleResponse` in the service model: `Credentials`, `AssumedRoleUser`,
    /// `PackedPolicySize`.
    fn elements(&self) -> Vec<String> {
        let expiration = humantime::format_rfc3339_seconds(self.expires_at).to_string();
        let credentials = [
            xml_text("AccessKeyId", &self.key.id),
            xml_text("SecretAccessKey", &self.key.secret),
            xml_text("SessionToken", &self.token),
            xml_text("Expiration", &expiration),
        ];
        let user =
            [xml_text("AssumedRoleId", &self.caller.user_id), xml_text("Arn", &self.caller.arn)];
        let mut elements =
            vec![xml_nested("Credentials", &credentials), xml_nested("AssumedRoleUser", &user)];
        if let Some(packed) = self.packed {
            elements.push(xml_text("PackedPolicySize", &packed.to_string()));
        }
        elements
    }
}

/// Source: `tagListType` in the service model.
const MAX_TAGS: usize = 50;

/// Source: `tagKeyType` and `tagValueType` in the service model.
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;

/// The parameters of a request by name. Reading a parameter removes it.
#[derive(Debug)]
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn parse(body: &[u8]) -> Self {
        let mut parameters: BTreeMap<String, String> =
            form_urlencoded::parse(body).into_owned().collect();
        parameters.remove("Action");
        parameters.remove("Version");
        Self(parameters)
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn required(&mut self, name: &str) -> Result<String, ApiError> {
        let missing = || {
            let parameter = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
            invalid(format!(
                "1 validation error detected: Value null at '{parameter}' failed to satisfy \
                 constraint: Member must not be null"
            ))
        };
        self.optional(name).ok_or_else(missing)
    }

    /// Reads `Tags.member.N.Key` and `Tags.member.N.Value`.
    ///
    /// Source: <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>
    fn tags(&mut self) -> Result<BTreeMap<String, String>, ApiError> {
        let mut tags = BTreeMap::new();
        // An empty list is a parameter without a value.
        self.0.remove("Tags");
        for number in 1.. {
            let Some(key) = self.optional(&format!("Tags.member.{number}.Key")) else { break };
            let value = self.required(&format!("Tags.member.{number}.Value"))?;
            let known =
                tags.keys().any(|known: &String| known.to_lowercase() == key.to_lowercase());
            if known {
                let message =
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
                return Err(ApiError::new("InvalidParameterValue", message));
            }
            tags.insert(key, value);
        }
        check_tags(&tags)?;
        Ok(tags)
    }

    /// Fails if a parameter was not read, so that no test passes because a parameter was ignored.
    fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(invalid(format!("the fake does not support the parameter {name}"))),
        }
    }
}

/// Checks that a session can have these tags.
fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (index, (key, value)) in tags.iter().enumerate() {
        check_tag(index + 1, key, value)?;
    }
    if tags.len() > MAX_TAGS {
        let most = "Member must have length less than or equal to 50";
        return Err(unsatisfied(&format!("[{} tags]", tags.len()), "tags", most));
    }
    Ok(())
}

fn check_tag(number: usize, key: &str, value: &str) -> Result<(), ApiError> {
    let parameter = |member: &str| format!("tags.{number}.member.{member}");
    if key.is_empty() || key.chars().count() > MAX_KEY_CHARS || !is_tag_text(key) {
        let constraint = "Member must have length from 1 to 128 and satisfy regular expression \
                          pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+";
        return Err(unsatisfied(key, &parameter("key"), constraint));
    }
    if value.chars().count() > MAX_VALUE_CHARS || !is_tag_text(value) {
        let constraint = "Member must have length less than or equal to 256 and satisfy regular \
                          expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*";
        return Err(unsatisfied(value, &parameter("value"), constraint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_and_unknown_parameter_is_rejected() {
        let body = b"Action=A&Version=V&Tags.member.1.Key=k&Tags.member.1.Value=v%20w&Other=1";
        let mut parameters = Parameters::parse(body);
        assert_eq!(parameters.tags().unwrap(), [("k".to_owned(), "v w".to_owned())].into());
        assert!(parameters.finish().unwrap_err().message.contains("Other"));
    }

    #[test]
    fn tags_are_limited_to_50_without_duplicates() {
        let body = |keys: &[String]| {
            let tags = keys.iter().enumerate().map(|(index, key)| {
                format!("Tags.member.{0}.Key={key}&Tags.member.{0}.Value=&", index + 1)
            });
            Parameters::parse(tags.collect::<String>().as_bytes()).tags()
        };
        let keys: Vec<String> = (0..51).map(|number| number.to_string()).collect();
        assert_eq!(body(&keys[..50]).unwrap().len(), 50);
        assert_eq!(body(&keys).unwrap_err().code, "ValidationError");
        assert!(body(&["a".into(), "A".into()]).unwrap_err().message.starts_with("Duplicate"));
        assert_eq!(body(&["*".into()]).unwrap_err().code, "ValidationError");
    }
}
