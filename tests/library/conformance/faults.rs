//! Checks that the conformance suite detects faults: each backend here has one.

use std::time::{Duration, SystemTime};

use ark_container_core::backend::Repository;
use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::model::{Access, Reference, RepositoryPath, RepositoryUrl, Scope, Stage};
use ark_container_core::testing::conformance::{self, Conformance, PutImage};
use ark_container_core::testing::{MockRegistryBackend, SampleImage, ready};
use ark_container_core::{BoxError, Error};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::ORGANIZATIONS;

/// Accepts every image and stores none.
struct Discard;

#[async_trait]
impl PutImage for Discard {
    async fn put(
        &self,
        _: &RepositoryPath,
        _: &Reference,
        _: &SampleImage,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

fn url(path: &RepositoryPath) -> RepositoryUrl {
    RepositoryUrl::new("localhost:1".parse().unwrap(), path.clone())
}

/// Returns a backend whose creations and deletions always succeed.
fn successful() -> MockRegistryBackend {
    let mut backend = MockRegistryBackend::new();
    backend.expect_host().returning(|| "localhost:1".parse().unwrap());
    backend.expect_stage().returning(Stage::default);
    backend.expect_create_repository().returning(|path, _| ready(Ok(Repository::new(url(path)))));
    backend.expect_delete_repository().returning(|_, _| ready(Ok(())));
    backend
}

async fn run(case: &str, backend: MockRegistryBackend) {
    let case = conformance::cases().find(|known| known.name() == case).unwrap();
    case.run(&Conformance::new(&backend, ORGANIZATIONS).with_images(&Discard)).await;
}

#[tokio::test]
#[should_panic(expected = "list_repositories: each repository is listed exactly once")]
async fn listing_without_repositories_is_detected() {
    let mut backend = successful();
    backend.expect_list_repositories().returning(|_| stream::empty().boxed());
    run("repository_is_listed_exactly_once", backend).await;
}

#[tokio::test]
#[should_panic(expected = "describe_repository: NotFound if it does not exist: expected \
                           Error::NotFound { kind: ResourceKind::Repository, .. }, got Ok(())")]
async fn description_of_missing_repository_is_detected() {
    let mut backend = successful();
    backend.expect_describe_repository().returning(|path| ready(Ok(Repository::new(url(path)))));
    run("missing_repository_is_not_found", backend).await;
}

#[tokio::test]
#[should_panic(expected = "list_images: the only item is NotFound")]
async fn images_of_missing_repository_are_detected() {
    let mut backend = successful();
    backend.expect_list_images().returning(|_| stream::empty().boxed());
    run("listing_missing_repository_is_not_found", backend).await;
}

#[tokio::test]
#[should_panic(expected = "additional resource tags are not a conflict")]
async fn unexpected_conflict_is_detected() {
    let mut backend = successful();
    backend.checkpoint();
    backend.expect_stage().returning(Stage::default);
    backend.expect_create_repository().returning(|path, options| {
        ready(match options.resource_tags.len() {
            2 => Ok(Repository::new(url(path))),
            _ => Err(Error::invalid("too few")),
        })
    });
    run("missing_resource_tag_is_a_conflict", backend).await;
}

#[tokio::test]
#[should_panic(expected = "credentials: their scope covers the requested one")]
async fn too_narrow_credentials_are_detected() {
    let mut backend = successful();
    backend.expect_credentials().returning(|_, _| {
        let nothing = Scope::organizations(Stage::default(), [], Access::Pull);
        let later = SystemTime::now() + Duration::from_secs(60);
        let password = Password::new("password".to_owned());
        let host = "localhost:1".parse().unwrap();
        ready(Ok(RegistryCredentials::new(host, password, later, nothing)))
    });
    run("credentials_cover_missing_repository", backend).await;
}
