//! Layers that are pushed to AWS ECR in parts, each with its offset.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::model::{RegistryHost, RepositoryPath};
use ark_container_core::testing::{MockRegistryBackend, SampleImage, ready};
use ark_container_core::transfer::{Push, Pushed};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Sources;
use crate::aws::cloud::{Cloud, ours};

/// Pushes an archive to the fake of ECR with the host name of a registry at AWS, by which the library recognizes ECR.
async fn push(cloud: &Cloud, sources: &Sources) -> ark_container_core::Result<Pushed> {
    let answer = cloud.ecr(&cloud.admin).get_authorization_token().send().await.unwrap();
    let token = answer.authorization_data()[0].authorization_token().unwrap();
    let decoded = String::from_utf8(STANDARD.decode(token).unwrap()).unwrap();
    let password = decoded.strip_prefix("AWS:").unwrap().to_owned();
    let host: RegistryHost = cloud.aws.host().to_string().parse()?;
    let mut backend = MockRegistryBackend::new();
    backend.expect_credentials().once().returning(move |scope, _| {
        let expiry = SystemTime::now() + Duration::from_secs(60);
        let password = Password::new(password.clone());
        ready(Ok(RegistryCredentials::new(host.clone(), password, expiry, scope.clone())))
    });
    let path: RepositoryPath = ours().parse()?;
    let push = Push::new(Arc::new(backend), &path, sources.archive());
    push.with_endpoint(cloud.aws.registry_host()).with_tag("v1".parse()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn last_part_of_layer_is_sent_with_the_digest() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    // The fake fails an upload that is completed by an empty request.
    cloud.aws.fail_next_empty_put();
    let image = SampleImage::builder().with_random_layer(25 << 20).with_layer([("small", "")]);
    let pushed = push(&cloud, &Sources::new(image.build())).await.unwrap();
    assert_eq!(pushed.blobs_sent, 3);
    let client = cloud.log_in(&cloud.ecr(&cloud.admin)).await;
    let manifest = client.get(&format!("/v2/{}/manifests/v1", ours())).await;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).unwrap();
    assert!(manifest["layers"][0]["size"].as_u64().unwrap() > 25 << 20);
}
