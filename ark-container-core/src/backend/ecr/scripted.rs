//! [`Scripted`]: a backend for tests, whose AWS is a function from requests to responses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{EcrBackend, EcrBackendBuilder};
use crate::identity::Principal;
use crate::model::{Organizations, Stage};

pub(super) const ACCOUNT: &str = "095412845506";
pub(super) const HOST: &str = "095412845506.dkr.ecr.us-east-1.amazonaws.com";

/// A request to AWS: the operation and its parameters.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) operation: String,
    pub(super) input: Value,
    /// The access key that signed the request.
    pub(super) key: String,
    pub(super) host: String,
}

/// A response of AWS.
#[derive(Debug, Clone)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    pub(super) fn ok(body: Value) -> Self {
        Self::raw(200, body.to_string())
    }

    /// Creates an error response in the format of ECR.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::raw(status, json!({"__type": code, "message": message}).to_string())
    }

    pub(super) fn raw(status: u16, body: String) -> Self {
        let headers = vec![
            ("x-amzn-requestid", "7a1b".to_owned()),
            ("date", "Mon, 02 Nov 2026 10:00:00 GMT".to_owned()),
        ];
        Self { status, headers, body }
    }

    /// Creates the response of GetCallerIdentity for a user of an account.
    pub(super) fn caller(account: &str) -> Self {
        let body = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><Arn>arn:aws:iam::{account}:user/alice</Arn>\
             <UserId>U</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             </GetCallerIdentityResponse>"
        );
        Self::raw(200, body)
    }
}

/// A backend and its requests.
pub(super) struct Scripted {
    pub(super) backend: EcrBackend,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Creates a backend of [`ACCOUNT`] whose AWS responds by a function, except to GetCallerIdentity.
    pub(super) fn new(respond: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::built(|builder| builder, ACCOUNT, respond)
    }

    /// Creates a backend with other options, for a caller of an account.
    pub(super) fn built(
        build: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
        caller: &'static str,
        respond: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::at(HOST, build, caller, respond)
    }

    /// Creates a backend for another host of the registry.
    pub(super) fn at(
        host: &str,
        build: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
        caller: &'static str,
        respond: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let respond = move |request: Request| {
            log.lock().unwrap().push(request.clone());
            match request.operation.as_str() {
                "GetCallerIdentity" => Response::caller(caller),
                _ => respond(&request),
            }
        };
        let client = SharedHttpClient::new(Client(Arc::new(respond)));
        let builder = EcrBackend::builder(host.parse().unwrap(), Stage::default())
            .with_sdk_config(sdk_config())
            .with_http_client(client);
        Self { backend: build(builder).build(), requests }
    }

    /// Returns the requests, in order.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the operations of the requests, in order.
    pub(super) fn operations(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.operation).collect()
    }
}

/// A configuration with fake keys and with retries without delay.
pub(super) fn sdk_config() -> SdkConfig {
    let keys = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let retries =
        RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)).with_max_attempts(3);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .retry_config(retries)
        .sleep_impl(aws_sdk_ecr::config::SharedAsyncSleep::new(Sleep))
        .build()
}

#[derive(Debug)]
struct Sleep;

impl aws_sdk_ecr::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_ecr::config::Sleep {
        aws_sdk_ecr::config::Sleep::new(tokio::time::sleep(duration))
    }
}

#[derive(Clone)]
struct Client(Arc<dyn Fn(Request) -> Response + Send + Sync>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Client {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
        let authorization = request.headers().get("authorization").unwrap_or_default();
        let key = authorization.split(['=', '/']).nth(1).unwrap_or_default().to_owned();
        let host = request.uri().split('/').nth(2).unwrap().to_owned();
        let received = match request.headers().get("x-amz-target") {
            Some(target) => Request {
                operation: target.rsplit('.').next().unwrap().to_owned(),
                input: serde_json::from_str(body).unwrap(),
                key,
                host,
            },
            None => Request {
                operation: body
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("Action="))
                    .unwrap()
                    .to_owned(),
                input: Value::String(body.to_owned()),
                key,
                host,
            },
        };
        let Response { status, headers, body } = (self.0)(received);
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        for (name, value) in headers {
            response.headers_mut().insert(name, value);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// Returns a repository in the format of ECR.
pub(super) fn described(name: &str) -> Value {
    json!({
        "repositoryArn": format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}"),
        "registryId": ACCOUNT,
        "repositoryName": name,
        "repositoryUri": format!("{HOST}/{name}"),
        "createdAt": 1_790_000_000.5,
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": false},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    })
}

/// Returns the response with a login for `endpoint`, which expires some seconds after the epoch.
pub(super) fn authorization(endpoint: &str, expires_at: u64, login: &str) -> Response {
    let token = STANDARD.encode(login);
    let data = json!([{
        "authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": endpoint,
    }]);
    Response::ok(json!({ "authorizationData": data }))
}

/// Returns STS's response with a session with this access key, which expires in the year 2100.
pub(super) fn session(key: &str) -> Response {
    assumed("AssumeRole", key, "2100-01-01T00:00:00Z")
}

/// Returns STS's response with a session until `end` to one of the operations that assume a role.
pub(super) fn assumed(operation: &str, key: &str, end: &str) -> Response {
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials>\
         </{operation}Result></{operation}Response>"
    );
    Response::raw(200, body)
}

/// Returns an error response in the format of STS.
pub(super) fn sts_error(code: &str, message: &str) -> Response {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
         <Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>7a1b</RequestId></ErrorResponse>"
    );
    Response::raw(400, body)
}

/// Returns a field of the form of a request.
pub(super) fn field(request: &Request, name: &str) -> String {
    let body = request.input.as_str().unwrap();
    let prefix = format!("{name}=");
    let value = body.split('&').find_map(|pair| pair.strip_prefix(&prefix)).unwrap();
    percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()
}

/// Returns a principal of every organization.
pub(super) fn principal(name: &str) -> Arc<Principal> {
    Arc::new(Principal::new(name.parse().unwrap(), Organizations::All, Organizations::All))
}
