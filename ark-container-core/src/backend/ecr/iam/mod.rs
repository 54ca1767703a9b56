//! The policies that a deployment needs in AWS, for its roles and repositories: [`IamDeployment`].

mod document;
mod permissions;
mod repository;
mod tags;
mod trust;

pub use document::PolicyDocument;
pub(super) use document::Statement;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::model::{EcrHost, Stage};

/// What IAM takes of the address of an identity provider, in characters.
///
/// Source: `OpenIDConnectProviderUrlType` of
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>
const LONGEST_PROVIDER: usize = 255;

/// What IAM takes of an audience, in characters.
///
/// Source: `clientIDType` of
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>
const LONGEST_AUDIENCE: usize = 255;

/// A registry whose users have tokens of one identity provider, and no accounts in AWS.
///
/// A token becomes a session of a role by `AssumeRoleWithWebIdentity`. What it says of its holder in the
/// claim `https://aws.amazon.com/tags` are the session's tags, and the roles' policies ask for these:
///
/// | tag | value |
/// |---|---|
/// | `kind` | `user`, `robot` or `ingest-job` |
/// | `organization`, `organization2`, … `organization10` | the organizations of the principal |
/// | `administers`, `administers2`, … `administers10` | the organizations that it administers |
///
/// Under the *access role*, every kind reads the repositories of its organizations and of the global one,
/// and users create and push in their own. Under the *administrator's role*, which takes a token with
/// `administers`, everything can be done in the organizations that are administered, and there alone.
///
/// GUIDs are written as [`OrganizationId`](crate::model::OrganizationId) prints them: IAM compares texts,
/// and to it another spelling is another organization. The names of repositories alone are not kept
/// apart, since the index of tags knows no narrower resource than the account; the
/// [permission layer](crate::permission) does not show them. No role lists the account whole, so a
/// [full scan](super::EcrBackendBuilder::full_scan) needs other credentials.
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
}

/// What a deployment needs; it serializes to one JSON object with the documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IamPolicies {
    /// For the role that everybody takes.
    pub access_role: RolePolicies,
    /// For the role that deletions and changes of the global organization need.
    pub administrator_role: RolePolicies,
    /// For each repository, where repositories get a policy of their own.
    pub repository_policy: Option<PolicyDocument>,
}

/// The documents of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RolePolicies {
    /// Who may take the role: its trust policy.
    pub trust: PolicyDocument,
    /// What one may do under it: its inline policy.
    pub permissions: PolicyDocument,
}

impl IamDeployment {
    /// The registry of `host`, for tokens that `identity_provider` gives for `audience`.
    ///
    /// The provider is written as tokens have it in their claim `iss`, with or without `https://`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if one of the two is none that IAM takes.
    pub fn new(
        host: EcrHost,
        stage: Stage,
        identity_provider: &str,
        audience: impl Into<String>,
    ) -> Result<Self> {
        let provider = identity_provider.strip_prefix("https://").unwrap_or(identity_provider);
        let provider = check_provider(provider)?.to_owned();
        let audience = check_audience(audience.into())?;
        Ok(Self { host, stage, provider, audience, repository_policy: false })
    }

    /// The same where repositories get a policy of their own when they are created; see
    /// [`EcrBackendBuilder::repository_policy`](super::EcrBackendBuilder::repository_policy).
    ///
    /// Whoever may create may then also replace the policies of their organization's repositories.
    pub fn with_repository_policy(mut self) -> Self {
        self.repository_policy = true;
        self
    }

    /// The least that the deployment needs.
    pub fn policies(&self) -> IamPolicies {
        IamPolicies {
            access_role: RolePolicies {
                trust: trust::of_access_role(self),
                permissions: permissions::of_access_role(self),
            },
            administrator_role: RolePolicies {
                trust: trust::of_administrator_role(self),
                permissions: permissions::of_administrator_role(self),
            },
            repository_policy: self.repository_policy.then(repository::policy),
        }
    }

    /// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html>
    fn provider_arn(&self) -> String {
        let (partition, account) = (self.host.partition(), self.host.account());
        format!("arn:{partition}:iam::{account}:oidc-provider/{}", self.provider)
    }
}

/// A host, and a path after it if there is one.
fn check_provider(provider: &str) -> Result<&str> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let problem = match provider.chars().find(|c| !known(*c)) {
        Some(foreign) => format!("{foreign:?} is not allowed in it"),
        None if provider.starts_with('/') || !provider.contains('.') => "it has no host".to_owned(),
        None if provider.len() > LONGEST_PROVIDER => {
            format!("it is longer than {LONGEST_PROVIDER} characters")
        }
        None => return Ok(provider),
    };
    Err(Error::invalid(format!(
        "{provider:?} is no identity provider, such as auth.example.com: {problem}"
    )))
}

/// Any text without what the policy language would read as a variable.
fn check_audience(audience: String) -> Result<String> {
    let foreign = |c: char| c.is_control() || c == '$';
    let problem = match audience.chars().find(|c| foreign(*c)) {
        Some(foreign) => format!("{foreign:?} is not allowed in it"),
        None if audience.is_empty() => "it is empty".to_owned(),
        None if audience.len() > LONGEST_AUDIENCE => {
            format!("it is longer than {LONGEST_AUDIENCE} characters")
        }
        None => return Ok(audience),
    };
    Err(Error::invalid(format!("{audience:?} is no audience: {problem}")))
}

#[cfg(test)]
mod tests;
