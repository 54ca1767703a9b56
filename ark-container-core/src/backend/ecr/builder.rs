//! [`EcrBackendBuilder`]: configures the endpoint, credentials and options of an [`EcrBackend`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::backend::EcrBackend;
use crate::aws_environment::{AwsChoices, profile_in_use, variable};
use crate::escape::quote_for_shell;
use crate::identity::TokenFile;
use crate::model::{AdditionalAction, EcrHost, Stage};

/// The configuration of an [`EcrBackend`].
#[derive(Debug)]
pub(crate) struct EcrConfig {
    pub(crate) host: EcrHost,
    pub(crate) stage: Stage,
    pub(crate) profile: Option<String>,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) http_client: Option<SharedHttpClient>,
    pub(crate) sdk_config: Option<SdkConfig>,
    pub(crate) web_identity: Option<TokenFile>,
    pub(crate) role_arn: Option<String>,
    pub(crate) administrator_role_arn: Option<String>,
    pub(crate) require_scoped: bool,
    pub(crate) credentials_lifetime: Option<Duration>,
    pub(crate) cache_directory: Option<PathBuf>,
    pub(crate) full_scan: bool,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) repository_policy: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) source_identity: Option<String>,
    pub(crate) additional_actions: Vec<AdditionalAction>,
}

impl EcrConfig {
    pub(crate) fn profile_in_use(&self) -> String {
        profile_in_use(self.profile.as_deref())
    }

    pub(crate) fn aws_choices(&self) -> AwsChoices<'_> {
        AwsChoices {
            profile: self.profile.as_deref(),
            endpoint_url: self.endpoint_url.as_deref(),
            uses_credentials: self.web_identity.is_none(),
        }
    }

    /// Returns the source of the credentials in use, as far as it is known without loading them.
    pub(crate) fn credentials_source(&self) -> String {
        if let Some(file) = &self.web_identity {
            return format!("the token in {}", file.path().display());
        }
        match self.source_in_environment() {
            Some((_, source)) => source.to_owned(),
            None if self.sdk_config.is_some() && self.profile.is_none() => "the program".to_owned(),
            None => format!("the profile {:?}", self.profile_in_use()),
        }
    }

    /// Returns the variable and the source that the environment names. A profile takes precedence over every
    /// source except keys.
    fn source_in_environment(&self) -> Option<(&'static str, &'static str)> {
        if self.profile.is_some() || self.sdk_config.is_some() {
            return None;
        }
        let count = if self.profile_in_use() == "default" { CREDENTIAL_SOURCES.len() } else { 1 };
        CREDENTIAL_SOURCES.into_iter().take(count).find(|(name, _)| variable(name).is_some())
    }

    /// Returns the name of the token or credentials that AWS receives.
    pub(crate) fn credentials_name(&self) -> String {
        let source = self.credentials_source();
        if self.web_identity.is_some() { source } else { format!("the credentials of {source}") }
    }

    /// Returns the subject of an error about an expired session.
    pub(crate) fn expired_session(&self) -> String {
        match &self.web_identity {
            Some(_) => format!("{}, or the AWS session for it,", self.credentials_source()),
            None => "the AWS session".to_owned(),
        }
    }

    /// Returns the instruction that renews an expired session.
    pub(crate) fn renewal(&self) -> String {
        if let Some(file) = &self.web_identity {
            return format!("put a new token in {}", file.path().display());
        }
        match self.source_in_environment() {
            Some(("AWS_ACCESS_KEY_ID", _)) => {
                "get new keys for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
                 AWS_SESSION_TOKEN)"
                    .to_owned()
            }
            Some((_, source)) => format!("renew {source}"),
            None => {
                let profile = quote_for_shell(&self.profile_in_use());
                format!("if it came from SSO, run `aws sso login --profile {profile}`")
            }
        }
    }
}

/// The environment variables that name a source of credentials, and the source.
const CREDENTIAL_SOURCES: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "the environment (AWS_ACCESS_KEY_ID)"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "the web identity of AWS_WEB_IDENTITY_TOKEN_FILE"),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "the credentials of the container (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)",
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "the credentials of the container (AWS_CONTAINER_CREDENTIALS_FULL_URI)",
    ),
];

/// A builder of an [`EcrBackend`]; see [`EcrBackend::builder`].
#[derive(Debug)]
#[must_use = "nothing is built before `build`"]
pub struct EcrBackendBuilder {
    config: EcrConfig,
    principal: Option<Arc<str>>,
}

impl EcrBackendBuilder {
    pub(super) fn new(host: EcrHost, stage: Stage) -> Self {
        let config = EcrConfig {
            host,
            stage,
            profile: None,
            endpoint_url: None,
            http_client: None,
            sdk_config: None,
            web_identity: None,
            role_arn: None,
            administrator_role_arn: None,
            require_scoped: false,
            credentials_lifetime: None,
            cache_directory: None,
            full_scan: false,
            max_attempts: None,
            repository_policy: None,
            external_id: None,
            source_identity: None,
            additional_actions: Vec::new(),
        };
        Self { config, principal: None }
    }

    /// Uses the AWS credentials of this profile of the AWS configuration files. The default is the profile
    /// of `AWS_PROFILE`.
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.config.profile = Some(profile.into());
        self
    }

    /// Calls AWS at this URL. The default is `AWS_ENDPOINT_URL_ECR` and the like, or `AWS_ENDPOINT_URL`.
    pub fn with_endpoint_url(mut self, endpoint_url: impl Into<String>) -> Self {
        self.config.endpoint_url = Some(endpoint_url.into());
        self
    }

    /// Calls AWS with this HTTP client. The default client uses the proxies of the environment and the
    /// system's root certificates.
    pub fn with_http_client(mut self, http_client: SharedHttpClient) -> Self {
        self.config.http_client = Some(http_client);
        self
    }

    /// Calls AWS with the credentials, retries, timeouts and endpoint of this configuration. Settings of the
    /// builder take precedence. The region is always the registry's.
    pub fn with_sdk_config(mut self, sdk_config: SdkConfig) -> Self {
        self.config.sdk_config = Some(sdk_config);
        self
    }

    /// Calls AWS with the web identity token in this file (STS `AssumeRoleWithWebIdentity`), and ignores all
    /// other AWS credentials.
    ///
    /// Operations run in a session of [`role_arn`](Self::with_role_arn), which must be set. Deletions,
    /// policies of repositories and changes in the global organization run in a session of
    /// [`administrator_role_arn`](Self::with_administrator_role_arn). Each call reads the file. A new token
    /// starts a new session.
    ///
    /// ```
    /// use ark_container_core::backend::ecr::EcrBackend;
    /// use ark_container_core::identity::TokenFile;
    /// use ark_container_core::model::Stage;
    ///
    /// let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse()?;
    /// let backend = EcrBackend::builder(host, Stage::default())
    ///     .with_web_identity(TokenFile::new("/run/secrets/jwt"))
    ///     .with_role_arn("arn:aws:iam::095412845506:role/ark-access")
    ///     .with_principal("robot:build")
    ///     .build();
    /// # Ok::<(), ark_container_core::model::ParseError>(())
    /// ```
    pub fn with_web_identity(mut self, file: TokenFile) -> Self {
        self.config.web_identity = Some(file);
        self
    }

    /// Requests registry credentials in a session of this IAM role that is narrowed to their scope.
    pub fn with_role_arn(mut self, role_arn: impl Into<String>) -> Self {
        self.config.role_arn = Some(role_arn.into());
        self
    }

    /// Deletes, sets policies of repositories, and changes the global organization in a session of this IAM
    /// role.
    ///
    /// The role is used only with a [token](Self::with_web_identity). Other AWS credentials are used directly
    /// for all operations.
    pub fn with_administrator_role_arn(mut self, role_arn: impl Into<String>) -> Self {
        self.config.administrator_role_arn = Some(role_arn.into());
        self
    }

    /// Rejects requests for registry credentials that AWS would not restrict to the requested scope.
    pub fn with_require_scoped(mut self, require_scoped: bool) -> Self {
        self.config.require_scoped = require_scoped;
        self
    }

    /// Sets the lifetime of registry credentials, from 15 minutes to 12 hours. The default is 12 hours, or
    /// 1 hour if the role does not allow 12.
    ///
    /// A lifetime needs a [role](Self::with_role_arn) that allows sessions of this duration. Without a role,
    /// AWS always chooses 12 hours, so a request with a lifetime fails with `Error::InvalidInput`. Cached
    /// credentials expire at most 5 minutes earlier than new ones.
    ///
    /// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
    pub fn with_credentials_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.credentials_lifetime = Some(lifetime);
        self
    }

    /// Acts for this principal, such as `user:alice`. STS sessions and the creator tag of repositories have its
    /// name.
    ///
    /// [`EcrBackend::acting_as`] returns handles that act for other principals.
    pub fn with_principal(mut self, principal: impl fmt::Display) -> Self {
        self.principal = Some(principal.to_string().into());
        self
    }

    /// Caches registry credentials in this folder, which processes share. Its subfolder `listings` caches
    /// facts for the listings of the next hour.
    pub fn with_cache_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.cache_directory = Some(directory.into());
        self
    }

    /// Lists repositories by a scan of the whole account, even if it has more than 1,000.
    ///
    /// The scan also finds repositories without the resource tag `ark:organization`, and repositories that
    /// are not in the tag index yet. Its cost grows with the account.
    pub fn with_full_scan(mut self, full_scan: bool) -> Self {
        self.config.full_scan = full_scan;
        self
    }

    /// Sets the maximum number of attempts of each AWS call, including the first. Takes precedence over the
    /// environment and the AWS configuration. A low number makes failures fast.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.config.max_attempts = Some(max_attempts);
        self
    }

    /// Sends this external ID to assume the [role](Self::with_role_arn), which a role of another account may
    /// require. `AssumeRoleWithWebIdentity` has no external ID.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html>
    pub fn with_external_id(mut self, external_id: impl Into<String>) -> Self {
        self.config.external_id = Some(external_id.into());
        self
    }

    /// Sets the source identity of the sessions of the [role](Self::with_role_arn), which CloudTrail records.
    /// The role must allow `sts:SetSourceIdentity`. A web identity token contains its own source identity.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>
    pub fn with_source_identity(mut self, source_identity: impl Into<String>) -> Self {
        self.config.source_identity = Some(source_identity.into());
        self
    }

    /// Also allows these actions in narrowed credentials for pushes and deletions. The
    /// [role](Self::with_role_arn) must allow them too.
    pub fn with_additional_actions(
        mut self,
        actions: impl IntoIterator<Item = AdditionalAction>,
    ) -> Self {
        self.config.additional_actions.extend(actions);
        self
    }

    /// Sets this repository policy, a JSON document, on each new repository.
    ///
    /// As for a lifecycle policy, a repeated creation completes an interrupted one, and a repository with
    /// another policy is a conflict. With a token, only administrators may set the policy. A repository of
    /// another creator gets it when an administrator repeats the creation.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>
    pub fn with_repository_policy(mut self, policy: impl Into<String>) -> Self {
        self.config.repository_policy = Some(policy.into());
        self
    }

    /// Returns the backend, which reads settings and calls AWS only at its first use.
    pub fn build(self) -> EcrBackend {
        EcrBackend::new(self.config, self.principal)
    }
}
