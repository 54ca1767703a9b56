use super::*;
use crate::RegistryBackendExt;
use crate::backend::TagMutability;
use crate::error::ResourceKind;
use crate::model::{Access, OrganizationId};

fn backend() -> (LocalBackend, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (LocalBackend::open(Some(folder.path())).unwrap(), folder)
}

fn path(backend: &LocalBackend, name: &str) -> RepositoryPath {
    backend.repository_path(OrganizationId::TBD, &name.parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_created_repository_is_described_listed_and_deleted() {
    let (backend, folder) = backend();
    assert_eq!(backend.to_string(), format!("local:{}", folder.path().display()));
    let path = path(&backend, "catalog/extract-video");
    let options = CreateOptions::default()
        .with_tag_mutability(TagMutability::Immutable)
        .with_resource_tag("team", "video");
    let created = backend.create_repository(&path, &options).await.unwrap();
    assert_eq!(created.url.to_string(), format!("127.0.0.1:5050/{path}"));
    assert_eq!(created.tag_mutability, TagMutability::Immutable);
    assert_eq!(created.resource_tags, Some(options.resource_tags));
    assert!(created.created_at.is_some());
    assert_eq!(backend.describe_repository(&path).await.unwrap(), created);
    let listed = backend.list_repositories(&OrganizationId::TBD.into());
    assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap(), [created]);
    assert!(backend.list_images(&path).try_collect::<Vec<_>>().await.unwrap().is_empty());
    backend.delete_repository(&path, &DeleteOptions::default()).await.unwrap();
    let mut images = backend.list_images(&path);
    let first = images.next().await.unwrap();
    assert!(matches!(first, Err(Error::NotFound { kind: ResourceKind::Repository, .. })));
    assert!(images.next().await.is_none(), "a stream ends after an error");
}

#[tokio::test]
async fn another_stage_is_refused_everywhere() {
    let (backend, _folder) = backend();
    let path: RepositoryPath = format!("dev/{}/a", OrganizationId::TBD).parse().unwrap();
    let reference = "latest".parse().unwrap();
    let scope = Scope::repository(path.clone(), Access::Pull);
    let organizations =
        Scope::organizations(path.stage().clone(), [OrganizationId::TBD], Access::Pull);
    for error in [
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap_err(),
        backend.describe_repository(&path).await.unwrap_err(),
        backend.delete_repository(&path, &DeleteOptions::default()).await.unwrap_err(),
        backend.list_images(&path).next().await.unwrap().unwrap_err(),
        backend.delete_image(&path, &reference).await.unwrap_err(),
        backend.credentials(&scope, &Default::default()).await.unwrap_err(),
        backend.credentials(&organizations, &Default::default()).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
    }
}

#[tokio::test]
async fn credentials_carry_the_scope_and_end_in_time() {
    let (backend, folder) = backend();
    let scope = Scope::repository(path(&backend, "yet/to/come"), Access::Push);
    let before = SystemTime::now();
    let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
    let lifetime = credentials.expires_at.duration_since(before).unwrap();
    assert!(lifetime >= TOKEN_LIFETIME && lifetime < TOKEN_LIFETIME + Duration::from_secs(60));
    assert_eq!((credentials.username.as_str(), &credentials.scope), ("AWS", &scope));
    let signer = Signer::open(folder.path()).unwrap();
    assert_eq!(signer.verify(credentials.password.expose()).unwrap(), scope);
    let short = backend.clone().with_token_lifetime(Duration::from_secs(60));
    let credentials = short.credentials(&scope, &Default::default()).await.unwrap();
    assert!(credentials.expires_at < before + Duration::from_secs(120));
    let none = Scope::organizations(Stage::default(), [], Access::Pull);
    let error = backend.credentials(&none, &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
    let forever = backend.with_token_lifetime(Duration::MAX);
    assert!(matches!(
        forever.credentials(&scope, &Default::default()).await,
        Err(Error::InvalidInput { .. })
    ));
}

#[tokio::test]
async fn a_listing_that_is_dropped_early_ends_its_walk() {
    let (backend, _folder) = backend();
    for index in 0..LISTED_AHEAD * 2 {
        let path = path(&backend, &format!("r{index:04}"));
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    }
    let all = backend.list_repositories(&Organizations::All).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(all.len(), LISTED_AHEAD * 2);
    let mut listed = backend.list_repositories(&Organizations::All);
    // It outlives the backend, and the runtime would wait for a walk that does not end.
    drop(backend);
    assert_eq!(listed.next().await.unwrap().unwrap(), all[0]);
}

#[tokio::test]
async fn a_damaged_repository_ends_the_listing_with_an_error() {
    let (backend, folder) = backend();
    for name in ["a", "b", "c"] {
        let path = path(&backend, name);
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    }
    let b = path(&backend, "b").to_string();
    std::fs::write(folder.path().join(b).join("_repository/repository.json"), "").unwrap();
    let listed = backend.list_repositories(&Organizations::All);
    let listed: Vec<_> = listed.map(|listed| listed.is_ok()).collect().await;
    assert_eq!(listed, [true, false]);
}

#[tokio::test]
async fn organizations_are_those_that_a_repository_was_created_for() {
    let (backend, folder) = backend();
    assert_eq!(backend.organizations().await.unwrap(), BTreeSet::new());
    backend.create_repository(&path(&backend, "a/b"), &CreateOptions::default()).await.unwrap();
    std::fs::create_dir(folder.path().join("prod/no-organization")).unwrap();
    let organizations = backend.organizations().await.unwrap();
    assert_eq!(organizations, BTreeSet::from([OrganizationId::TBD]));
}

#[tokio::test]
async fn urls_name_the_address_that_the_folder_is_served_at() {
    let (backend, _folder) = backend();
    let path = path(&backend, "a");
    backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    let announcement = address::announce(backend.store(), ([127, 0, 0, 1], 1234).into()).unwrap();
    let repository = backend.describe_repository(&path).await.unwrap();
    assert_eq!(repository.url.host().as_str(), "127.0.0.1:1234");
    drop(announcement);
    assert_eq!(backend.host().as_str(), "127.0.0.1:5050");
}
