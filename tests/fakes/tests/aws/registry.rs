//! Tests of the fake's registry over HTTP: chunked uploads, and settings of the account.
//!
//! `local/registry/ecr_emulation.rs` of the core has the tests of ECR's own rules.

use ark_container_core::model::RepositoryPath;
use ark_container_fakes::aws::cloud::Cloud;
use ark_container_fakes::registry_client::{
    OCI_MANIFEST, OURS, RegistryClient, answer, descriptor, path, sample, sha256,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

const MIB: usize = 1024 * 1024;

/// Starts a fake with the repository `app`, and returns a client with access to all repositories.
async fn registry() -> (Cloud, RegistryClient) {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let client = cloud.log_in(&cloud.ecr(&cloud.admin)).await;
    (cloud, client)
}

fn app() -> RepositoryPath {
    path(OURS, "app")
}

#[tokio::test]
async fn reported_range_stays_at_the_first_part() {
    let (_cloud, client) = registry().await;
    let upload = client.start_upload(&app()).await;
    let blob = sample(12 * MIB);
    for (index, part) in blob[..10 * MIB].chunks(5 * MIB).enumerate() {
        let stored = client.chunk(&upload, index * 5 * MIB, part).await;
        let stored = stored.expect(StatusCode::CREATED);
        assert_eq!(stored.header("range"), format!("0-{}", 5 * MIB - 1));
    }
    client.get(&upload).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    let range = format!("{}-{}", 10 * MIB, 12 * MIB - 1);
    let digest = sha256(&blob);
    let last = client.request(Method::PUT, &format!("{upload}?digest={digest}"));
    let last = last.header("content-range", range).body(blob[10 * MIB..].to_vec());
    answer(last).await.expect(StatusCode::CREATED);
    let pulled = client.get(&format!("/v2/{}/blobs/{digest}", app())).await;
    assert!(pulled.expect(StatusCode::OK).body == blob);
}

#[tokio::test]
async fn empty_last_request_fails_once_on_demand() {
    let (cloud, client) = registry().await;
    cloud.aws.fail_next_empty_put();
    let upload = client.start_upload(&app()).await;
    client.patch(&upload, *b"hello").await.expect(StatusCode::CREATED);
    let end = format!("{upload}?digest={}", sha256(b"hello"));
    client.put(&end, []).await.expect(StatusCode::INTERNAL_SERVER_ERROR);
    client.put(&end, []).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn blob_mounting_is_an_account_setting() {
    let (cloud, client) = registry().await;
    let other = path(OURS, "other");
    let ecr = cloud.ecr(&cloud.admin);
    ecr.create_repository().repository_name(other.to_string()).send().await.unwrap();
    let digest = client.push_blob(&other, b"hello").await;
    let mount = format!("/v2/{}/blobs/uploads/?mount={digest}&from={other}", app());
    client.post(&mount).await.expect(StatusCode::ACCEPTED);
    cloud.aws.set_blob_mounting(true);
    client.post(&mount).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn manifest_with_subject_is_rejected_on_demand() {
    let (cloud, client) = registry().await;
    let subject = client.image(&app(), b"one").await;
    client.push_image(&app(), "v1", b"one").await;
    let mut referrer = client.image(&app(), b"signature").await;
    let subject = subject.to_string();
    referrer["subject"] = descriptor(OCI_MANIFEST, subject.as_bytes());
    referrer["artifactType"] = json!("application/example");
    let app = app();
    let put = || client.put_manifest(&app, "referrer", OCI_MANIFEST, &referrer);
    cloud.aws.set_refuses_subjects(true);
    put().await.expect_error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
    cloud.aws.set_refuses_subjects(false);
    put().await.expect(StatusCode::CREATED);
    let list = format!("/v2/{app}/referrers/{}", sha256(subject.as_bytes()));
    let listed = client.get(&list).await.expect(StatusCode::OK).json();
    assert_eq!(listed["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn expired_and_foreign_passwords_are_rejected() {
    let (cloud, mut client) = registry().await;
    let base = "/v2/";
    client.get(base).await.expect(StatusCode::OK);
    cloud.aws.set_clock_ahead(13 * 60 * 60);
    let expired = client.get(base).await.expect_error(StatusCode::FORBIDDEN, "DENIED");
    let message = "Your authorization token has expired. Reauthenticate and try again.";
    assert_eq!(expired.message(), message);
    client.password.push('x');
    let wrong = client.get(base).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.body, b"Not Authorized\n");
    let anonymous = answer(client.anonymous(Method::GET, base)).await;
    assert!(anonymous.header("www-authenticate").starts_with("Basic "));
}

#[tokio::test]
async fn missing_repository_is_not_found_in_its_account() {
    let (cloud, client) = registry().await;
    let missing = path(OURS, "missing");
    let refused = client.post(&format!("/v2/{missing}/blobs/uploads/")).await;
    let refused = refused.expect_error(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
    assert_eq!(
        refused.message(),
        format!(
            "The repository with name '{missing}' does not exist in the registry with id '{}'",
            cloud.aws.host().account()
        )
    );
    let image = client.get(&format!("/v2/{}/manifests/v1", app())).await;
    image.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
}
