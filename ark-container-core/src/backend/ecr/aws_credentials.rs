//! [`CallerCredentials`]: the AWS credentials of the caller, from the providers of the SDK.
//!
//! An error names the provider that failed, which the SDK's own chain of providers does not.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::credential_process::CredentialProcessProvider;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::{self, credentials::ImdsCredentialsProvider};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, future};
use aws_sdk_ecr::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use super::aws_settings::is_key;
use super::builder::EcrConfig;
use crate::escape::quote_for_shell;

/// How long before their end credentials are fetched anew.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// Timeout of the metadata service, asked once: where there is none, packets are lost.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// Where AWS credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialsSource {
    /// `AWS_ACCESS_KEY_ID` and its like.
    Environment,
    Profile,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    WebIdentity,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `…_RELATIVE_URI`.
    Container,
    /// The metadata service of a machine.
    Machine,
    /// The configuration that the program brings.
    Program,
}

/// The source that failed, as the cause of a [`CredentialsError`].
#[derive(Debug)]
pub(super) struct SourceFailed {
    pub(super) source: CredentialsSource,
    error: CredentialsError,
}

impl fmt::Display for SourceFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SourceFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// A part of credentials that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("an access key or session token has a character that no key has, such as a line break")]
pub(super) struct UnusableKey;

/// The credentials of the first source that has some, cached until they expire.
#[derive(Debug)]
pub(super) struct CallerCredentials {
    sources: Vec<(CredentialsSource, SharedCredentialsProvider)>,
    /// Provides the credentials of a profile that `aws login` made.
    login_session: CredentialProcessProvider,
    cached: Mutex<Option<Credentials>>,
}

impl CallerCredentials {
    /// Returns the sources of the AWS command line, or the profile alone if the program names one.
    pub(super) fn new(config: &EcrConfig, providers: &ProviderConfig) -> Self {
        let name = config.profile_in_use();
        let profile = ProfileFileCredentialsProvider::builder().profile_name(&name);
        let profile = profile.configure(providers).build();
        let profile = (CredentialsSource::Profile, SharedCredentialsProvider::new(profile));
        let sources = match &config.profile {
            Some(_) => vec![profile],
            None => {
                let metadata = imds::Client::builder()
                    .configure(providers)
                    .max_attempts(1)
                    .connect_timeout(METADATA_TIMEOUT)
                    .operation_timeout(METADATA_TIMEOUT)
                    .build();
                let environment = EnvironmentVariableCredentialsProvider::new();
                let web_identity =
                    WebIdentityTokenCredentialsProvider::builder().configure(providers).build();
                let container = EcsCredentialsProvider::builder().configure(providers).build();
                let machine = ImdsCredentialsProvider::builder().imds_client(metadata);
                let machine = machine.configure(providers).build();
                vec![
                    (CredentialsSource::Environment, SharedCredentialsProvider::new(environment)),
                    profile,
                    (CredentialsSource::WebIdentity, SharedCredentialsProvider::new(web_identity)),
                    (CredentialsSource::Container, SharedCredentialsProvider::new(container)),
                    (CredentialsSource::Machine, SharedCredentialsProvider::new(machine)),
                ]
            }
        };
        Self::of(sources, &name)
    }

    /// Returns the credentials of a provider that the program brings.
    pub(super) fn of_program(provider: SharedCredentialsProvider, config: &EcrConfig) -> Self {
        let source = match config.profile {
            Some(_) => CredentialsSource::Profile,
            None => CredentialsSource::Program,
        };
        Self::of(vec![(source, provider)], &config.profile_in_use())
    }

    fn of(sources: Vec<(CredentialsSource, SharedCredentialsProvider)>, profile: &str) -> Self {
        // Renewing such a session takes another cryptography library, and whoever has one has the command.
        let export = format!(
            "aws configure export-credentials --format process --profile {}",
            quote_for_shell(profile)
        );
        let login_session = CredentialProcessProvider::new(export);
        Self { sources, login_session, cached: Mutex::new(None) }
    }

    async fn credentials(&self) -> provider::Result {
        let mut cached = self.cached.lock().await;
        let is_valid = |credentials: &&Credentials| {
            let soon = SystemTime::now() + EXPIRY_MARGIN;
            credentials.expiry().is_none_or(|expiry| soon < expiry)
        };
        if let Some(credentials) = cached.as_ref().filter(is_valid) {
            return Ok(credentials.clone());
        }
        let credentials = self.fetch().await?;
        let token = credentials.session_token().unwrap_or_default();
        if !is_key(credentials.access_key_id()) || !is_key(token) {
            return Err(CredentialsError::invalid_configuration(UnusableKey));
        }
        Ok(cached.insert(credentials).clone())
    }

    async fn fetch(&self) -> provider::Result {
        let mut missing = CredentialsError::not_loaded_no_source();
        for (source, provider) in &self.sources {
            let mut answer = provider.provide_credentials().await;
            if answer.as_ref().is_err_and(is_login_session) {
                answer = self.login_session.provide_credentials().await;
            }
            match answer {
                Ok(credentials) => return Ok(credentials),
                Err(error @ CredentialsError::CredentialsNotLoaded(_)) => missing = error,
                Err(error) => {
                    let failed = SourceFailed { source: *source, error };
                    return Err(CredentialsError::provider_error(failed));
                }
            }
        }
        Err(missing)
    }
}

/// Whether the SDK names the feature without which it does not read sessions of `aws login`.
fn is_login_session(error: &CredentialsError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("credentials-login") {
            return true;
        }
        cause = error.source();
    }
    false
}

impl ProvideCredentials for CallerCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

#[cfg(test)]
mod tests;
