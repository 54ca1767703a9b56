//! On the local backend.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::credentials::cache::{CacheKey, CredentialsCache};
use ark_container_core::model::{Access, OrganizationId, Scope, Stage};
use ark_container_core::testing::TestRegistry;
use ark_container_core::{RegistryBackend, Result};
use tokio::time::sleep;

use super::place::Place;
use super::{polls, within};

/// What was cut may still be written to the disk.
async fn assert_nothing_temporary(backend: &LocalBackend) {
    for folder in ["_tmp", "_trash"] {
        let folder = backend.directory().join(folder);
        let count = || fs::read_dir(&folder).map_or(0, Iterator::count);
        let mut patience = 0..200;
        while count() > 0 {
            assert!(patience.next().is_some(), "{} files in {}", count(), folder.display());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_push_is_dropped_anywhere() {
    let registry = TestRegistry::start().unwrap();
    let (backend, folder) = (registry.backend(), tempfile::tempdir().unwrap());
    let cut =
        Place::new(Arc::new(registry.backend()), registry.host(), folder.path()).cut_pushes().await;
    assert!(cut > 10, "{cut}");
    assert_nothing_temporary(&backend).await;
}

#[tokio::test]
async fn a_pull_is_dropped_anywhere() {
    let registry = TestRegistry::start().unwrap();
    let (backend, folder) = (registry.backend(), tempfile::tempdir().unwrap());
    let cut =
        Place::new(Arc::new(registry.backend()), registry.host(), folder.path()).cut_pulls().await;
    assert!(cut > 10, "{cut}");
    assert_nothing_temporary(&backend).await;
}

#[tokio::test]
async fn a_copy_is_dropped_anywhere() {
    let registry = TestRegistry::start().unwrap();
    let (backend, folder) = (registry.backend(), tempfile::tempdir().unwrap());
    let cut =
        Place::new(Arc::new(registry.backend()), registry.host(), folder.path()).cut_copies().await;
    assert!(cut > 10, "{cut}");
    assert_nothing_temporary(&backend).await;
}

#[tokio::test]
async fn a_creation_is_dropped_anywhere() {
    let registry = TestRegistry::start().unwrap();
    let (backend, folder) = (registry.backend(), tempfile::tempdir().unwrap());
    let cut = Place::new(Arc::new(registry.backend()), registry.host(), folder.path())
        .cut_creations()
        .await;
    assert!(cut > 0, "{cut}");
    assert_nothing_temporary(&backend).await;
}

/// Fetches a login of the backend, slowly.
async fn login(
    cache: &CredentialsCache,
    scope: &Scope,
    registry: &TestRegistry,
) -> Result<RegistryCredentials> {
    let (key, backend) =
        (CacheKey::new(registry.host(), "test", None, scope.clone()), registry.backend());
    let fetch = || async {
        tokio::task::yield_now().await;
        backend.credentials(scope, &Default::default()).await
    };
    cache.get_or_fetch(&key, fetch).await
}

#[tokio::test]
async fn a_login_with_a_cache_is_dropped_anywhere() {
    let registry = TestRegistry::start().unwrap();
    let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
    let mut cut = 0;
    for polls in polls() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CredentialsCache::open(folder.path().join("cache"));
        let ended = within(polls, login(&cache, &scope, &registry)).await;
        // By the same cache, and by another process.
        for cache in [cache, CredentialsCache::open(folder.path().join("cache"))] {
            let login = login(&cache, &scope, &registry).await.unwrap();
            assert!(login.expires_at > SystemTime::now());
        }
        assert_no_temporary_login(&folder.path().join("cache"));
        if ended.is_some() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 3, "{cut}");
}

/// Makes sure that a cache has one login, and beside it locks alone.
pub(super) fn assert_no_temporary_login(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    let logins = names.iter().filter(|name| name.ends_with(".json")).count();
    let is_lock = |name: &&String| name.starts_with(".lock-");
    let others = names.iter().filter(|name| !name.ends_with(".json") && !is_lock(name));
    assert_eq!((logins, others.count()), (1, 0), "{names:?}");
}
