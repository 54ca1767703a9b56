//! [`EcrBackendBuilder`]: how an account's registry is reached, and as whom.

use std::fmt;
use std::path::PathBuf;

use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::backend::EcrBackend;
use crate::model::{EcrHost, Stage};

/// What an [`EcrBackend`] was told.
#[derive(Debug)]
pub(crate) struct EcrConfig {
    pub(crate) host: EcrHost,
    pub(crate) stage: Stage,
    pub(crate) profile: Option<String>,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) http_client: Option<SharedHttpClient>,
    pub(crate) sdk_config: Option<SdkConfig>,
    pub(crate) role_arn: Option<String>,
    pub(crate) require_scoped: bool,
    pub(crate) principal: Option<String>,
    pub(crate) cache_directory: Option<PathBuf>,
    pub(crate) full_scan: bool,
}

impl EcrConfig {
    /// The profile of the AWS configuration files that credentials come from, if they come from there.
    pub(crate) fn profile_in_use(&self) -> String {
        let variables = ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"];
        let named = || variables.into_iter().find_map(|name| std::env::var(name).ok());
        self.profile.clone().or_else(named).unwrap_or_else(|| "default".to_owned())
    }

    /// Where the credentials in use come from, as far as it can be told without asking for them.
    pub(crate) fn credentials_source(&self) -> String {
        match &self.profile {
            None if self.sdk_config.is_some() => "the program".to_owned(),
            None if keys_in_environment() => "the environment (AWS_ACCESS_KEY_ID)".to_owned(),
            _ => format!("the profile {:?}", self.profile_in_use()),
        }
    }

    /// What gets another session where the one in use has expired.
    pub(crate) fn renewal(&self) -> String {
        if self.profile.is_none() && self.sdk_config.is_none() && keys_in_environment() {
            return "get new keys for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
                    AWS_SESSION_TOKEN)"
                .to_owned();
        }
        let profile = self.profile_in_use();
        format!("where it came from SSO, run `aws sso login --profile {profile}`")
    }
}

fn keys_in_environment() -> bool {
    std::env::var_os("AWS_ACCESS_KEY_ID").is_some()
}

/// How an account's registry is reached, and as whom; see [`EcrBackend::builder`].
#[derive(Debug)]
#[must_use = "nothing is built before `build`"]
pub struct EcrBackendBuilder(EcrConfig);

impl EcrBackendBuilder {
    pub(super) fn new(host: EcrHost, stage: Stage) -> Self {
        Self(EcrConfig {
            host,
            stage,
            profile: None,
            endpoint_url: None,
            http_client: None,
            sdk_config: None,
            role_arn: None,
            require_scoped: false,
            principal: None,
            cache_directory: None,
            full_scan: false,
        })
    }

    /// Takes AWS credentials from this profile of the AWS configuration files, instead of the one
    /// that `AWS_PROFILE` names.
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.0.profile = Some(profile.into());
        self
    }

    /// Calls AWS at this URL, instead of what `AWS_ENDPOINT_URL` and its forms for one service say.
    pub fn endpoint_url(mut self, endpoint_url: impl Into<String>) -> Self {
        self.0.endpoint_url = Some(endpoint_url.into());
        self
    }

    /// Calls AWS with this HTTP client; by default one that knows the proxies of the environment and
    /// the system's root certificates.
    pub fn http_client(mut self, http_client: SharedHttpClient) -> Self {
        self.0.http_client = Some(http_client);
        self
    }

    /// Calls AWS as this configuration says: its credentials, retries, timeouts and endpoint, where
    /// the builder does not say otherwise. The region is always the registry's.
    pub fn sdk_config(mut self, sdk_config: SdkConfig) -> Self {
        self.0.sdk_config = Some(sdk_config);
        self
    }

    /// Takes registry credentials under this IAM role, narrowed to the scope that they are for.
    pub fn role_arn(mut self, role_arn: impl Into<String>) -> Self {
        self.0.role_arn = Some(role_arn.into());
        self
    }

    /// Refuses to give registry credentials that reach further than the scope asked for.
    pub fn require_scoped(mut self, require_scoped: bool) -> Self {
        self.0.require_scoped = require_scoped;
        self
    }

    /// Who asks, such as `user:alice`: names sessions, and the creator of repositories.
    pub fn principal(mut self, principal: impl fmt::Display) -> Self {
        self.0.principal = Some(principal.to_string());
        self
    }

    /// Keeps registry credentials in this folder, for other processes and later ones.
    pub fn cache_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.0.cache_directory = Some(directory.into());
        self
    }

    /// Lists repositories by reading through the whole account, not by the index of resource tags.
    ///
    /// The scan also finds repositories without the resource tag `ark:organization`, and those that
    /// the index does not know yet; its cost grows with the account.
    pub fn full_scan(mut self, full_scan: bool) -> Self {
        self.0.full_scan = full_scan;
        self
    }

    /// The backend. Nothing is read or called before it is first used.
    pub fn build(self) -> EcrBackend {
        EcrBackend::new(self.0)
    }
}
