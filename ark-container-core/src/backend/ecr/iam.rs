//! [`IamDeployment`]: generates the IAM and repository policies of a deployment.
//!
//! A session tag has one value, so a principal of several organizations has one tag for each: `organization`,
//! `organization2`, up to [`MAX_ORGANIZATION_TAGS`]. The variable of a missing tag has the default `-`, which is not a
//! valid organization or repository name. According to AWS, a variable without a value may make a whole statement
//! invalid.
//!
//! A lifecycle policy deletes images, and a repository policy can allow anyone to delete them. AWS has no condition on
//! the content of such a policy, so only administrators may set them.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-default-values>

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::session_policy::{LOGIN_ACTION, registry_actions};
use super::tag_index::ORGANIZATION_TAG;
use crate::error::{Error, Result};
use crate::model::{Access, AdditionalAction, EcrHost, OrganizationId, Stage};

/// The maximum length of the URL of an identity provider.
///
/// Source: `OpenIDConnectProviderUrlType` of
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>
const MAX_PROVIDER_CHARS: usize = 255;

/// The maximum length of an audience.
///
/// Source: `clientIDType` of
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>
const MAX_AUDIENCE_CHARS: usize = 255;

/// A registry whose users have tokens of one identity provider, and no AWS accounts.
///
/// `AssumeRoleWithWebIdentity` exchanges a token for a session of a role. The claim
/// `https://aws.amazon.com/tags` of the token sets the tags of the session, and the policies of the roles
/// compare these tags:
///
/// | tag | value |
/// |---|---|
/// | `kind` | `user`, `robot` or `ingest-job` |
/// | `organization`, `organization2`, … `organization10` | the organizations of the principal |
/// | `administers`, `administers2`, … `administers10` | the organizations that it administers |
///
/// The *access role* allows every kind to read the repositories of its organizations and of the global one.
/// Users may also create repositories and push in their own organizations. The *administrator role* requires
/// a token with `administers`, and allows everything in the administered organizations only. Only this role
/// may set lifecycle and repository policies.
///
/// GUIDs must be in the format of [`OrganizationId`](crate::model::OrganizationId): IAM compares text, so a
/// GUID in another spelling is another organization. The tag index reveals the names of all repositories,
/// because its permission cannot be restricted below the account. The
/// [permission layer](crate::permission) hides these names. No role may list the whole account, so a
/// [full scan](super::EcrBackendBuilder::with_full_scan) needs other credentials.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>
///
/// ```
/// use ark_container_core::backend::ecr::IamDeployment;
/// use ark_container_core::model::Stage;
///
/// let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse()?;
/// let deployment = IamDeployment::new(host, Stage::default(), "auth.example.com", "ark")?;
/// let trust = deployment.policies().access_role.trust.to_string();
/// assert!(trust.contains("arn:aws:iam::095412845506:oidc-provider/auth.example.com"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct IamDeployment {
    host: EcrHost,
    stage: Stage,
    provider: String,
    audience: String,
    repository_policy: bool,
    additional_actions: Vec<AdditionalAction>,
}

/// The policies of a deployment, which serialize to one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IamPolicies {
    /// The policies of the role for all principals.
    pub access_role: RolePolicies,
    /// The policies of the role for deletions, policies of repositories and changes in the global
    /// organization.
    pub administrator_role: RolePolicies,
    /// The policy of each repository, if the deployment sets one.
    pub repository_policy: Option<PolicyDocument>,
}

/// The policies of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RolePolicies {
    /// The trust policy, which says who may assume the role.
    pub trust: PolicyDocument,
    /// The inline policy, which says what the role allows.
    pub permissions: PolicyDocument,
}

impl IamDeployment {
    /// Creates a deployment for the registry of `host` and for tokens of `identity_provider` with `audience`.
    ///
    /// The provider is the claim `iss` of its tokens, with or without `https://`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if IAM does not accept the provider or the audience.
    pub fn new(
        host: EcrHost,
        stage: Stage,
        identity_provider: &str,
        audience: impl Into<String>,
    ) -> Result<Self> {
        let provider = identity_provider.strip_prefix("https://").unwrap_or(identity_provider);
        let provider = check_provider(provider)?.to_owned();
        let audience = check_audience(audience.into())?;
        let additional_actions = Vec::new();
        Ok(Self { host, stage, provider, audience, repository_policy: false, additional_actions })
    }

    /// Adds a policy for each repository; see
    /// [`EcrBackendBuilder::with_repository_policy`](super::EcrBackendBuilder::with_repository_policy).
    pub fn with_repository_policy(mut self) -> Self {
        self.repository_policy = true;
        self
    }

    /// Adds actions that pushes need, such as `signer:SignPayload` for managed signing; see
    /// [`EcrBackendBuilder::with_additional_actions`](super::EcrBackendBuilder::with_additional_actions).
    pub fn with_additional_actions(
        mut self,
        actions: impl IntoIterator<Item = AdditionalAction>,
    ) -> Self {
        self.additional_actions.extend(actions);
        self
    }

    /// Returns the policies with the minimum permissions.
    pub fn policies(&self) -> IamPolicies {
        IamPolicies {
            access_role: RolePolicies {
                trust: access_role_trust(self),
                permissions: access_role_permissions(self),
            },
            administrator_role: RolePolicies {
                trust: administrator_role_trust(self),
                permissions: administrator_role_permissions(self),
            },
            repository_policy: self.repository_policy.then(repository_policy),
        }
    }

    /// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html>
    fn provider_arn(&self) -> String {
        let (partition, account) = (self.host.partition(), self.host.account());
        format!("arn:{partition}:iam::{account}:oidc-provider/{}", self.provider)
    }
}

/// Checks that the provider is a host with an optional path.
fn check_provider(provider: &str) -> Result<&str> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let problem = match provider.chars().find(|c| !known(*c)) {
        Some(foreign) => format!("{foreign:?} is not allowed in it"),
        None if provider.starts_with('/') || !provider.contains('.') => "it has no host".to_owned(),
        None if provider.len() > MAX_PROVIDER_CHARS => {
            format!("it is longer than {MAX_PROVIDER_CHARS} characters")
        }
        None => return Ok(provider),
    };
    Err(Error::invalid(format!(
        "{provider:?} is not an identity provider such as auth.example.com: {problem}"
    )))
}

/// Checks that the audience is text without a variable of the policy language.
fn check_audience(audience: String) -> Result<String> {
    let foreign = |c: char| c.is_control() || c == '$';
    let problem = match audience.chars().find(|c| foreign(*c)) {
        Some(foreign) => format!("{foreign:?} is not allowed in it"),
        None if audience.is_empty() => "it is empty".to_owned(),
        None if audience.len() > MAX_AUDIENCE_CHARS => {
            format!("it is longer than {MAX_AUDIENCE_CHARS} characters")
        }
        None => return Ok(audience),
    };
    Err(Error::invalid(format!("{audience:?} is not an audience: {problem}")))
}

/// The maximum number of organizations of a session, and of organizations that it administers.
const MAX_ORGANIZATION_TAGS: usize = 10;

/// The tag with the kind of the principal.
const KIND_TAG: &str = "kind";

/// The kinds of principals.
const PRINCIPAL_KINDS: [&str; 3] = ["user", "robot", "ingest-job"];

/// The kind with write permissions.
const USER_KIND: &str = "user";

/// The first tag of the organizations that the principal is a member of.
const ORGANIZATION_TAGS: &str = "organization";

/// The first tag of the organizations that the principal administers.
const ADMINISTERS_TAGS: &str = "administers";

/// Returns the policy variables of the numbered tags that start with `first`, with the default `-`.
fn variables(first: &str) -> impl Iterator<Item = String> {
    let numbers = (2..=MAX_ORGANIZATION_TAGS).map(|number| number.to_string());
    let numbers = std::iter::once(String::new()).chain(numbers);
    numbers.map(move |number| format!("${{aws:PrincipalTag/{first}{number}, '-'}}"))
}

/// Returns an ARN pattern of the repositories of each organization in these tags.
fn repositories(deployment: &IamDeployment, first: &str) -> Vec<String> {
    let IamDeployment { host, stage, .. } = deployment;
    let of = |variable| host.repository_arn_like(format_args!("{stage}/{variable}/*"));
    variables(first).map(of).collect()
}

/// The actions that assume a role with a token. Session tags in the token need the second one.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_permissions-required>
const ASSUME_ROLE_ACTIONS: [&str; 2] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"];

/// Returns the trust policy of the access role: every kind of principal.
fn access_role_trust(deployment: &IamDeployment) -> PolicyDocument {
    PolicyDocument::new([trust_statement(deployment)])
}

/// Returns the trust policy of the administrator role: principals that administer at least one organization.
fn administrator_role_trust(deployment: &IamDeployment) -> PolicyDocument {
    let administers = format!("aws:RequestTag/{}", ADMINISTERS_TAGS);
    PolicyDocument::new([trust_statement(deployment).when("Null", administers, ["false"])])
}

/// Returns the statement of both trust policies. In this request, the tags of the token are the request tags.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html>, and
/// for the conditions on tags <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>
fn trust_statement(deployment: &IamDeployment) -> Statement {
    let tags = [KIND_TAG, "organization*", "administers*"];
    Statement::allow(ASSUME_ROLE_ACTIONS)
        .called("Tokens")
        .of(json!({ "Federated": deployment.provider_arn() }))
        .when("StringEquals", format!("{}:aud", deployment.provider), [&deployment.audience])
        .when("StringEquals", format!("aws:RequestTag/{KIND_TAG}"), PRINCIPAL_KINDS)
        .when("ForAllValues:StringLike", "aws:TagKeys", tags)
}

/// The action of the tag index, which lists the tagged resources of an account and cannot be restricted further.
///
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonresourcegrouptaggingapi.html>
const TAG_INDEX_ACTION: &str = "tag:GetResources";

/// The actions that describe repositories and images.
///
/// Repositories are described by the names from the tag index. A request without names would list the whole account,
/// which no role allows.
const DESCRIBE_ACTIONS: [&str; 3] =
    ["ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:ListTagsForResource"];

/// The actions of a creation. Tags in the request need the second one.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-supported-iam-actions-tagging.html>
const CREATE_ACTIONS: [&str; 2] = ["ecr:CreateRepository", "ecr:TagResource"];

/// The actions on policies of a repository, which only administrators read and set.
const LIFECYCLE_ACTIONS: [&str; 2] = ["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"];
const REPOSITORY_POLICY_ACTIONS: [&str; 2] = ["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"];

const DELETE_REPOSITORY: &str = "ecr:DeleteRepository";

/// Returns the permissions of the access role: all principals read, and users also create and push.
fn access_role_permissions(deployment: &IamDeployment) -> PolicyDocument {
    let IamDeployment { host, stage, .. } = deployment;
    let own = repositories(deployment, ORGANIZATION_TAGS);
    let global = host.repository_arn_like(format_args!("{stage}/{}/*", OrganizationId::GLOBAL));
    let is_user = |statement: Statement| {
        statement.when("StringEquals", format!("aws:PrincipalTag/{KIND_TAG}"), [USER_KIND])
    };
    let push: Vec<&str> =
        registry_actions(Access::Push).filter(|action| !reads().contains(action)).collect();

    let mut readable = own.clone();
    readable.push(global.clone());
    let mut statements = vec![
        Statement::allow([LOGIN_ACTION, TAG_INDEX_ACTION])
            .called("LogInAndAskTheIndex")
            .on(everything()),
        Statement::allow(reads()).called("Read").on(readable),
        is_user(Statement::allow(push.clone()).called("Push").on(own)),
    ];
    statements.extend(additional(deployment).map(is_user));
    statements.extend(creations(deployment, ORGANIZATION_TAGS).map(is_user));
    // The denial is necessary in case the token contains the global organization.
    let denied: Vec<&str> = CREATE_ACTIONS.into_iter().chain(push).collect();
    statements.push(Statement::deny(denied).called("LeaveGlobalToAdministrators").on([global]));
    PolicyDocument::new(statements)
}

/// Returns the permissions of the administrator role: all changes of the repositories of the administered
/// organizations. The permission to describe them belongs to the access role.
fn administrator_role_permissions(deployment: &IamDeployment) -> PolicyDocument {
    let administered = repositories(deployment, ADMINISTERS_TAGS);
    let policies = deployment.repository_policy.then_some(REPOSITORY_POLICY_ACTIONS);
    let actions: Vec<&str> = registry_actions(Access::Delete)
        .chain(policies.into_iter().flatten())
        .chain(LIFECYCLE_ACTIONS)
        .chain([DELETE_REPOSITORY])
        .collect();
    let mut statements = vec![
        Statement::allow([LOGIN_ACTION]).called("LogIn").on(everything()),
        Statement::allow(actions).called("Administer").on(administered),
    ];
    statements.extend(additional(deployment));
    statements.extend(creations(deployment, ADMINISTERS_TAGS));
    PolicyDocument::new(statements)
}

/// Returns the actions of all principals on readable repositories.
fn reads() -> Vec<&'static str> {
    registry_actions(Access::Pull).chain(DESCRIBE_ACTIONS).collect()
}

/// Returns a statement for each additional action.
fn additional(deployment: &IamDeployment) -> impl Iterator<Item = Statement> {
    let numbered = deployment.additional_actions.iter().zip(1..);
    numbered.map(|(action, number)| allow_additional(action).called(format!("Additional{number}")))
}

/// Returns the statement that allows an additional action.
pub(super) fn allow_additional(additional: &AdditionalAction) -> Statement {
    Statement::allow([additional.action().to_owned()]).on([additional.resource().to_owned()])
}

/// Returns a statement for each organization, which allows the creation of repositories with its tag.
///
/// The tag keys of `aws:RequestTag` are case-insensitive, so `aws:TagKeys` also compares the exact key.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html#access_tags_control-tag-keys>
fn creations<'d>(
    deployment: &'d IamDeployment,
    first: &'d str,
) -> impl Iterator<Item = Statement> + use<'d> {
    let slots = variables(first).zip(repositories(deployment, first)).enumerate();
    slots.map(|(index, (variable, resource))| {
        Statement::allow(CREATE_ACTIONS)
            .called(format!("Create{}", index + 1))
            .on([resource])
            .when("StringEquals", format!("aws:RequestTag/{ORGANIZATION_TAG}"), [variable])
            .when("ForAnyValue:StringEquals", "aws:TagKeys", [ORGANIZATION_TAG])
    })
}

fn everything() -> [String; 1] {
    ["*".to_owned()]
}

/// Returns the policy of every repository, which compares the repository's own tag.
///
/// The policy applies only to sessions with the tags of the deployment, not to the administrators and services of the
/// account. In the global organization, the policy denies everything except reading, including future actions of AWS.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>
fn repository_policy() -> PolicyDocument {
    let resource_tag = || format!("aws:ResourceTag/{ORGANIZATION_TAG}");
    let global = || OrganizationId::GLOBAL.to_string();
    let own = variables(ORGANIZATION_TAGS);
    let own = own.chain(variables(ADMINISTERS_TAGS));
    let denied = |statement: Statement| {
        let is_of_deployment = format!("aws:PrincipalTag/{KIND_TAG}");
        statement.of("*").when("Null", is_of_deployment, ["false"])
    };
    let elsewhere = denied(Statement::deny(["ecr:*"]).called("OtherOrganizations")).when(
        "StringNotEquals",
        resource_tag(),
        own.chain([global()]),
    );
    let global_changes =
        denied(Statement::deny_all_but(reads()).called("GlobalIsForAdministrators"))
            .when("StringEquals", resource_tag(), [global()])
            .when("StringNotEquals", resource_tag(), variables(ADMINISTERS_TAGS));
    PolicyDocument::new([elsewhere, global_changes])
}

/// The version of the policy language, which supports variables.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html>
const LANGUAGE_VERSION: &str = "2012-10-17";

/// A policy document, which `Display` prints as JSON: on one line, or on several lines with `{:#}`.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    version: &'static str,
    statement: Vec<Statement>,
}

impl PolicyDocument {
    pub(super) fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { version: LANGUAGE_VERSION, statement: statements.into() }
    }
}

impl fmt::Display for PolicyDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = match f.alternate() {
            true => serde_json::to_string_pretty(self),
            false => serde_json::to_string(self),
        };
        f.write_str(&json.map_err(|_| fmt::Error)?)
    }
}

/// A statement of a policy: its effect, principal, actions, resources and conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    action: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
}

impl Statement {
    pub(super) fn allow(actions: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        Self {
            sid: None,
            effect: "Allow",
            principal: None,
            action: actions.into_iter().map(Into::into).collect(),
            not_action: Vec::new(),
            resource: Vec::new(),
            condition: BTreeMap::new(),
        }
    }

    pub(super) fn deny(actions: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        Self { effect: "Deny", ..Self::allow(actions) }
    }

    pub(super) fn deny_all_but(not_action: Vec<&'static str>) -> Self {
        Self { not_action, ..Self::deny([""; 0]) }
    }

    /// Sets the name (`Sid`), of letters and digits.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html>
    pub(super) fn called(mut self, sid: impl Into<String>) -> Self {
        self.sid = Some(sid.into());
        self
    }

    pub(super) fn of(mut self, principal: impl Into<Value>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    pub(super) fn on(mut self, resource: impl Into<Vec<String>>) -> Self {
        self.resource = resource.into();
        self
    }

    /// Adds the condition that `key` matches any of `values`. All conditions of a statement must hold.
    pub(super) fn when(
        mut self,
        operator: &'static str,
        key: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.condition.entry(operator).or_default().insert(key.into(), values);
        self
    }
}

#[cfg(test)]
mod tests;
