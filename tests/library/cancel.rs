//! Futures that are dropped at each await point: the result is complete or absent, and the same call succeeds
//! afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::future::{Future, IntoFuture, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::credentials::cache::{CacheKey, CredentialsCache};
use ark_container_core::model::{
    Access, OrganizationId, RegistryHost, RepositoryPath, Scope, Stage,
};
use ark_container_core::testing::{SampleImage, TestRegistry};
use ark_container_core::transfer::{Copy, Pull};
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt, Result};
use tokio::time::sleep;

use crate::aws::cloud::Cloud;

/// A future is dropped after each poll up to this one. Beyond that, the steps grow.
const MAX_SINGLE_STEPS: usize = 60;

/// Drops a future after `polls` polls; `None` if it was not ready by then.
pub(crate) async fn within<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    let bounded = poll_fn(|context| {
        let Some(fewer) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = fewer;
        future.as_mut().poll(context).map(Some)
    });
    bounded.await
}

/// Returns the numbers of polls after which futures are dropped, in ascending order.
fn polls() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(0), |polls| Some(polls + 1 + polls / MAX_SINGLE_STEPS))
}

/// Maximum time to wait for a condition.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A backend whose registry is running, and an image to transfer.
pub(super) struct Transfers<'a> {
    pub(super) backend: Arc<dyn RegistryBackend>,
    pub(super) endpoint: RegistryHost,
    pub(super) folder: &'a Path,
    pub(super) image: SampleImage,
}

impl<'a> Transfers<'a> {
    pub(super) fn new(
        backend: Arc<dyn RegistryBackend>,
        endpoint: RegistryHost,
        folder: &'a Path,
    ) -> Self {
        let image = SampleImage::builder().with_random_layer(3000).with_layer([("small", "one")]);
        let image = image.build();
        image.write_oci_layout(&folder.join("image"), None).unwrap();
        Self { backend, endpoint, folder, image }
    }

    fn pull(&self, path: &RepositoryPath, layout: &Path) -> Pull {
        let pull = Pull::new(self.backend.clone(), path, tag().into(), layout);
        pull.with_endpoint(self.endpoint.clone())
    }

    pub(super) fn repository(&self, name: &str) -> RepositoryPath {
        self.backend.repository_path(OrganizationId::TBD, &name.parse().unwrap()).unwrap()
    }

    pub(super) async fn created(&self, name: &str) -> RepositoryPath {
        let path = self.repository(name);
        self.backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        path
    }

    fn push(&self, path: &RepositoryPath) -> Push {
        Push::new(self.backend.clone(), path, ImageSource::oci_layout(self.folder.join("image")))
            .with_endpoint(self.endpoint.clone())
            .with_cache_directory(self.folder.join("cache"))
            .with_tag(tag())
    }

    pub(super) async fn pushed(&self, path: &RepositoryPath) {
        let pushed = self.push(path).await.unwrap();
        assert_eq!(pushed.digest(), &self.image.digest());
    }

    /// Asserts that the tag refers to the whole image or does not exist. Returns whether it exists.
    pub(super) async fn is_whole(&self, path: &RepositoryPath) -> bool {
        let layout = tempfile::tempdir_in(self.folder).unwrap();
        match self.pull(path, layout.path()).await {
            Ok(pulled) => {
                assert_eq!(pulled.digest(), &self.image.digest());
                self.assert_whole_layout(layout.path());
                true
            }
            Err(Error::NotFound { .. }) => false,
            Err(error) => panic!("{path}: {error:?}"),
        }
    }

    /// Asserts that a layout has the image and no other file.
    pub(super) fn assert_whole_layout(&self, layout: &Path) {
        let blobs = layout.join("blobs/sha256");
        let manifest = (self.image.digest(), self.image.manifest());
        let mut expected = BTreeSet::new();
        for (digest, content) in self.image.blobs().chain([manifest]) {
            assert_eq!(fs::read(blobs.join(digest.hex())).unwrap(), content);
            expected.insert(digest.hex().to_owned());
        }
        let names = |folder: &Path| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names(&blobs), expected);
        let top: BTreeSet<_> = ["blobs", "index.json", "oci-layout"].map(str::to_owned).into();
        assert_eq!(names(layout), top);
    }

    /// Drops pushes after an increasing number of polls, each to its own repository. The last push completes.
    pub(super) async fn cut_pushes(&self) -> usize {
        let mut cut = 0;
        for polls in polls() {
            let path = self.created(&format!("push-{polls}")).await;
            let ended = within(polls, self.push(&path).into_future()).await;
            let is_there = self.is_whole(&path).await;
            if let Some(pushed) = ended {
                pushed.unwrap();
                assert!(is_there);
                break;
            }
            cut += 1;
            self.pushed(&path).await;
            assert!(self.is_whole(&path).await, "after {polls} polls");
        }
        cut
    }

    /// Drops pulls after an increasing number of polls, each into its own layout.
    pub(super) async fn cut_pulls(&self) -> usize {
        let path = self.created("pulled").await;
        self.pushed(&path).await;
        let mut cut = 0;
        for polls in polls() {
            let layout = self.folder.join(format!("pull-{polls}"));
            let ended = within(polls, self.pull(&path, &layout).into_future()).await;
            if let Some(pulled) = ended {
                pulled.unwrap();
                self.assert_whole_layout(&layout);
                break;
            }
            cut += 1;
            // A dropped pull may write for another moment.
            let deadline = Instant::now() + TIMEOUT;
            while let Err(error) = self.pull(&path, &layout).await {
                let is_passing = error.is_temporary() && Instant::now() < deadline;
                assert!(is_passing, "after {polls} polls: {error:?}");
                sleep(Duration::from_millis(1)).await;
            }
            self.assert_whole_layout(&layout);
        }
        cut
    }

    /// Drops copies after an increasing number of polls, each to its own repository.
    pub(super) async fn cut_copies(&self) -> usize {
        let from = self.created("copied").await;
        self.pushed(&from).await;
        let mut cut = 0;
        for polls in polls() {
            let to = self.created(&format!("copy-{polls}")).await;
            let copy = Copy::new(self.backend.clone(), &from, tag().into(), &to)
                .with_endpoint(self.endpoint.clone())
                .with_tag(tag());
            let ended = within(polls, copy.clone().into_future()).await;
            let is_there = self.is_whole(&to).await;
            if let Some(copied) = ended {
                copied.unwrap();
                assert!(is_there);
                break;
            }
            cut += 1;
            copy.await.unwrap();
            assert!(self.is_whole(&to).await, "after {polls} polls");
        }
        cut
    }

    /// Drops creations after an increasing number of polls. The repository exists with its settings, or does not
    /// exist.
    pub(super) async fn cut_creations(&self) -> usize {
        let options = CreateOptions::default().with_resource_tag("team", "video");
        let mut cut = 0;
        for polls in polls() {
            let path = self.repository(&format!("create-{polls}"));
            let ended = within(polls, self.backend.create_repository(&path, &options)).await;
            if let Some(created) = ended {
                created.unwrap();
                break;
            }
            cut += 1;
            let again = self.backend.create_repository(&path, &options).await;
            again.unwrap_or_else(|error| panic!("{polls}: {error:?}"));
            let tags = self.backend.describe_repository(&path).await.unwrap().resource_tags;
            assert_eq!(tags.unwrap()["team"], "video", "after {polls} polls");
            self.pushed(&path).await;
        }
        cut
    }
}

fn tag() -> ark_container_core::model::Tag {
    "v1".parse().unwrap()
}

/// Asserts that no temporary files remain. A dropped transfer may write for another moment.
async fn assert_nothing_temporary(backend: &LocalBackend) {
    for folder in ["_tmp", "_trash"] {
        let folder = backend.directory().join(folder);
        let count = || fs::read_dir(&folder).map_or(0, Iterator::count);
        let mut attempts = 0..200;
        while count() > 0 {
            assert!(attempts.next().is_some(), "{} files in {}", count(), folder.display());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Drops a transfer at each await point on the local backend, and checks that it has more than `least`.
async fn cancel_locally(least: usize, cancel: impl AsyncFnOnce(&Transfers<'_>) -> usize) {
    let registry = TestRegistry::start().unwrap();
    let (backend, folder) = (registry.backend(), tempfile::tempdir().unwrap());
    let cut =
        cancel(&Transfers::new(Arc::new(backend.clone()), registry.host(), folder.path())).await;
    assert!(cut > least, "{cut}");
    assert_nothing_temporary(&backend).await;
}

/// Drops a transfer at each await point on ECR, which the fake of AWS emulates.
async fn cancel_at_ecr(least: usize, cancel: impl AsyncFnOnce(&Transfers<'_>) -> usize) {
    let (cloud, folder) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let backend = backend(&cloud, folder.path());
    let transfers = Transfers::new(Arc::new(backend), cloud.aws.registry_host(), folder.path());
    let cut = cancel(&transfers).await;
    assert!(cut > least, "{cut}");
}

#[tokio::test]
async fn cancelled_push_is_complete_or_absent() {
    cancel_locally(10, async |transfers| transfers.cut_pushes().await).await;
}

#[tokio::test]
async fn cancelled_push_at_ecr_is_complete_or_absent() {
    cancel_at_ecr(10, async |transfers| transfers.cut_pushes().await).await;
}

#[tokio::test]
async fn cancelled_pull_is_complete_or_absent() {
    cancel_locally(10, async |transfers| transfers.cut_pulls().await).await;
}

#[tokio::test]
async fn cancelled_pull_at_ecr_is_complete_or_absent() {
    cancel_at_ecr(10, async |transfers| transfers.cut_pulls().await).await;
}

#[tokio::test]
async fn cancelled_copy_is_complete_or_absent() {
    cancel_locally(10, async |transfers| transfers.cut_copies().await).await;
}

#[tokio::test]
async fn cancelled_copy_at_ecr_is_complete_or_absent() {
    cancel_at_ecr(10, async |transfers| transfers.cut_copies().await).await;
}

#[tokio::test]
async fn cancelled_creation_is_complete_or_absent() {
    cancel_locally(0, async |transfers| transfers.cut_creations().await).await;
}

#[tokio::test]
async fn cancelled_creation_at_ecr_is_complete_or_absent() {
    cancel_at_ecr(1, async |transfers| transfers.cut_creations().await).await;
}

/// Fetches a login of the backend, with a yield before it.
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
async fn cancelled_login_leaves_a_usable_cache() {
    let registry = TestRegistry::start().unwrap();
    let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
    let mut cut = 0;
    for polls in polls() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CredentialsCache::open(folder.path().join("cache"));
        let ended = within(polls, login(&cache, &scope, &registry)).await;
        // The cache still works, in this process and in another one.
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

/// Asserts that a cache has one login and otherwise only locks.
pub(super) fn assert_no_temporary_login(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    let logins = names.iter().filter(|name| name.ends_with(".json")).count();
    let is_lock = |name: &&String| name.starts_with(".lock-");
    let others = names.iter().filter(|name| !name.ends_with(".json") && !is_lock(name));
    assert_eq!((logins, others.count()), (1, 0), "{names:?}");
}

fn backend(cloud: &Cloud, folder: &Path) -> EcrBackend {
    EcrBackend::builder(cloud.aws.host().clone(), Stage::default())
        .with_sdk_config(cloud.config(cloud.admin.access_key(), None))
        .with_cache_directory(folder.join("cache"))
        .build()
}

#[tokio::test]
async fn cancelled_login_at_ecr_leaves_a_usable_cache() {
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
