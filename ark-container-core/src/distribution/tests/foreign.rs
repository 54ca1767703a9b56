//! Tests registries of any kind: logins, rate limits and repositories.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::credentials::ForeignCredentials;
use crate::model::ImageReference;

fn image(host: &str) -> ImageReference {
    format!("docker://{host}/team/app:v1").parse().unwrap()
}

fn client_of(registry: &Scripted, credentials: Option<ForeignCredentials>) -> Client {
    let image = image(registry.host().as_str());
    Client::foreign(&image, credentials, false).unwrap().with_retry(Retry::never())
}

fn password() -> ForeignCredentials {
    let password = Password::new("hunter2".to_owned());
    ForeignCredentials::Password { username: "alice".to_owned(), password }
}

fn identity_token() -> ForeignCredentials {
    ForeignCredentials::IdentityToken(Password::new("refresh-1".to_owned()))
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode("alice:hunter2"))
}

fn bearer(service: &Scripted) -> String {
    let scope = "repository:team/app:pull";
    format!(
        "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"test\",scope=\"{scope}\"",
        service.host()
    )
}

/// Returns the `Authorization` header of each request.
fn logins(registry: Scripted) -> Vec<Option<String>> {
    let requests = registry.requests();
    requests.iter().map(|request| request.header("authorization").map(str::to_owned)).collect()
}

#[tokio::test]
async fn password_is_sent_only_after_a_challenge() {
    let challenge = "WWW-Authenticate: Basic realm=\"x\"";
    let registry = Scripted::new([
        answer("401 Unauthorized", &[challenge], ""),
        answer("200 OK", &[], ""),
        answer("200 OK", &[], ""),
    ]);
    let client = client_of(&registry, Some(password()));
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert_eq!(logins(registry), [None, Some(basic()), Some(basic())]);
}

#[tokio::test]
async fn password_is_sent_only_to_the_login_service() {
    let service = Scripted::new([answer("200 OK", &[], r#"{"token":"t-01"}"#)]);
    let unauthorized = answer("401 Unauthorized", &[&bearer(&service)], "");
    let registry = Scripted::new([unauthorized, answer("200 OK", &[], "")]);
    assert!(client_of(&registry, Some(password())).blob_exists(&digest()).await.unwrap());
    assert_eq!(logins(service), [Some(basic())]);
    assert_eq!(logins(registry), [None, Some("Bearer t-01".to_owned())]);
}

#[tokio::test]
async fn anonymous_client_gets_a_token() {
    let service = Scripted::new([answer("200 OK", &[], r#"{"access_token":"t-01"}"#)]);
    let unauthorized = answer("401 Unauthorized", &[&bearer(&service)], "");
    let registry = Scripted::new([unauthorized, answer("200 OK", &[], "")]);
    assert!(client_of(&registry, None).blob_exists(&digest()).await.unwrap());
    assert_eq!(logins(service), [None]);
    assert_eq!(logins(registry), [None, Some("Bearer t-01".to_owned())]);
}

#[tokio::test]
async fn identity_token_is_exchanged_by_post() {
    let service = Scripted::new([answer("200 OK", &[], r#"{"access_token":"t-01"}"#)]);
    let unauthorized = answer("401 Unauthorized", &[&bearer(&service)], "");
    let registry = Scripted::new([unauthorized, answer("200 OK", &[], "")]);
    assert!(client_of(&registry, Some(identity_token())).blob_exists(&digest()).await.unwrap());
    let request = &service.requests()[0];
    assert_eq!(request.line, "POST /token HTTP/1.1");
    let form = "grant_type=refresh_token&client_id=ark-container&refresh_token=refresh-1\
                &service=test&scope=repository%3Ateam%2Fapp%3Apull";
    assert_eq!(String::from_utf8_lossy(&request.body), form);
    assert_eq!(logins(registry), [None, Some("Bearer t-01".to_owned())]);
}

#[tokio::test]
async fn rejected_login_differs_from_missing_login() {
    let rejected = |answers: usize, credentials| async move {
        let registry =
            Scripted::new(vec![refusal("401 Unauthorized", "UNAUTHORIZED", "no"); answers]);
        let error = client_of(&registry, credentials).start_upload().await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert_eq!(registry.requests().len(), answers);
        error.to_string()
    };
    assert!(rejected(2, Some(password())).await.ends_with(" rejects the credentials"));
    assert!(rejected(1, Some(identity_token())).await.ends_with(" rejects the credentials"));
    let anonymous = rejected(1, None).await;
    assert!(
        anonymous.ends_with("/team/app does not exist, or requires credentials"),
        "{anonymous}"
    );
}

#[tokio::test]
async fn rate_limit_error_names_distant_reset() {
    for header in ["RateLimit-Remaining: 0;w=21600", "Retry-After: 21600", "RateLimit-Reset: 21600"]
    {
        let limited = answer("429 Too Many Requests", &[header], "slow down");
        let registry = Scripted::new([limited]);
        let image = image(registry.host().as_str());
        let client = Client::foreign(&image, None, false).unwrap();
        let error = client.fetch_manifest(image.reference()).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
        let start = "the request for manifest v1 exceeds the rate limit of 127.0.0.1:";
        let text = error.to_string();
        assert!(text.starts_with(start) && text.contains(", which is reset in 6h, at 2"), "{text}");
        assert_eq!(registry.requests().len(), 1);

        let service = Scripted::new([answer("429 Too Many Requests", &[header], "")]);
        let unauthorized = answer("401 Unauthorized", &[&bearer(&service)], "");
        let registry = Scripted::new([unauthorized]);
        let error = client_of(&registry, None).blob_exists(&digest()).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
        assert!(error.to_string().contains("/token, which is reset in 6h, at 2"), "{error}");
    }
}

#[tokio::test]
async fn error_has_the_image_name_of_docker() {
    let registry = Scripted::new([answer("404 Not Found", &[], "")]);
    let client = client_of(&registry, None);
    let reference = "v1".parse().unwrap();
    let error = client.fetch_manifest(&reference).await.unwrap_err();
    let name = format!("{}/team/app:v1", registry.host());
    assert_eq!(error.to_string(), format!("image {name} does not exist"));
    assert_eq!(
        (client.image_name(&reference), client.name()),
        (name.clone(), name.replace(":v1", ""))
    );
    let error = client.repository().unwrap_err();
    assert!(error.to_string().ends_with(" is a repository of another registry"), "{error}");
}

#[test]
fn plain_http_requires_loopback_or_an_option() {
    for (name, plain_http, base) in [
        ("alpine", false, "https://registry-1.docker.io/v2/library/alpine/"),
        ("localhost:5000/a", false, "http://localhost:5000/v2/a/"),
        ("[::1]:5000/a", false, "http://[::1]:5000/v2/a/"),
        ("registry.example/a", false, "https://registry.example/v2/a/"),
        ("registry.example:5000/a", true, "http://registry.example:5000/v2/a/"),
    ] {
        let client = Client::foreign(&name.parse().unwrap(), None, plain_http).unwrap();
        assert_eq!(client.base().as_str(), base);
    }
}

#[tokio::test]
async fn registry_without_referrers_api_uses_the_tag() {
    let typed = "Content-Type: application/vnd.oci.image.index.v1+json";
    for status in ["404 Not Found", "400 Bad Request", "405 Method Not Allowed", "501 E"] {
        let index =
            format!(r#"{{"manifests":[{{"mediaType":"m","size":1,"digest":"{}"}}]}}"#, digest());
        let registry = Scripted::new([answer(status, &[], ""), answer("200 OK", &[typed], &index)]);
        let found = client_of(&registry, None).referrers(&digest(), None).await.unwrap();
        assert_eq!(found.len(), 1, "{status}");
    }
}

#[cfg(feature = "local")]
mod registry {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::credentials::CredentialFiles;
    use crate::model::{Access, OrganizationId};
    use crate::testing::{SampleImage, TestRegistry};

    #[tokio::test]
    async fn image_is_read_with_docker_login() {
        let registry = TestRegistry::start().unwrap();
        let catalog = registry.catalog().in_organization(OrganizationId::TBD);
        let repository = catalog.create("test/repo").await.unwrap();
        let ours = catalog.client("test/repo", Access::Push).await.unwrap();
        let (layer, sample) = (b"layer".repeat(1000), SampleImage::new("a"));
        let layer_digest = ours.upload_blob_bytes(layer.clone()).await.unwrap();
        for (_, blob) in sample.blobs() {
            ours.upload_blob_bytes(blob.to_vec()).await.unwrap();
        }
        ours.put_manifest(&"v1".parse().unwrap(), sample.root()).await.unwrap();

        let image: ImageReference = format!("docker://{}:v1", repository.url).parse().unwrap();
        let anonymous = Client::foreign(&image, None, false).unwrap();
        let error = anonymous.manifest(image.reference()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");

        let folder = tempfile::tempdir().unwrap();
        let login = catalog.credentials("test/repo", Access::Pull).await.unwrap();
        let file = login.write_docker_config(folder.path()).unwrap();
        let credentials = CredentialFiles::new([file]).find(&image).await.unwrap();
        let client = Client::foreign(&image, credentials, false).unwrap();
        let manifest = client.manifest(image.reference()).await.unwrap().unwrap();
        assert_eq!(manifest.digest, sample.digest());
        let fetched = client.fetch_manifest(image.reference()).await.unwrap();
        assert_eq!(fetched.bytes, sample.root().bytes);
        let rest = client.fetch_blob_from(&layer_digest, 7).await.unwrap();
        let rest_pieces: Vec<Bytes> = rest.pieces.try_collect().await.unwrap();
        assert_eq!((rest.from, rest_pieces.concat()), (7, layer[7..].to_vec()));
        let whole = client.fetch_blob_bytes(&layer_digest, layer.len()).await.unwrap();
        assert_eq!(whole, layer);
        assert!(client.referrers(&manifest.digest, None).await.unwrap().is_empty());
    }
}
