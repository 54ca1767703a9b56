//! Permissions: the rules, the calls that reach the inner backend, and the reports.

mod audit;
mod decisions;
mod memberships;
mod model;

use std::time::SystemTime;

use ark_container_core::backend::{CreateOptions, DeleteOptions, Repository};
use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::identity::Principal;
use ark_container_core::model::{
    Access, OrganizationId, Organizations, Reference, RepositoryPath, RepositoryUrl, Scope,
};
use ark_container_core::permission::{Action, Permissioned, StandardPolicy};
use ark_container_core::testing::{MockRegistryBackend, ready};
use ark_container_core::{RegistryBackend, Result};
use futures_util::{StreamExt, TryStreamExt, stream};

const TBD: OrganizationId = OrganizationId::TBD;
const OTHER: OrganizationId = OrganizationId::from_u128(0x0123);
const GLOBAL: OrganizationId = OrganizationId::GLOBAL;

/// Returns a member of [`TBD`].
fn alice() -> Principal {
    Principal::new("user:alice".parse().unwrap(), TBD.into(), Organizations::none())
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn guarded(inner: MockRegistryBackend, principal: Principal) -> Permissioned<MockRegistryBackend> {
    Permissioned::new(inner, StandardPolicy, principal)
}

fn path(organization: OrganizationId) -> RepositoryPath {
    format!("prod/{organization}/catalog/extract-video").parse().unwrap()
}

fn repository(organization: OrganizationId) -> Repository {
    Repository::new(RepositoryUrl::new("localhost:1".parse().unwrap(), path(organization)))
}

/// Calls the backend for `action` on a repository of `organization`.
async fn attempt(
    backend: &dyn RegistryBackend,
    action: Action,
    organization: OrganizationId,
) -> Result<()> {
    let path = path(organization);
    let latest = Reference::Tag("latest".parse().unwrap());
    let credentials = async |access| {
        backend.credentials(&Scope::repository(path.clone(), access), &Default::default()).await
    };
    match action {
        Action::ListRepositories => {
            let asked = Organizations::from(organization);
            backend.list_repositories(&asked).try_collect::<Vec<_>>().await.map(drop)
        }
        Action::CreateRepository => {
            backend.create_repository(&path, &CreateOptions::default()).await.map(drop)
        }
        Action::DescribeRepository => backend.describe_repository(&path).await.map(drop),
        Action::DeleteRepository => {
            backend.delete_repository(&path, &DeleteOptions::default().with_force(true)).await
        }
        Action::ListImages => backend.list_images(&path).try_collect::<Vec<_>>().await.map(drop),
        Action::DeleteImage => backend.delete_image(&path, &latest).await.map(drop),
        Action::Pull => credentials(Access::Pull).await.map(drop),
        Action::Push => credentials(Access::Push).await.map(drop),
        _ => panic!("{action} has no row in this test"),
    }
}

/// Returns a backend that expects exactly one call, of the method for `action`.
fn expecting_one(action: Action, organization: OrganizationId) -> MockRegistryBackend {
    let mut inner = MockRegistryBackend::new();
    let found = repository(organization);
    match action {
        Action::ListRepositories => {
            let listed = move |_: &Organizations| stream::iter([Ok(found.clone())]).boxed();
            inner.expect_list_repositories().once().returning(listed);
        }
        Action::CreateRepository => {
            inner.expect_create_repository().once().returning(move |_, _| ready(Ok(found.clone())));
        }
        Action::DescribeRepository => {
            inner.expect_describe_repository().once().returning(move |_| ready(Ok(found.clone())));
        }
        Action::DeleteRepository => {
            inner.expect_delete_repository().once().returning(|_, _| ready(Ok(())));
        }
        Action::ListImages => {
            inner.expect_list_images().once().returning(|_| stream::empty().boxed());
        }
        Action::DeleteImage => {
            inner.expect_delete_image().once().returning(|_, _| ready(Ok(None)));
        }
        _ => {
            inner.expect_credentials().once().returning(|scope, _| {
                let password = Password::new("hunter2".to_owned());
                let host = "localhost:1".parse().unwrap();
                let expires_at = SystemTime::UNIX_EPOCH;
                ready(Ok(RegistryCredentials::new(host, password, expires_at, scope.clone())))
            });
        }
    }
    inner
}
