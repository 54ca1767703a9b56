//! [`Clients`]: builds the service clients of the SDK, with their configuration and retries.

use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::interceptors::{
    BeforeSerializationInterceptorContextRef, InterceptorContext,
};
use aws_sdk_ecr::config::retry::{
    ClassifyRetry, ClientRateLimiter, RetryAction, RetryPartition, TokenBucket,
};
use aws_sdk_ecr::config::{ConfigBag, Credentials, Intercept, SharedCredentialsProvider};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_sdk_resourcegroupstagging::operation::get_resources::GetResourcesInput;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::OnceCell;

use super::aws_credentials::CallerCredentials;
use super::builder::EcrConfig;
use super::errors::NoResponse;
use crate::aws_environment::http_client::http_client;
use crate::aws_environment::{AwsSettings, Services, check_files};
use crate::error::{BoxError, Result};
use crate::model::EcrHost;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(45);
/// The timeout of a call with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(180);

/// The timeout of a page of the tag index, which is optional for a listing.
const INDEX_TIMEOUT: Duration = Duration::from_secs(3);

/// The configuration of the clients of a caller.
#[derive(Debug, Clone)]
pub(super) struct AwsConfig {
    sdk: SdkConfig,
    endpoints: Services<Endpoint>,
}

/// The endpoint of a service.
#[derive(Debug, Clone, Default)]
enum Endpoint {
    /// The endpoint of the program's SDK configuration.
    #[default]
    Given,
    Url(String),
    /// An endpoint of AWS.
    Aws {
        fips: bool,
        dual_stack: bool,
    },
}

impl AwsConfig {
    /// Returns this configuration with the credentials of a session.
    pub(super) fn with_credentials(&self, credentials: Credentials) -> Self {
        let provider = SharedCredentialsProvider::new(credentials);
        let sdk = self.sdk.clone().into_builder().credentials_provider(provider).build();
        Self { sdk, endpoints: self.endpoints.clone() }
    }

    /// Returns the source of the caller's credentials; `None` with a web identity token.
    pub(super) fn credentials_provider(&self) -> Option<SharedCredentialsProvider> {
        self.sdk.credentials_provider()
    }

    /// Returns the part of a cache key that distinguishes these endpoints from AWS's own.
    pub(super) fn endpoint_key(&self) -> String {
        format!("{:?} {:?}", self.endpoints, self.sdk.endpoint_url())
    }
}

/// The SDK's configuration and clients, each built at its first use.
#[derive(Debug, Default)]
pub(super) struct Clients {
    config: OnceCell<AwsConfig>,
    ecr: OnceCell<aws_sdk_ecr::Client>,
    sts: OnceCell<aws_sdk_sts::Client>,
    tagging: OnceCell<aws_sdk_resourcegroupstagging::Client>,
}

/// Builds the client of a service. A macro, because the builders of the services have no common trait.
///
/// Each client has its own retry limits, so that throttling of one caller does not slow down another.
macro_rules! client {
    ($sdk:ident, $config:expr, $service:ident $(, $more:expr)?) => {{
        let config: &AwsConfig = $config;
        let partition = RetryPartition::custom(stringify!($service))
            .token_bucket(TokenBucket::default())
            .client_rate_limiter(ClientRateLimiter::default())
            .build();
        let mut builder = $sdk::config::Builder::from(&config.sdk)
            .retry_classifier(FinalErrors)
            .retry_partition(partition);
        let endpoint = match &config.endpoints.$service {
            Endpoint::Given => None,
            // The SDK rejects an endpoint with both a URL and flags.
            Endpoint::Url(url) => Some((Some(url.clone()), false, false)),
            Endpoint::Aws { fips, dual_stack } => Some((None, *fips, *dual_stack)),
        };
        if let Some((url, fips, dual_stack)) = endpoint {
            builder.set_endpoint_url(url);
            builder.set_use_fips(Some(fips));
            builder.set_use_dual_stack(Some(dual_stack));
        }
        $(let builder = $more(builder);)?
        $sdk::Client::from_conf(builder.build())
    }};
}

impl Clients {
    /// Creates the clients for a configuration.
    pub(super) fn new(config: AwsConfig) -> Self {
        Self { config: OnceCell::new_with(Some(config)), ..Self::default() }
    }

    pub(super) async fn config(&self, config: &EcrConfig) -> Result<&AwsConfig> {
        self.config.get_or_try_init(|| aws_config(config)).await
    }

    pub(super) async fn ecr(&self, config: &EcrConfig) -> Result<&aws_sdk_ecr::Client> {
        let config = self.config(config).await?;
        Ok(self.ecr.get_or_init(|| async { client!(aws_sdk_ecr, config, ecr) }).await)
    }

    pub(super) async fn sts(&self, config: &EcrConfig) -> Result<&aws_sdk_sts::Client> {
        let config = self.config(config).await?;
        Ok(self.sts.get_or_init(|| async { client!(aws_sdk_sts, config, sts) }).await)
    }

    pub(super) async fn tagging(
        &self,
        config: &EcrConfig,
    ) -> Result<&aws_sdk_resourcegroupstagging::Client> {
        let config = self.config(config).await?;
        let fail_fast = |builder: aws_sdk_resourcegroupstagging::config::Builder| {
            let timeout = TimeoutConfig::builder().operation_attempt_timeout(INDEX_TIMEOUT).build();
            builder.timeout_config(timeout).interceptor(FirstPageOnce)
        };
        let client =
            || async { client!(aws_sdk_resourcegroupstagging, config, tagging, fail_fast) };
        Ok(self.tagging.get_or_init(client).await)
    }
}

/// Returns the configuration of the program, or else of the environment and the AWS files.
async fn aws_config(config: &EcrConfig) -> Result<AwsConfig> {
    let (loaded, endpoints) = match &config.sdk_config {
        Some(given) => {
            let url = config.endpoint_url.as_deref().or(given.endpoint_url());
            let endpoints = match url.map(|url| Endpoint::Url(url.to_owned())) {
                Some(url) => Services { ecr: url.clone(), sts: url.clone(), tagging: url },
                None if config.host.is_fips() || config.host.is_dual_stack() => {
                    aws_endpoints(&config.host, false, false)
                }
                None => Services::default(),
            };
            let mut builder = given.clone().into_builder();
            let credentials = given.credentials_provider().map(|provider| {
                SharedCredentialsProvider::new(CallerCredentials::of_program(provider, config))
            });
            builder.set_credentials_provider(credentials);
            let client = config.http_client.clone().or(given.http_client());
            builder.set_http_client(Some(client.unwrap_or_else(|| http_client(None))));
            (builder.build(), endpoints)
        }
        None => load(config).await?,
    };
    let retry = loaded.retry_config().cloned();
    let mut builder = loaded.into_builder();
    builder.set_region(Region::new(config.host.region().to_owned()));
    if let Some(attempts) = config.max_attempts {
        let retry = retry.unwrap_or_else(RetryConfig::standard);
        builder.set_retry_config(Some(retry.with_max_attempts(attempts)));
    }
    if config.web_identity.is_some() {
        // Calls without a session have no credentials.
        builder.set_credentials_provider(None);
    }
    Ok(AwsConfig { sdk: builder.build(), endpoints })
}

async fn load(config: &EcrConfig) -> Result<(SdkConfig, Services<Endpoint>)> {
    let settings = AwsSettings::of_this_process(&config.aws_choices())?;
    let profile = config.profile_in_use();
    check_files(&profile).await?;
    let aws = aws_endpoints(&config.host, settings.use_fips, settings.use_dual_stack);
    let region = Region::new(config.host.region().to_owned());
    let ca_bundle = settings.ca_bundle;
    let client = config.http_client.clone().unwrap_or_else(|| http_client(ca_bundle));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    let (fips, dual_stack) = match aws.sts {
        Endpoint::Aws { fips, dual_stack } => (fips, dual_stack),
        Endpoint::Given | Endpoint::Url(_) => (false, false),
    };
    // With an explicit region, the SDK does not call the metadata service for one.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.clone())
        .profile_name(&profile)
        .retry_config(settings.retry.clone())
        .timeout_config(timeouts.clone())
        .http_client(client.clone())
        .use_fips(fips)
        .use_dual_stack(dual_stack);
    loader = match config.web_identity {
        Some(_) => loader.no_credentials(),
        None => {
            let providers = ProviderConfig::without_region()
                .with_region(Some(region))
                .with_retry_config(settings.retry)
                .with_timeout_config(timeouts)
                .with_http_client(client)
                .with_use_fips(Some(fips))
                .with_use_dual_stack(Some(dual_stack));
            loader.credentials_provider(CallerCredentials::new(config, &providers))
        }
    };
    let own = |url: Option<String>, aws| url.map_or(aws, Endpoint::Url);
    let urls = settings.endpoint_urls;
    let endpoints = Services {
        ecr: own(urls.ecr, aws.ecr),
        sts: own(urls.sts, aws.sts),
        tagging: own(urls.tagging, aws.tagging),
    };
    Ok((loader.load().await, endpoints))
}

/// The regions with a FIPS 140 endpoint of STS.
///
/// Source: `sts` in `endpoints.json` of botocore 1.43, and <https://aws.amazon.com/compliance/fips/>
const STS_FIPS_REGIONS: [&str; 6] =
    ["us-east-1", "us-east-2", "us-west-1", "us-west-2", "us-gov-east-1", "us-gov-west-1"];

/// Returns the AWS endpoints with the requested properties, as far as such endpoints exist.
///
/// Resource Groups Tagging has neither FIPS nor dual-stack endpoints. STS has no FIPS endpoints outside of the US, no
/// dual-stack endpoints in isolated partitions, and no endpoints with both properties in GovCloud.
fn aws_endpoints(host: &EcrHost, use_fips: bool, use_dual_stack: bool) -> Services<Endpoint> {
    let (fips, dual_stack) = (use_fips || host.is_fips(), use_dual_stack || host.is_dual_stack());
    let sts_fips = fips && STS_FIPS_REGIONS.contains(&host.region());
    let is_isolated = host.partition().starts_with("aws-iso");
    let is_both_in_government = sts_fips && host.partition() == "aws-us-gov";
    Services {
        ecr: Endpoint::Aws { fips, dual_stack },
        sts: Endpoint::Aws {
            fips: sts_fips,
            dual_stack: dual_stack && !is_isolated && !is_both_in_government,
        },
        tagging: Endpoint::Aws { fips: false, dual_stack: false },
    }
}

/// AWS's error code for a reached quota of the account.
pub(super) const QUOTA_REACHED: &str = "LimitExceededException";

/// A classifier that prevents retries of permanent errors: an unknown or unreachable host, an untrusted certificate, an
/// error of a proxy, and a creation beyond the quota of repositories.
///
/// In other services the error code of a quota means throttling. The SDK would therefore retry it.
///
/// Source: `THROTTLING_ERRORS` of the crate `aws-runtime`, and the errors of CreateRepository in the
/// service model of ECR.
#[derive(Debug)]
struct FinalErrors;

impl ClassifyRetry for FinalErrors {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else {
            return RetryAction::NoActionIndicated;
        };
        let code = error
            .as_operation_error()
            .and_then(|error| error.downcast_ref::<CreateRepositoryError>())
            .and_then(ProvideErrorMetadata::code);
        let no_response = error.as_connector_error().map(|error| NoResponse::of(error));
        if code == Some(QUOTA_REACHED) || no_response.is_some_and(NoResponse::is_final) {
            return RetryAction::RetryForbidden;
        }
        RetryAction::NoActionIndicated
    }

    fn name(&self) -> &'static str {
        "final errors"
    }
}

/// An interceptor that disables retries for the first page of the tag index, because a scan can replace the index.
#[derive(Debug)]
struct FirstPageOnce;

#[dyn_dispatch_hint]
impl Intercept for FirstPageOnce {
    fn name(&self) -> &'static str {
        "one attempt for the first page"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input().downcast_ref::<GetResourcesInput>();
        if input.is_some_and(|input| input.pagination_token().is_none()) {
            config.interceptor_state().store_put(RetryConfig::standard().with_max_attempts(1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
