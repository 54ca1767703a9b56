//! [`Clients`]: the SDK's configuration, HTTP client, retries and service clients.

use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::{RetryConfig, RetryMode};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig, imds};
use aws_sdk_ecr::config::interceptors::InterceptorContext;
use aws_sdk_ecr::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::OnceCell;

use super::builder::EcrConfig;

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
    builder.set_http_client(Some(http_client.unwrap_or_else(default_http_client)));
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
    let http_client = config.http_client.clone().unwrap_or_else(default_http_client);
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

/// AWS's code for a quota of the account that is reached.
pub(super) const QUOTA_REACHED: &str = "LimitExceededException";

/// Ends the attempts of a creation when the account has as many repositories as it may.
///
/// In other services this code means throttling, so that the SDK would try for minutes.
///
/// Source: `THROTTLING_ERRORS` of the crate `aws-runtime`, and the errors of CreateRepository in the
/// service model of ECR.
#[derive(Debug)]
struct QuotaIsFinal;

impl ClassifyRetry for QuotaIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = match context.output_or_error() {
            Some(Err(error)) => error.as_operation_error(),
            _ => None,
        };
        let code = error
            .and_then(|error| error.downcast_ref::<CreateRepositoryError>())
            .and_then(ProvideErrorMetadata::code);
        match code {
            Some(QUOTA_REACHED) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "quota reached"
    }
}

/// What the link-local addresses of metadata services start with.
///
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
const LINK_LOCAL: [&str; 2] = ["http://169.254.", "http://[fd00:ec2::"];

/// Variables that name a proxy for plain HTTP.
const PLAIN_PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The HTTP client for everything that the SDK calls.
///
/// The SDK's own one reads the system's root certificates before the first request, a quarter of the
/// cost of a short command, also where all requests are plain HTTP; and it asks a proxy for the
/// metadata service of the machine.
fn default_http_client() -> SharedHttpClient {
    let secure_proxy = |name: &&str| std::env::var(name).is_ok_and(|url| url.starts_with("https:"));
    // What a proxy is told over TLS needs the roots too.
    let plain = if PLAIN_PROXIES.iter().any(secure_proxy) { Wires::Secure } else { Wires::Plain };
    SharedHttpClient::new(LazyClient {
        direct: client(Wires::Direct),
        plain: client(plain),
        secure: client(Wires::Secure),
    })
}

#[derive(Debug, Clone, Copy)]
enum Wires {
    /// Plain HTTP past every proxy.
    Direct,
    /// Plain HTTP.
    Plain,
    /// HTTP and HTTPS.
    Secure,
}

/// A client that reads what it needs, such as root certificates, when it is first asked to connect.
fn client(wires: Wires) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = ConnectorBuilder::default();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        match wires {
            Wires::Direct => builder.build_http(),
            Wires::Plain => builder.proxy_config(ProxyConfig::from_env()).build_http(),
            Wires::Secure => builder
                .proxy_config(ProxyConfig::from_env())
                .tls_provider(Provider::rustls(CryptoMode::AwsLc))
                .build(),
        }
    })
}

/// Chooses among clients by the request's URL.
///
/// It does not pass on `validate_base_client_config`, in which the SDK's clients get ready in advance.
#[derive(Debug, Clone)]
struct LazyClient {
    direct: SharedHttpClient,
    plain: SharedHttpClient,
    secure: SharedHttpClient,
}

impl HttpClient for LazyClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(LazyConnector {
            client: self.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct LazyConnector {
    client: LazyClient,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for LazyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let url = request.uri();
        let client = if LINK_LOCAL.iter().any(|prefix| url.starts_with(prefix)) {
            &self.client.direct
        } else if url.starts_with("http://") {
            &self.client.plain
        } else {
            &self.client.secure
        };
        client.http_connector(&self.settings, &self.components).call(request)
    }
}

#[cfg(test)]
mod tests;
