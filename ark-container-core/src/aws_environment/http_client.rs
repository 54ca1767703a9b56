//! The HTTP client of the SDK, with the proxies and root certificates of the environment.

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
pub(crate) fn http_client(ca_bundle: Option<Vec<u8>>) -> SharedHttpClient {
    let secure_proxy = |name: &&str| std::env::var(name).is_ok_and(|url| url.starts_with("https:"));
    // A TLS connection to a proxy needs the root certificates too.
    let plain = if PLAIN_PROXIES.iter().any(secure_proxy) { Wires::Secure } else { Wires::Plain };
    let ca_bundle: Option<Arc<[u8]>> = ca_bundle.map(Into::into);
    SharedHttpClient::new(LazyClient {
        direct: client(Wires::Direct, None),
        plain: client(plain, ca_bundle.clone()),
        secure: client(Wires::Secure, ca_bundle),
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
fn client(wires: Wires, ca_bundle: Option<Arc<[u8]>>) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = ConnectorBuilder::default();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        match wires {
            Wires::Direct => builder.build_http(),
            Wires::Plain => builder.proxy_config(ProxyConfig::from_env()).build_http(),
            Wires::Secure => {
                let mut builder = builder
                    .proxy_config(ProxyConfig::from_env())
                    .tls_provider(Provider::rustls(CryptoMode::AwsLc));
                // Building a context without names of servers cannot fail.
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
