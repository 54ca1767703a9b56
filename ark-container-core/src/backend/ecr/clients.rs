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
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    use aws_credential_types::provider::error::CredentialsError;
    use aws_sdk_ecr::config::{Credentials, ProvideCredentials};
    use futures_util::TryStreamExt;

    use super::super::scripted;
    use super::*;
    use crate::backend::RegistryBackend;
    use crate::backend::ecr::{EcrBackend, EcrBackendBuilder};
    use crate::error::Error;
    use crate::identity::TokenFile;
    use crate::model::{Organizations, Stage};

    fn builder(host: &str) -> EcrBackendBuilder {
        EcrBackend::builder(host.parse().unwrap(), Stage::default())
    }

    /// A configuration without an HTTP client, so that the backend's own one is used.
    fn keys() -> SdkConfig {
        scripted::sdk_config()
    }

    #[tokio::test]
    async fn a_request_goes_over_the_network() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim_end().to_ascii_lowercase() {
                    line if line.is_empty() => break,
                    line => head.push(line),
                }
            }
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = Vec::new();
            reader.take(length.unwrap().parse().unwrap()).read_to_end(&mut body).unwrap();
            let row = scripted::described("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a");
            let answer = serde_json::json!({"repositories": [row]}).to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
            head
        });
        let backend =
            builder(scripted::HOST).with_sdk_config(keys()).with_endpoint_url(url).build();
        let rows: Vec<_> =
            backend.list_repositories(&Organizations::All).try_collect().await.unwrap();
        assert_eq!(rows.len(), 1);
        let head = server.join().unwrap();
        assert!(head.iter().any(|line| line.contains("/us-east-1/ecr/aws4_request")), "{head:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_temporary_with_its_cause() {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (url, text) in [
            (format!("http://127.0.0.1:{port}"), "cannot be reached"),
            ("http://ecr.invalid".to_owned(), "is not known here"),
        ] {
            let backend =
                builder(scripted::HOST).with_sdk_config(keys()).with_endpoint_url(url).build();
            let rows: Result<Vec<_>, _> =
                backend.list_repositories(&Organizations::All).try_collect().await;
            let error = rows.unwrap_err();
            assert!(matches!(error, Error::Temporary { source: Some(_), .. }), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_is_not_trusted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let config = keys().into_builder().retry_config(RetryConfig::disabled()).build();
        let backend =
            builder(scripted::HOST).with_sdk_config(config).with_endpoint_url(url).build();
        let rows: Result<Vec<_>, _> =
            backend.list_repositories(&Organizations::All).try_collect().await;
        let error = rows.unwrap_err();
        server.join().unwrap();
        assert!(matches!(error, Error::Failed { source: Some(_), .. }), "{error:?}");
        assert!(error.to_string().contains("TLS"), "{error}");
    }

    #[tokio::test]
    async fn the_host_says_region_and_endpoint() {
        for (host, region, fips, dual_stack) in [
            ("095412845506.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", false, false),
            ("095412845506.dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1", true, false),
            ("095412845506.dkr-ecr-fips.us-east-1.on.aws", "us-east-1", true, true),
        ] {
            let other = keys().into_builder().region(Region::from_static("ap-south-1")).build();
            let backend = builder(host).with_sdk_config(other.clone()).build();
            let config = backend.sdk_config().await;
            assert_eq!(config.region().unwrap().as_ref(), region);
            assert_eq!(
                (config.use_fips(), config.use_dual_stack()),
                (Some(fips), Some(dual_stack))
            );
            // The SDK refuses these flags beside a URL.
            let backend = builder(host)
                .with_sdk_config(other)
                .with_endpoint_url("http://127.0.0.1:1")
                .build();
            let config = backend.sdk_config().await;
            assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(false), Some(false)));
        }
    }

    #[tokio::test]
    async fn with_a_token_there_is_no_other_source_of_credentials() {
        let file = TokenFile::new("/nowhere/jwt.json");
        let given =
            builder(scripted::HOST).with_sdk_config(keys()).with_web_identity(file.clone()).build();
        let loaded = builder(scripted::HOST).with_profile("builds").with_web_identity(file).build();
        for backend in [given, loaded] {
            let config = backend.sdk_config().await;
            assert!(config.credentials_provider().is_none(), "{config:?}");
        }
    }

    #[tokio::test]
    async fn clones_share_their_clients() {
        let backend = builder(scripted::HOST).with_sdk_config(keys()).build();
        let clone = backend.clone();
        assert!(std::ptr::eq(backend.sdk_config().await, clone.sdk_config().await));
    }

    #[test]
    fn retries_are_adaptive_and_as_many_as_told() {
        let retries = |loaded: Option<RetryConfig>| {
            let retry = retry(loaded.as_ref());
            assert_eq!(retry.mode(), RetryMode::Adaptive);
            retry.max_attempts()
        };
        assert_eq!(retries(None), ATTEMPTS);
        assert_eq!(retries(Some(RetryConfig::standard())), ATTEMPTS);
        assert_eq!(retries(Some(RetryConfig::standard().with_max_attempts(1))), 1);
    }

    /// Credentials that cannot be had.
    #[derive(Debug)]
    struct Without(fn() -> CredentialsError);

    impl ProvideCredentials for Without {
        fn provide_credentials<'a>(
            &'a self,
        ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            aws_credential_types::provider::future::ProvideCredentials::ready(
                Err::<Credentials, _>((self.0)()),
            )
        }
    }

    #[tokio::test]
    async fn without_credentials_the_error_says_how_to_get_some() {
        type Case = (Option<&'static str>, fn() -> CredentialsError, &'static str);
        let builds = Some("builds");
        let cases: [Case; 6] = [
            (None, || CredentialsError::not_loaded("nothing"), "there are no AWS credentials in"),
            (
                builds,
                || CredentialsError::not_loaded("nothing"),
                "does not exist or gives no credentials",
            ),
            (
                builds,
                || {
                    CredentialsError::provider_error(
                        "the SSO token has expired and cannot be refreshed",
                    )
                },
                "has expired: run `aws sso login --profile builds`",
            ),
            (
                builds,
                || CredentialsError::provider_error("failed to load the cached SSO token"),
                "has no SSO session: run `aws sso login --profile builds`",
            ),
            (
                None,
                || CredentialsError::provider_error("failed to load IMDS session token"),
                "there are no AWS credentials in",
            ),
            (builds, || CredentialsError::invalid_configuration("a loop"), "gives no credentials"),
        ];
        for (profile, without, text) in cases {
            let provider = SharedCredentialsProvider::new(Without(without));
            let config = keys().into_builder().credentials_provider(provider).build();
            let mut backend = builder(scripted::HOST).with_sdk_config(config);
            if let Some(profile) = profile {
                backend = backend.with_profile(profile);
            }
            let backend = backend.build();
            let started = Instant::now();
            let path = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap();
            let error = backend.delete_repository(&path, &Default::default()).await.unwrap_err();
            assert!(matches!(error, Error::Unauthenticated { source: Some(_), .. }), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
            assert!(started.elapsed() < Duration::from_secs(10));
        }
    }
}
