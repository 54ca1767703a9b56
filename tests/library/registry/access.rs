//! Access to the local registry: logins, scopes, and the information in denials.

use std::time::{Duration, SystemTime};

use ark_container_core::RegistryBackend;
use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::model::{Access, Scope};
use reqwest::{Method, StatusCode};

use super::server::{
    OCI_MANIFEST, OURS, RegistryClient, Server, THEIRS, all_of, answer, path, sha256,
};

const DENIED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "DENIED");
const UNAUTHORIZED: (StatusCode, &str) = (StatusCode::UNAUTHORIZED, "UNAUTHORIZED");

#[tokio::test]
async fn base_url_answers_with_credentials() {
    let server = Server::start().await;
    let client = server.our_client().await;
    for base in ["/v2/", "/v2"] {
        let answer = client.get(base).await.expect(StatusCode::OK);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    }
    client.head("/v2/").await.expect(StatusCode::OK);
    client.post("/v2/").await.expect_error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
}

#[tokio::test]
async fn missing_password_gets_a_challenge() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    for url in ["/v2/", "/v2/_catalog", "/v2/x/tags/list", &format!("/v2/{app}/tags/list")] {
        let refused = answer(client.anonymous(Method::GET, url)).await;
        let refused = refused.expect_error(UNAUTHORIZED.0, UNAUTHORIZED.1);
        assert!(refused.header("www-authenticate").starts_with("Basic realm="));
        assert!(refused.message().contains(": log-in "));
    }
    let other_user =
        client.anonymous(Method::GET, "/v2/").basic_auth("root", Some(&client.password));
    answer(other_user).await.expect_error(UNAUTHORIZED.0, UNAUTHORIZED.1);
    let bearer = client.anonymous(Method::GET, "/v2/").bearer_auth(&client.password);
    answer(bearer).await.expect_error(UNAUTHORIZED.0, UNAUTHORIZED.1);
}

/// Waits until after the second in which a token expires. Until then it is accepted.
async fn wait_until_expired(expires_at: SystemTime) {
    while SystemTime::now() < expires_at + Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn expired_and_tampered_passwords_are_rejected() {
    let server = Server::start().await;
    let mut client = server.our_client().await;
    let expired = server.backend.clone().with_token_lifetime(Duration::ZERO);
    let expired = expired.credentials(&all_of(OURS), &Default::default()).await.unwrap();
    wait_until_expired(expired.expires_at).await;
    let good = std::mem::replace(&mut client.password, expired.password.expose().to_owned());
    let url = format!("/v2/{}/tags/list", path(OURS, "app"));
    let refused = client.get(&url).await.expect_error(UNAUTHORIZED.0, UNAUTHORIZED.1);
    let command = format!(": log-in {}", path(OURS, "app"));
    assert!(refused.message().contains("has expired"), "{}", refused.message());
    assert!(refused.message().ends_with(&command), "{}", refused.message());
    let mut tampered = good.into_bytes();
    let middle = tampered.len() / 2;
    tampered[middle] = if tampered[middle] == b'x' { b'y' } else { b'x' };
    for password in [String::from_utf8(tampered).unwrap(), String::new(), "x".repeat(10_000)] {
        client.password = password;
        let refused = client.get(&url).await.expect_error(UNAUTHORIZED.0, UNAUTHORIZED.1);
        assert!(!refused.message().contains("expired"));
    }
}

/// Returns every kind of request with the access level that it needs.
fn every_request(repository: &str) -> Vec<(Method, String, Access)> {
    requests_for(repository, &sha256(b"x"), &"0".repeat(32))
}

/// Returns the requests for an existing blob and upload of a repository.
fn requests_for(repository: &str, digest: &str, id: &str) -> Vec<(Method, String, Access)> {
    let url = |end: &str| format!("/v2/{repository}/{end}");
    vec![
        (Method::GET, url("tags/list"), Access::Pull),
        (Method::GET, url("manifests/v1"), Access::Pull),
        (Method::HEAD, url("manifests/v1"), Access::Pull),
        (Method::GET, url(&format!("blobs/{digest}")), Access::Pull),
        (Method::HEAD, url(&format!("blobs/{digest}")), Access::Pull),
        (Method::GET, url(&format!("referrers/{digest}")), Access::Pull),
        (Method::GET, url(&format!("blobs/uploads/{id}")), Access::Pull),
        (Method::POST, url("blobs/uploads/"), Access::Push),
        (Method::POST, url(&format!("blobs/uploads/?digest={digest}")), Access::Push),
        (Method::PATCH, url(&format!("blobs/uploads/{id}")), Access::Push),
        (Method::PUT, url(&format!("blobs/uploads/{id}?digest={digest}")), Access::Push),
        (Method::DELETE, url(&format!("blobs/uploads/{id}")), Access::Push),
        (Method::PUT, url("manifests/v1"), Access::Push),
        (Method::DELETE, url("manifests/v1"), Access::Delete),
        (Method::DELETE, url(&format!("blobs/{digest}")), Access::Delete),
    ]
}

#[tokio::test]
async fn foreign_repository_is_denied_like_a_missing_one() {
    let server = Server::start().await;
    let app = path(THEIRS, "app");
    let owner = server.client(&all_of(THEIRS)).await;
    owner.push_image(&app, "v1", b"x").await;
    let upload = owner.start_upload(&app).await;
    let upload = upload.rsplit_once('/').unwrap().1;
    let expired = server.backend.clone().with_token_lifetime(Duration::ZERO);
    let expired = expired.credentials(&all_of(THEIRS), &Default::default()).await.unwrap();
    wait_until_expired(expired.expires_at).await;
    let scopes = [
        all_of(OURS),
        Scope::repository(path(OURS, "app"), Access::Delete),
        Scope::repository(path(THEIRS, "other"), Access::Delete),
    ];
    let mut clients = Vec::new();
    for scope in &scopes {
        clients.push((server.client(scope).await, DENIED));
    }
    for password in [expired.password.expose(), &format!("{}A", owner.password), ""] {
        clients.push((RegistryClient::new(server.address, password), UNAUTHORIZED));
    }
    for (client, (status, code)) in clients {
        let existing = requests_for(&app.to_string(), &sha256(b"x"), upload);
        let missing = requests_for(&path(THEIRS, "abc").to_string(), &sha256(b"x"), upload);
        for ((method, existing, _), (_, missing, _)) in existing.into_iter().zip(missing) {
            let existing = answer(client.request(method.clone(), &existing).body("x")).await;
            let missing = answer(client.request(method.clone(), &missing).body("x")).await;
            assert_eq!((existing.status, missing.status), (status, status), "{method}");
            let text = String::from_utf8(existing.body).unwrap().replace("app", "abc");
            assert_eq!(text, String::from_utf8(missing.body).unwrap());
            let (mut one, mut other) = (existing.headers, missing.headers);
            one.remove("date");
            other.remove("date");
            assert_eq!(one, other);
            if method != Method::HEAD {
                assert!(text.contains(code));
            }
        }
    }
    // The repository still has everything.
    owner.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::OK);
    owner.get(&format!("/v2/{app}/blobs/uploads/{upload}")).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn request_needs_its_access_level() {
    let server = Server::start().await;
    let app = path(OURS, "app");
    for access in [Access::Pull, Access::Push, Access::Delete] {
        let client = server.client(&Scope::repository(app.clone(), access)).await;
        for (method, url, needed) in every_request(&app.to_string()) {
            let answered = answer(client.request(method.clone(), &url).body("x")).await;
            let denied = answered.status == StatusCode::FORBIDDEN;
            assert_eq!(denied, needed > access, "{method} {url} with {access}: {answered:?}");
        }
    }
}

#[tokio::test]
async fn missing_repository_error_has_the_create_command() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let missing = path(OURS, "test/repo");
    let command = format!("; create it first: create {missing}");
    for (method, url, _) in every_request(&missing.to_string()) {
        let request = client.request(method.clone(), &url).header("content-type", OCI_MANIFEST);
        let answered = answer(request.body("{\"schemaVersion\":2}")).await;
        assert_eq!(answered.status, StatusCode::NOT_FOUND, "{method} {url}: {answered:?}");
        if method != Method::HEAD {
            let answered = answered.expect_error(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
            assert!(answered.message().ends_with(&command), "{}", answered.message());
        }
    }
}

#[tokio::test]
async fn errors_have_no_command_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    let registry = Registry::bind(backend.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, serving) = (registry.local_addr(), registry.serve(std::future::pending()));
    let requests = async {
        let missing = path(OURS, "missing");
        let credentials = backend.credentials(&all_of(OURS), &Default::default()).await.unwrap();
        let client = RegistryClient::new(address, credentials.password.expose());
        let refused = client.get(&format!("/v2/{missing}/tags/list")).await;
        let refused = refused.expect_error(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
        assert_eq!(refused.message(), format!("repository {missing} does not exist"));
        let refused = answer(client.anonymous(Method::GET, "/v2/")).await;
        let refused = refused.expect_error(UNAUTHORIZED.0, UNAUTHORIZED.1);
        assert_eq!(refused.message(), "log in as the user AWS");
    };
    tokio::select! {
        served = serving => panic!("the registry ended: {served:?}"),
        () = requests => {}
    }
}

#[tokio::test]
async fn invalid_repository_name_is_rejected() {
    let server = Server::start().await;
    let client = server.our_client().await;
    for name in ["app".to_owned(), format!("prod/{OURS}/%2e%2e/app")] {
        let url = format!("/v2/{name}/tags/list");
        client.get(&url).await.expect_error(StatusCode::BAD_REQUEST, "NAME_INVALID");
    }
}

#[tokio::test]
async fn unknown_url_is_unsupported() {
    let server = Server::start().await;
    let client = server.our_client().await;
    for url in ["/", "/v2/_catalog", "/v1/search", "/v2/x", "/v3/"] {
        client.get(url).await.expect_error(StatusCode::NOT_FOUND, "UNSUPPORTED");
    }
    let app = path(OURS, "app");
    for (method, end, allowed) in [
        (Method::POST, "tags/list", "GET, HEAD"),
        (Method::PATCH, "manifests/v1", "GET, HEAD, PUT, DELETE"),
        (Method::PUT, "blobs/uploads/", "POST"),
        (Method::POST, "blobs/x", "GET, HEAD, DELETE"),
        (Method::POST, "blobs/uploads/x", "GET, PATCH, PUT, DELETE"),
    ] {
        let answered = answer(client.request(method, &format!("/v2/{app}/{end}"))).await;
        let answered = answered.expect_error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
        assert_eq!(answered.header("allow"), allowed);
    }
}

#[tokio::test]
async fn blob_of_another_organization_is_not_found() {
    let server = Server::start().await;
    let (ours, theirs) = (server.our_client().await, server.client(&all_of(THEIRS)).await);
    let digest = theirs.push_blob(&path(THEIRS, "app"), b"secret").await;
    let own = format!("/v2/{}/blobs/{digest}", path(OURS, "app"));
    ours.get(&own).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    let both = Scope::organizations(Default::default(), [OURS, THEIRS], Access::Push);
    let both = server.client(&both).await;
    both.get(&own).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
}
