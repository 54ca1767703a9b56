//! For tests: a backend whose AWS is a function from requests to answers.

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

/// What AWS was asked: the operation and its parameters.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) operation: String,
    pub(super) input: Value,
    /// The access key that signed the request.
    pub(super) key: String,
    pub(super) host: String,
}

/// What AWS answers.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self::raw(200, body.to_string())
    }

    /// As ECR words its errors.
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

    /// The answer of GetCallerIdentity for a user of an account.
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

/// A backend, and what it asked.
pub(super) struct Scripted {
    pub(super) backend: EcrBackend,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// A backend of [`ACCOUNT`] whose AWS answers by a function; who calls is answered by this itself.
    pub(super) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::built(|builder| builder, ACCOUNT, answer)
    }

    /// One that is built in its own way, for a caller of an account.
    pub(super) fn built(
        build: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
        caller: &'static str,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::at(HOST, build, caller, answer)
    }

    /// A backend for another host of the registry.
    pub(super) fn at(
        host: &str,
        build: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
        caller: &'static str,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answer = move |request: Asked| {
            seen.lock().unwrap().push(request.clone());
            match request.operation.as_str() {
                "GetCallerIdentity" => Answer::caller(caller),
                _ => answer(&request),
            }
        };
        let client = SharedHttpClient::new(Client(Arc::new(answer)));
        let builder = EcrBackend::builder(host.parse().unwrap(), Stage::default())
            .with_sdk_config(sdk_config())
            .with_http_client(client);
        Self { backend: build(builder).build(), asked }
    }

    /// What was asked, in order.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The operations that were asked for, in order.
    pub(super) fn operations(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.operation).collect()
    }
}

/// Keys of nobody, and retries that do not wait.
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
struct Client(Arc<dyn Fn(Asked) -> Answer + Send + Sync>);

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
        let asked = match request.headers().get("x-amz-target") {
            Some(target) => Asked {
                operation: target.rsplit('.').next().unwrap().to_owned(),
                input: serde_json::from_str(body).unwrap(),
                key,
                host,
            },
            None => Asked {
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
        let answer = (self.0)(asked);
        let status = answer.status.try_into().unwrap();
        let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
        for (name, value) in answer.headers {
            response.headers_mut().insert(name, value);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// A repository as ECR describes it.
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

/// AWS's answer with a login for `endpoint`, good until some seconds after the epoch.
pub(super) fn authorization(endpoint: &str, expires_at: u64, login: &str) -> Answer {
    let token = STANDARD.encode(login);
    let data = json!([{
        "authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": endpoint,
    }]);
    Answer::ok(json!({ "authorizationData": data }))
}

/// STS's answer with a session whose access key this is; it ends in the year 2100.
pub(super) fn session(key: &str) -> Answer {
    assumed("AssumeRole", key, "2100-01-01T00:00:00Z")
}

/// STS's answer to one of its operations that give a session, until `end`.
pub(super) fn assumed(operation: &str, key: &str, end: &str) -> Answer {
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials>\
         </{operation}Result></{operation}Response>"
    );
    Answer::raw(200, body)
}

/// As STS words its errors.
pub(super) fn sts_error(code: &str, message: &str) -> Answer {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
         <Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>7a1b</RequestId></ErrorResponse>"
    );
    Answer::raw(400, body)
}

/// A field of a form, as it is sent.
pub(super) fn field(asked: &Asked, name: &str) -> String {
    let body = asked.input.as_str().unwrap();
    let prefix = format!("{name}=");
    let value = body.split('&').find_map(|pair| pair.strip_prefix(&prefix)).unwrap();
    percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()
}

/// A principal who belongs to every organization.
pub(super) fn principal(name: &str) -> Arc<Principal> {
    Arc::new(Principal::new(name.parse().unwrap(), Organizations::All, Organizations::All))
}
