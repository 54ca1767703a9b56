//! Tests the login of the client, and its replacement after the registry rejects it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::distribution::Authenticate;
use crate::error::Result;
use crate::testing::scripted::Request;

const EXPIRED: &str = "Your authorization token has expired. Reauthenticate and try again.";

/// Issues numbered passwords, and counts them.
#[derive(Debug)]
struct Issuing {
    host: String,
    issued: AtomicUsize,
}

#[async_trait]
impl Authenticate for Issuing {
    async fn renew(&self) -> Result<RegistryCredentials> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let mut credentials = credentials_for(&self.host);
        credentials.password = Password::new(format!("new-{number}"));
        Ok(credentials)
    }
}

fn issuing(registry: &Scripted) -> Arc<Issuing> {
    Arc::new(Issuing { host: registry.host().to_string(), issued: AtomicUsize::new(0) })
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("AWS:{password}")))
}

fn authorization(request: &Request) -> &str {
    request.header("authorization").unwrap_or_default()
}

fn bearer(realm: &str) -> String {
    format!(
        "WWW-Authenticate: Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:a:pull\""
    )
}

#[tokio::test]
async fn rejected_login_is_replaced_once() {
    let refusals = [
        refusal("401 Unauthorized", "UNAUTHORIZED", "no"),
        refusal("403 Forbidden", "DENIED", EXPIRED),
    ];
    for rejected in refusals {
        let registry = Scripted::new([
            rejected,
            answer("200 OK", &[], ""),
            answer("202 Accepted", &["Location: /u"], ""),
        ]);
        let issuing = issuing(&registry);
        let client = registry.client().with_authenticate(issuing.clone());
        client.fetch_manifest(&"v1".parse().unwrap()).await.unwrap();
        client.clone().start_upload().await.unwrap();
        assert_eq!(issuing.issued.load(Ordering::Relaxed), 1);
        let requests = registry.requests();
        let expected = [basic("hunter2"), basic("new-1"), basic("new-1")];
        assert_eq!([0, 1, 2].map(|at| authorization(&requests[at]).to_owned()), expected);
    }
}

#[tokio::test]
async fn head_request_with_403_renews_the_login() {
    let denied = answer("403 Forbidden", &[], "");
    let registry = Scripted::new([denied.clone(), answer("200 OK", &[], "")]);
    let client = registry.client().with_authenticate(issuing(&registry));
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert_eq!(authorization(&registry.requests()[1]), basic("new-1"));

    let registry = Scripted::new(vec![denied; 2]);
    let client = registry.client().with_authenticate(issuing(&registry));
    let error = client.blob_exists(&digest()).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn concurrent_rejected_requests_share_new_login() {
    let unauthorized = refusal("401 Unauthorized", "UNAUTHORIZED", "no");
    let answers = [vec![unauthorized; 4], vec![answer("200 OK", &[], ""); 4]].concat();
    let registry = Scripted::new(answers);
    let issuing = issuing(&registry);
    let client = registry.client().with_authenticate(issuing.clone());
    let digest = digest();
    let lookups = (0..4).map(|_| client.blob_exists(&digest));
    let found = futures_util::future::join_all(lookups).await;
    assert!(found.into_iter().all(|exists| exists.unwrap()));
    assert_eq!(issuing.issued.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn rejected_credentials_are_marked() {
    let registry = Scripted::new([refusal("401 Unauthorized", "UNAUTHORIZED", "no")]);
    let credentials = credentials_for(registry.host().as_str());
    let client = Client::new(registry.url(), credentials.clone()).unwrap();
    let error = client.blob_exists(&digest()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    assert!(credentials.is_refused());

    // A missing permission does not invalidate the login.
    let registry = Scripted::new([answer("403 Forbidden", &[], "")]);
    let credentials = credentials_for(registry.host().as_str());
    let client = Client::new(registry.url(), credentials.clone()).unwrap();
    client.start_upload().await.unwrap_err();
    assert!(!credentials.is_refused());
}

#[tokio::test]
async fn repeatedly_rejected_login_is_an_error() {
    let registry = Scripted::new(vec![refusal("401 Unauthorized", "UNAUTHORIZED", "no"); 3]);
    let issuing = issuing(&registry);
    let client = registry.patient_client().with_authenticate(issuing.clone());
    let error = client.start_upload().await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    assert!(chain(&error).ends_with("UNAUTHORIZED: no"), "{}", chain(&error));
    assert_eq!(registry.requests().len(), 3);
}

#[tokio::test]
async fn upload_with_rejected_login_can_be_retried() {
    let unauthorized = refusal("401 Unauthorized", "UNAUTHORIZED", "no");
    let registry = Scripted::new([
        answer("202 Accepted", &["Location: /u"], ""),
        unauthorized,
        answer("201 Created", &[], ""),
    ]);
    let client = registry.client().with_authenticate(issuing(&registry));
    let upload = client.start_upload().await.unwrap();
    let digest = digest();
    let send = || client.upload_blob(&upload, &digest, 7, pieces(&[b"content"]));
    let error = send().await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    send().await.unwrap();
    assert_eq!(authorization(&registry.requests()[2]), basic("new-1"));
}

#[tokio::test]
async fn token_is_fetched_after_a_challenge() {
    let service = Scripted::new([answer("200 OK", &[], r#"{"token":"t-1","expires_in":300}"#)]);
    let realm = format!("http://{}/token", service.host());
    let registry = Scripted::new([
        answer("401 Unauthorized", &[&bearer(&realm)], ""),
        answer("200 OK", &[], ""),
        answer("200 OK", &[], ""),
    ]);
    let client = registry.client();
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert!(client.blob_exists(&digest()).await.unwrap());
    let token_requests = service.requests();
    let line = "GET /token?service=test&scope=repository%3Aa%3Apull HTTP/1.1";
    let first = &token_requests[0];
    assert_eq!((first.line.as_str(), authorization(first)), (line, basic("hunter2").as_str()));
    let requests = registry.requests();
    let expected = [&basic("hunter2"), "Bearer t-1", "Bearer t-1"];
    assert_eq!([0, 1, 2].map(|at| authorization(&requests[at])), expected);
}

#[tokio::test]
async fn expired_token_is_replaced_before_use() {
    let service = Scripted::new([
        answer("200 OK", &[], r#"{"access_token":"t-1","expires_in":1}"#),
        answer("200 OK", &[], r#"{"access_token":"t-2"}"#),
    ]);
    let realm = format!("http://{}/token", service.host());
    let unauthorized = answer("401 Unauthorized", &[&bearer(&realm)], "");
    let registry = Scripted::new([unauthorized, answer("200 OK", &[], "")]);
    assert!(registry.client().blob_exists(&digest()).await.unwrap());
    assert_eq!(service.requests().len(), 2);
    assert_eq!(authorization(&registry.requests()[1]), "Bearer t-2");
}

#[tokio::test]
async fn anonymous_client_gets_a_token() {
    let service = Scripted::new([answer("200 OK", &[], r#"{"token":"t-1"}"#)]);
    let realm = format!("http://{}/token", service.host());
    let unauthorized = answer("401 Unauthorized", &[&bearer(&realm)], "");
    let registry = Scripted::new([unauthorized, answer("200 OK", &[], "")]);
    let client = Client::anonymous(registry.url(), registry.host()).unwrap();
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert_eq!(service.requests()[0].header("authorization"), None);
    let requests = registry.requests();
    assert_eq!(requests[0].header("authorization"), None);
    assert_eq!(authorization(&requests[1]), "Bearer t-1");
}

#[tokio::test]
async fn login_service_without_tls_gets_no_password() {
    let unauthorized = answer("401 Unauthorized", &[&bearer("http://auth.example/token")], "");
    let registry = Scripted::new([unauthorized]);
    let error = registry.client().blob_exists(&digest()).await.unwrap_err();
    assert!(error.to_string().ends_with("which is not an HTTPS URL"), "{error}");
}

#[tokio::test]
async fn error_names_the_login_service() {
    let service = Scripted::new([refusal("403 Forbidden", "DENIED", "who?")]);
    let realm = format!("http://{}/token", service.host());
    let registry = Scripted::new([answer("401 Unauthorized", &[&bearer(&realm)], "")]);
    let error = registry.client().blob_exists(&digest()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    assert!(error.to_string().ends_with("/token rejects the login"), "{error}");
    assert!(chain(&error).ends_with("DENIED: who?"), "{}", chain(&error));
}
