//! [`CallerCredentials`]: loads the AWS credentials of the caller from the providers of the SDK.
//!
//! An error names the failed provider, unlike the errors of the SDK's own provider chain.

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

/// The time before their expiry at which credentials are renewed.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// The timeout of the only request to the metadata service. A machine without the service may drop the packets.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// The error of one source, as the cause of a [`CredentialsError`].
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct SourceFailed {
    /// The source, such as `the profile "builds"`.
    pub(super) name: String,
    pub(super) error: CredentialsError,
}

/// The environment variables that name the credentials endpoint of a container.
const CONTAINER_VARIABLES: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// The profile settings that name a source of credentials, and the source in errors.
const PROFILE_SOURCES: [(&str, &str); 2] = [
    ("credential_process", "the credential process of "),
    ("web_identity_token_file", "the web identity of "),
];

/// The error of a key or token that cannot be sent in an HTTP header.
#[derive(Debug, thiserror::Error)]
#[error("an access key or session token has an invalid character, such as a line break")]
pub(super) struct InvalidKey;

/// A provider of the credentials of the first source that has any, which caches them until they expire.
#[derive(Debug)]
pub(super) struct CallerCredentials {
    /// The sources with their names. The name of the metadata service is empty.
    sources: Vec<(String, SharedCredentialsProvider)>,
    /// The provider for the session of `aws login`.
    login_session: CredentialProcessProvider,
    cached: Mutex<Option<Credentials>>,
}

impl CallerCredentials {
    /// Uses the sources of the AWS command line, or only the profile if the program chose one.
    pub(super) fn new(config: &EcrConfig, providers: &ProviderConfig) -> Self {
        let name = config.profile_in_use();
        let from = PROFILE_SOURCES.into_iter().find(|(key, _)| profile_has(&name, key));
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
        // The SDK would use an empty variable as a file name or URL.
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

    /// Uses the provider of the program.
    pub(super) fn of_program(provider: SharedCredentialsProvider, config: &EcrConfig) -> Self {
        let profile = config.profile_in_use();
        let name = match config.profile {
            Some(_) => format!("the profile {profile:?}"),
            None => "the AWS configuration of the program".to_owned(),
        };
        Self::of(vec![(name, provider)], &profile)
    }

    fn of(sources: Vec<(String, SharedCredentialsProvider)>, profile: &str) -> Self {
        // To renew such a session, the SDK would need a second cryptography library. A user of `aws login` has the
        // AWS command line, which exports the credentials.
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
            return Err(CredentialsError::invalid_configuration(InvalidKey));
        }
        Ok(cached.insert(credentials).clone())
    }

    async fn fetch(&self) -> provider::Result {
        for (name, provider) in &self.sources {
            let mut result = provider.provide_credentials().await;
            if result.as_ref().is_err_and(is_login_session) {
                result = self.login_session.provide_credentials().await;
            }
            match result {
                Ok(credentials) => return Ok(credentials),
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                // Most machines have no metadata service, which is not an error.
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

/// Returns whether the SDK needs a session of `aws login`: its error then names the disabled feature.
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
