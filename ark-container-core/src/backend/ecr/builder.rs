//! [`EcrBackendBuilder`]: how an account's registry is reached, and as whom.

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

    /// Where the credentials in use come from, as far as it can be told without asking for them.
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

    /// Returns the variable and the source that the environment names: keys, or others if it names no profile.
    fn source_in_environment(&self) -> Option<(&'static str, &'static str)> {
        if self.profile.is_some() || self.sdk_config.is_some() {
            return None;
        }
        let count = if self.profile_in_use() == "default" { SOURCES.len() } else { 1 };
        SOURCES.into_iter().take(count).find(|(name, _)| variable(name).is_some())
    }

    /// What AWS is shown.
    pub(crate) fn proof(&self) -> String {
        let source = self.credentials_source();
        if self.web_identity.is_some() { source } else { format!("the credentials of {source}") }
    }

    /// What has expired where AWS says that something has.
    pub(crate) fn expired(&self) -> String {
        match &self.web_identity {
            Some(_) => format!("{}, or the AWS session for it,", self.credentials_source()),
            None => "the AWS session".to_owned(),
        }
    }

    /// What gets another session where the one in use has expired.
    pub(crate) fn renewal(&self) -> String {
        if let Some(file) = &self.web_identity {
            return format!("put a new token in {}", file.path().display());
        }
        match self.source_in_environment() {
            Some(("AWS_ACCESS_KEY_ID", _)) => {
                "get new keys for the environment (AWS_ACCESS_KEY_ID, \
                                               AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)"
                    .to_owned()
            }
            Some((_, source)) => format!("renew {source}"),
            None => {
                let profile = quote_for_shell(&self.profile_in_use());
                format!("where it came from SSO, run `aws sso login --profile {profile}`")
            }
        }
    }
}

/// Variables that name a source of credentials, and the source.
const SOURCES: [(&str, &str); 4] = [
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

/// How an account's registry is reached, and as whom; see [`EcrBackend::builder`].
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

    /// Takes AWS credentials from this profile of the AWS configuration files, instead of the one
    /// that `AWS_PROFILE` names.
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.config.profile = Some(profile.into());
        self
    }

    /// Calls AWS at this URL, instead of what `AWS_ENDPOINT_URL` and its forms for one service say.
    pub fn with_endpoint_url(mut self, endpoint_url: impl Into<String>) -> Self {
        self.config.endpoint_url = Some(endpoint_url.into());
        self
    }

    /// Calls AWS with this HTTP client; by default one that knows the proxies of the environment and
    /// the system's root certificates.
    pub fn with_http_client(mut self, http_client: SharedHttpClient) -> Self {
        self.config.http_client = Some(http_client);
        self
    }

    /// Calls AWS as this configuration says: its credentials, retries, timeouts and endpoint, where
    /// the builder does not say otherwise. The region is always the registry's.
    pub fn with_sdk_config(mut self, sdk_config: SdkConfig) -> Self {
        self.config.sdk_config = Some(sdk_config);
        self
    }

    /// Calls AWS as the holder of the token in this file, by STS AssumeRoleWithWebIdentity, and looks for
    /// no other AWS credentials.
    ///
    /// Everything is done under the role of [`role_arn`](Self::with_role_arn), which must be set; deletions,
    /// policies of repositories and changes in the global organization under that of
    /// [`administrator_role_arn`](Self::with_administrator_role_arn). The file is read at each call: with a
    /// new token comes a new session.
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

    /// Takes registry credentials under this IAM role, narrowed to the scope that they are for.
    pub fn with_role_arn(mut self, role_arn: impl Into<String>) -> Self {
        self.config.role_arn = Some(role_arn.into());
        self
    }

    /// Deletes, sets policies of repositories, and changes the global organization under this IAM role of
    /// administrators.
    ///
    /// It takes effect together with a token: who calls with other AWS credentials does everything as
    /// that caller.
    pub fn with_administrator_role_arn(mut self, role_arn: impl Into<String>) -> Self {
        self.config.administrator_role_arn = Some(role_arn.into());
        self
    }

    /// Refuses to give registry credentials that reach further than the scope asked for.
    pub fn with_require_scoped(mut self, require_scoped: bool) -> Self {
        self.config.require_scoped = require_scoped;
        self
    }

    /// Sets the lifetime of registry credentials, from 15 minutes to 12 hours. The default is 12 hours, or
    /// 1 hour where the role does not allow 12.
    ///
    /// A lifetime needs a [role](Self::with_role_arn) whose sessions may last as long: AWS gives credentials
    /// without a role for 12 hours, so asking for them fails with `Error::InvalidInput`. Returned
    /// credentials have at most 5 minutes less than the lifetime left.
    ///
    /// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
    pub fn with_credentials_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.credentials_lifetime = Some(lifetime);
        self
    }

    /// Acts for this principal, such as `user:alice`: names STS sessions and the creator of repositories.
    ///
    /// [`EcrBackend::acting_as`] gives handles that act for others.
    pub fn with_principal(mut self, principal: impl fmt::Display) -> Self {
        self.principal = Some(principal.to_string().into());
        self
    }

    /// Keeps registry credentials in this folder, and below `listings` what listings use within an hour, for
    /// other processes and later ones.
    pub fn with_cache_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.cache_directory = Some(directory.into());
        self
    }

    /// Lists repositories by reading through the whole account, also where it has more than 1,000.
    ///
    /// The scan also finds repositories without the resource tag `ark:organization`, and those that
    /// the tag index does not know yet; its cost grows with the account.
    pub fn with_full_scan(mut self, full_scan: bool) -> Self {
        self.config.full_scan = full_scan;
        self
    }

    /// Tries each call to AWS this often at most, the first time included, whatever the environment and
    /// the AWS configuration say: for who would rather hear soon that it does not work.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.config.max_attempts = Some(max_attempts);
        self
    }

    /// Shows this external identifier when the [role](Self::with_role_arn) is assumed, as a role of another
    /// account may demand. AssumeRoleWithWebIdentity has none.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html>
    pub fn with_external_id(mut self, external_id: impl Into<String>) -> Self {
        self.config.external_id = Some(external_id.into());
        self
    }

    /// Sets the source identity of the sessions of the [role](Self::with_role_arn), which CloudTrail records.
    /// The role must allow `sts:SetSourceIdentity`. With a token, the token says it.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>
    pub fn with_source_identity(mut self, source_identity: impl Into<String>) -> Self {
        self.config.source_identity = Some(source_identity.into());
        self
    }

    /// Allows these actions too in the credentials of pushes and deletions, where they are narrowed under a
    /// [role](Self::with_role_arn), which must allow them itself.
    pub fn with_additional_actions(
        mut self,
        actions: impl IntoIterator<Item = AdditionalAction>,
    ) -> Self {
        self.config.additional_actions.extend(actions);
        self
    }

    /// Gives each repository that is created this repository policy, a JSON document.
    ///
    /// It is applied like a lifecycle policy: the same creation again finishes one that was interrupted,
    /// and a repository that has another policy is a conflict. With a token, only administrators may set it:
    /// what others create gets it when an administrator asks for the same creation.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>
    pub fn with_repository_policy(mut self, policy: impl Into<String>) -> Self {
        self.config.repository_policy = Some(policy.into());
        self
    }

    /// The backend. Nothing is read or called before it is first used.
    pub fn build(self) -> EcrBackend {
        EcrBackend::new(self.config, self.principal)
    }
}
