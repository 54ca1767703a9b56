//! [`CallerCredentials`]: the AWS credentials of the caller, from the providers of the SDK.
//!
//! An error names the provider that failed, which the SDK's own chain of providers does not.

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

use super::builder::EcrConfig;
use crate::aws_environment::{is_key, profile_has, variable};
use crate::escape::quote_for_shell;

/// How long before their end credentials are fetched anew.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// Timeout of the only request to the metadata service. A machine without one may drop the packets.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// The source that failed, as the cause of a [`CredentialsError`].
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct SourceFailed {
    /// The source, such as `the profile "builds"`.
    pub(super) name: String,
    pub(super) error: CredentialsError,
}

/// Variables that name the endpoint of a container's credentials.
const CONTAINER_VARIABLES: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// What a profile may have its credentials from, by the name of the value.
const SOURCES_OF_PROFILES: [(&str, &str); 2] = [
    ("credential_process", "the credential process of "),
    ("web_identity_token_file", "the web identity of "),
];

/// A part of credentials that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("an access key or session token has a character that no key has, such as a line break")]
pub(super) struct UnusableKey;

/// The credentials of the first source that has some, cached until they expire.
#[derive(Debug)]
pub(super) struct CallerCredentials {
    /// The sources, with their names; the metadata service has none.
    sources: Vec<(String, SharedCredentialsProvider)>,
    /// Provides the credentials of a profile that `aws login` made.
    login_session: CredentialProcessProvider,
    cached: Mutex<Option<Credentials>>,
}

impl CallerCredentials {
    /// Returns the sources of the AWS command line, or the profile alone if the program chose one.
    pub(super) fn new(config: &EcrConfig, providers: &ProviderConfig) -> Self {
        let name = config.profile_in_use();
        let from = SOURCES_OF_PROFILES.into_iter().find(|(key, _)| profile_has(&name, key));
        let from = from.map_or("", |(_, from)| from);
        let profile = ProfileFileCredentialsProvider::builder().profile_name(&name);
        let profile = SharedCredentialsProvider::new(profile.configure(providers).build());
        let profile = (format!("{from}the profile {name:?}"), profile);
        if config.profile.is_some() {
            return Self::of(vec![profile], &name);
        }
        let environment = EnvironmentVariableCredentialsProvider::new();
        let environment = SharedCredentialsProvider::new(environment);
        let mut sources = vec![("the environment".to_owned(), environment), profile];
        // The SDK takes an empty variable for a file or URL.
        if variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some() {
            let provider = WebIdentityTokenCredentialsProvider::builder().configure(providers);
            let name =
                "the web identity of AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN".to_owned();
            sources.push((name, SharedCredentialsProvider::new(provider.build())));
        }
        if let Some(name) = CONTAINER_VARIABLES.into_iter().find(|name| variable(name).is_some()) {
            let provider = EcsCredentialsProvider::builder().configure(providers);
            let name = format!("the endpoint of the container ({name})");
            sources.push((name, SharedCredentialsProvider::new(provider.build())));
        }
        let metadata = imds::Client::builder()
            .configure(providers)
            .max_attempts(1)
            .connect_timeout(METADATA_TIMEOUT)
            .operation_timeout(METADATA_TIMEOUT)
            .build();
        let machine = ImdsCredentialsProvider::builder().imds_client(metadata).configure(providers);
        sources.push((String::new(), SharedCredentialsProvider::new(machine.build())));
        Self::of(sources, &name)
    }

    /// Returns the credentials of a provider that the program brings.
    pub(super) fn of_program(provider: SharedCredentialsProvider, config: &EcrConfig) -> Self {
        let profile = config.profile_in_use();
        let name = match config.profile {
            Some(_) => format!("the profile {profile:?}"),
            None => "the AWS configuration of the program".to_owned(),
        };
        Self::of(vec![(name, provider)], &profile)
    }

    fn of(sources: Vec<(String, SharedCredentialsProvider)>, profile: &str) -> Self {
        // The SDK needs a second cryptography library to renew such a session. A user of `aws login` has the command.
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
        for (name, provider) in &self.sources {
            let mut answer = provider.provide_credentials().await;
            if answer.as_ref().is_err_and(is_login_session) {
                answer = self.login_session.provide_credentials().await;
            }
            match answer {
                Ok(credentials) => return Ok(credentials),
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                // A failure means that the machine has no metadata service, like most.
                Err(_) if name.is_empty() => {}
                Err(error) => {
                    let failed = SourceFailed { name: name.clone(), error };
                    return Err(CredentialsError::provider_error(failed));
                }
            }
        }
        Err(CredentialsError::not_loaded_no_source())
    }
}

/// Whether the SDK names the feature without which it does not read sessions of `aws login`.
fn is_login_session(error: &CredentialsError) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|cause| cause.to_string().contains("credentials-login"))
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
