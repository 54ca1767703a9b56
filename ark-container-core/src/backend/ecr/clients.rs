//! [`Clients`]: the SDK's configuration and clients, each built when it is first needed.

use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::{RetryConfig, RetryMode};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig, imds};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use tokio::sync::OnceCell;

use super::builder::EcrConfig;
use super::connector;
use super::quota::QuotaIsFinal;

/// What the SDK tries unless it is told; taken for not told.
const SDK_ATTEMPTS: u32 = 3;
/// How often a call is tried, the first time included: throttling of a long listing takes its time.
const ATTEMPTS: u32 = 6;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(45);
/// The most that a call takes with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(180);

/// How long the metadata service of a machine may take, once: where there is none, packets are lost.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// The SDK's configuration and clients, each built when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Clients {
    sdk_config: OnceCell<SdkConfig>,
    ecr: OnceCell<aws_sdk_ecr::Client>,
    sts: OnceCell<aws_sdk_sts::Client>,
    tagging: OnceCell<aws_sdk_resourcegroupstagging::Client>,
}

impl Clients {
    /// Those of a session, with all else as `base` has it.
    pub(super) fn with_credentials(base: &SdkConfig, credentials: Credentials) -> Self {
        let provider = SharedCredentialsProvider::new(credentials);
        let config = base.clone().into_builder().credentials_provider(provider).build();
        Self { sdk_config: OnceCell::new_with(Some(config)), ..Self::default() }
    }

    pub(super) async fn sdk_config(&self, config: &EcrConfig) -> &SdkConfig {
        self.sdk_config.get_or_init(|| sdk_config(config)).await
    }

    pub(super) async fn ecr(&self, config: &EcrConfig) -> &aws_sdk_ecr::Client {
        let client = || async {
            let config = aws_sdk_ecr::config::Builder::from(self.sdk_config(config).await);
            aws_sdk_ecr::Client::from_conf(config.retry_classifier(QuotaIsFinal).build())
        };
        self.ecr.get_or_init(client).await
    }

    pub(super) async fn sts(&self, config: &EcrConfig) -> &aws_sdk_sts::Client {
        let client = || async { aws_sdk_sts::Client::new(self.sdk_config(config).await) };
        self.sts.get_or_init(client).await
    }

    pub(super) async fn tagging(
        &self,
        config: &EcrConfig,
    ) -> &aws_sdk_resourcegroupstagging::Client {
        let client =
            || async { aws_sdk_resourcegroupstagging::Client::new(self.sdk_config(config).await) };
        self.tagging.get_or_init(client).await
    }
}

/// The configuration of the environment and the AWS files, or the one that was given.
async fn sdk_config(config: &EcrConfig) -> SdkConfig {
    let loaded = match &config.sdk_config {
        Some(given) => given.clone(),
        None => load(config).await,
    };
    let endpoint_url = config.endpoint_url.as_deref().or(loaded.endpoint_url()).map(str::to_owned);
    let loaded_client = loaded.http_client();
    let loaded_retry = loaded.retry_config().cloned();
    let mut builder = loaded.into_builder();
    builder.set_region(Region::new(config.host.region().to_owned()));
    let http_client = config.http_client.clone().or(loaded_client);
    builder.set_http_client(Some(http_client.unwrap_or_else(connector::http_client)));
    // Which host of AWS it is, is no question where a URL says it; the SDK refuses to be asked both.
    let flagged = endpoint_url.is_none();
    builder.set_use_fips(Some(flagged && config.host.is_fips()));
    builder.set_use_dual_stack(Some(flagged && config.host.is_dual_stack()));
    builder.set_endpoint_url(endpoint_url);
    if let Some(attempts) = config.max_attempts {
        let retry = loaded_retry.unwrap_or_else(RetryConfig::standard);
        builder.set_retry_config(Some(retry.with_max_attempts(attempts)));
    }
    if config.web_identity.is_some() {
        // What is called without a session is called without any credentials.
        builder.set_credentials_provider(None);
    }
    builder.build()
}

async fn load(config: &EcrConfig) -> SdkConfig {
    let region = Region::new(config.host.region().to_owned());
    let http_client = config.http_client.clone().unwrap_or_else(connector::http_client);
    let providers = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_http_client(http_client.clone());
    let metadata = imds::Client::builder()
        .configure(&providers)
        .max_attempts(1)
        .connect_timeout(METADATA_TIMEOUT)
        .operation_timeout(METADATA_TIMEOUT)
        .build();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    // The region is given, so that nobody asks the metadata service for it.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.clone())
        .http_client(http_client)
        .timeout_config(timeouts);
    let credentials = match &config.profile {
        _ if config.web_identity.is_some() => None,
        // As for the AWS command line, who names a profile does not mean the keys in the environment.
        Some(profile) => {
            loader = loader.profile_name(profile);
            let profile = ProfileFileCredentialsProvider::builder().profile_name(profile);
            Some(SharedCredentialsProvider::new(profile.configure(&providers).build()))
        }
        None => {
            let chain = DefaultCredentialsChain::builder().imds_client(metadata).region(region);
            Some(SharedCredentialsProvider::new(chain.configure(providers).build().await))
        }
    };
    let loader = match credentials {
        Some(credentials) => loader.credentials_provider(credentials),
        None => loader.no_credentials(),
    };
    let loaded = loader.load().await;
    let retry = retry(loaded.retry_config());
    let mut builder = loaded.into_builder();
    builder.set_retry_config(Some(retry));
    builder.build()
}

/// Retries that slow down with the service, within the SDK's budget of retries.
fn retry(loaded: Option<&RetryConfig>) -> RetryConfig {
    let loaded = loaded.cloned().unwrap_or_else(RetryConfig::standard);
    let attempts = match loaded.max_attempts() {
        SDK_ATTEMPTS => ATTEMPTS,
        told => told,
    };
    loaded.with_retry_mode(RetryMode::Adaptive).with_max_attempts(attempts)
}

#[cfg(test)]
mod tests;
