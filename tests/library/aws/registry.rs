//! The registry of the fake of AWS over HTTP: it speaks as ECR does.

use ark_container_core::model::RepositoryPath;
use aws_sdk_ecr::types::ImageTagMutability;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::cloud::Cloud;
use crate::registry::server::{
    Client, OCI_MANIFEST, OURS, answer, descriptor, path, sample, sha256,
};

const MIB: usize = 1024 * 1024;

/// A fake with the repository `app`, and a client whose password opens everything.
async fn registry() -> (Cloud, Client) {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let client = cloud.log_in(&cloud.ecr(&cloud.admin)).await;
    (cloud, client)
}

fn app() -> RepositoryPath {
    path(OURS, "app")
}

#[tokio::test]
async fn parts_are_stored_though_what_it_tells_sticks_at_the_first() {
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
async fn a_part_at_the_wrong_place_is_refused_and_the_upload_goes_on() {
    let (_cloud, client) = registry().await;
    let upload = client.start_upload(&app()).await;
    let blob = sample(6 * MIB);
    client.chunk(&upload, 0, &blob[..5 * MIB]).await.expect(StatusCode::CREATED);
    let again = client.chunk(&upload, 0, &blob[..5 * MIB]).await;
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let again = again.expect_error(status, "BLOB_UPLOAD_INVALID");
    let message = format!("First byte of the layer part is 0 instead of {}", 5 * MIB);
    assert_eq!(again.message(), message);
    client.chunk(&upload, 5 * MIB, &blob[5 * MIB..]).await.expect(StatusCode::CREATED);
    let end = client.put(&format!("{upload}?digest={}", sha256(&blob)), []).await;
    end.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_small_part_before_the_last_fails_the_upload() {
    let (_cloud, client) = registry().await;
    let upload = client.start_upload(&app()).await;
    for (start, byte) in [(0, b'a'), (1, b'b')] {
        client.chunk(&upload, start, &[byte]).await.expect(StatusCode::CREATED);
    }
    let end = client.put(&format!("{upload}?digest={}", sha256(b"ab")), []).await;
    end.expect_error(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
}

#[tokio::test]
async fn an_upload_that_ends_without_a_byte_fails_once_on_demand() {
    let (cloud, client) = registry().await;
    cloud.aws.fail_next_empty_put();
    let upload = client.start_upload(&app()).await;
    client.patch(&upload, *b"hello").await.expect(StatusCode::CREATED);
    let end = format!("{upload}?digest={}", sha256(b"hello"));
    client.put(&end, []).await.expect(StatusCode::INTERNAL_SERVER_ERROR);
    client.put(&end, []).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn blobs_are_mounted_where_the_account_says_so() {
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
async fn a_tag_that_is_immutable_is_told_in_ecrs_words() {
    let (cloud, client) = registry().await;
    let path = path(OURS, "fixed");
    let create = cloud.ecr(&cloud.admin).create_repository().repository_name(path.to_string());
    create.image_tag_mutability(ImageTagMutability::Immutable).send().await.unwrap();
    client.push_image(&path, "v1", b"one").await;
    // The same image again is no change.
    client.push_image(&path, "v1", b"one").await;
    let other = client.image(&path, b"two").await;
    let refused = client.put_manifest(&path, "v1", OCI_MANIFEST, &other).await;
    let refused = refused.expect_error(StatusCode::BAD_REQUEST, "TAG_INVALID");
    assert_eq!(
        refused.message(),
        format!(
            "The image tag 'v1' already exists in the '{path}' repository and cannot be \
             overwritten because the repository is immutable."
        )
    );
}

#[tokio::test]
async fn what_is_missing_is_told_in_ecrs_words() {
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

#[tokio::test]
async fn blobs_and_uploads_are_not_deleted_over_http() {
    let (_cloud, client) = registry().await;
    let digest = client.push_blob(&app(), b"hello").await;
    let upload = client.start_upload(&app()).await;
    for url in [format!("/v2/{}/blobs/{digest}", app()), upload] {
        let refused = client.delete(&url).await;
        refused.expect_error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn referrers_are_kept_unless_their_subject_is_refused() {
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
async fn expired_and_foreign_passwords_are_refused() {
    let (cloud, mut client) = registry().await;
    let base = "/v2/";
    client.get(base).await.expect(StatusCode::OK);
    cloud.aws.set_clock_ahead(13 * 60 * 60);
    let expired = client.get(base).await.expect_error(StatusCode::FORBIDDEN, "DENIED");
    let told = "Your authorization token has expired. Reauthenticate and try again.";
    assert_eq!(expired.message(), told);
    client.password.push('x');
    let wrong = client.get(base).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.body, b"Not Authorized\n");
    let anonymous = answer(client.anonymous(Method::GET, base)).await;
    assert!(anonymous.header("www-authenticate").starts_with("Basic "));
}
