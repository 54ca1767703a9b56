//! [`http_client`]: the HTTP client of the SDK, with the proxies and root certificates of the environment.

use std::sync::Arc;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// The URL prefixes of the link-local metadata services.
///
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
const LINK_LOCAL_PREFIXES: [&str; 2] = ["http://169.254.", "http://[fd00:ec2::"];

/// The environment variables that name a proxy for plain HTTP.
const HTTP_PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Returns the HTTP client for all requests of the SDK.
///
/// The SDK's own HTTP client reads the system's root certificates before the first request, even if all requests are
/// plain HTTP. Reading them takes a quarter of the time of a short command. The SDK's client also sends requests for
/// the metadata service of the machine to a proxy.
pub(crate) fn http_client(ca_bundle: Option<Vec<u8>>) -> SharedHttpClient {
    let secure_proxy = |name: &&str| std::env::var(name).is_ok_and(|url| url.starts_with("https:"));
    let has_secure_proxy = HTTP_PROXY_VARIABLES.iter().any(secure_proxy);
    // A TLS connection to a proxy needs the root certificates too.
    let plain = if has_secure_proxy { Transport::Secure } else { Transport::Plain };
    let ca_bundle: Option<Arc<[u8]>> = ca_bundle.map(Into::into);
    SharedHttpClient::new(LazyClient {
        direct: client(Transport::Direct, None),
        plain: client(plain, ca_bundle.clone()),
        secure: client(Transport::Secure, ca_bundle),
    })
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    /// Plain HTTP without a proxy.
    Direct,
    /// Plain HTTP.
    Plain,
    /// HTTP and HTTPS.
    Secure,
}

/// Returns a client that reads root certificates and proxy settings at its first connection.
fn client(transport: Transport, ca_bundle: Option<Arc<[u8]>>) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = ConnectorBuilder::default();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        match transport {
            Transport::Direct => builder.build_http(),
            Transport::Plain => builder.proxy_config(ProxyConfig::from_env()).build_http(),
            Transport::Secure => {
                let mut builder = builder
                    .proxy_config(ProxyConfig::from_env())
                    .tls_provider(Provider::rustls(CryptoMode::AwsLc));
                // A context without server names always builds.
                let context = ca_bundle.as_deref().and_then(|pem| {
                    let trusted = TrustStore::empty().with_pem_certificate(pem);
                    TlsContext::builder().with_trust_store(trusted).build().ok()
                });
                if let Some(context) = context {
                    builder.set_tls_context(context);
                }
                builder.build()
            }
        }
    })
}

/// An HTTP client that selects the client of each request by its URL.
///
/// The type does not forward `validate_base_client_config`, because in that call the SDK's clients would read the root
/// certificates.
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
        let client = if LINK_LOCAL_PREFIXES.iter().any(|prefix| url.starts_with(prefix)) {
            &self.client.direct
        } else if url.starts_with("http://") {
            &self.client.plain
        } else {
            &self.client.secure
        };
        client.http_connector(&self.settings, &self.components).call(request)
    }
}
