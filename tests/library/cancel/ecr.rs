//! On ECR, as the fake of AWS has it.

use std::path::Path;
use std::sync::Arc;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::model::{Access, OrganizationId, Scope, Stage};

use super::local::assert_no_temporary_login;
use super::place::Place;
use super::{polls, within};
use crate::aws::cloud::Cloud;

fn backend(cloud: &Cloud, folder: &Path) -> EcrBackend {
    EcrBackend::builder(cloud.aws.host().clone(), Stage::default())
        .sdk_config(cloud.config(cloud.admin.access_key(), None))
        .cache_directory(folder.join("cache"))
        .build()
}

#[tokio::test]
async fn at_ecr_a_push_is_dropped_anywhere() {
    let (cloud, folder) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&cloud, folder.path());
    let place = Place::new(Arc::new(backend), cloud.aws.registry_host(), folder.path());
    let cut = place.cut_pushes().await;
    assert!(cut > 10, "{cut}");
}

#[tokio::test]
async fn at_ecr_a_copy_is_dropped_anywhere() {
    let (cloud, folder) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&cloud, folder.path());
    let place = Place::new(Arc::new(backend), cloud.aws.registry_host(), folder.path());
    let cut = place.cut_copies().await;
    assert!(cut > 10, "{cut}");
}

#[tokio::test]
async fn at_ecr_a_pull_is_dropped_anywhere() {
    let (cloud, folder) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&cloud, folder.path());
    let place = Place::new(Arc::new(backend), cloud.aws.registry_host(), folder.path());
    let cut = place.cut_pulls().await;
    assert!(cut > 10, "{cut}");
}

#[tokio::test]
async fn at_ecr_a_creation_is_dropped_anywhere() {
    let (cloud, folder) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&cloud, folder.path());
    let place = Place::new(Arc::new(backend), cloud.aws.registry_host(), folder.path());
    let cut = place.cut_creations().await;
    assert!(cut > 1, "{cut}");
}

#[tokio::test]
async fn at_ecr_a_login_with_a_cache_is_dropped_anywhere() {
    let cloud = Cloud::start().await;
    let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
    let mut cut = 0;
    for polls in polls() {
        let folder = tempfile::tempdir().unwrap();
        let first = backend(&cloud, folder.path());
        let ended = within(polls, first.credentials(&scope, &Default::default())).await;
        for again in [first, backend(&cloud, folder.path())] {
            again.credentials(&scope, &Default::default()).await.unwrap();
        }
        assert_no_temporary_login(&folder.path().join("cache"));
        if ended.is_some() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 3, "{cut}");
}
