//! Uploads of large blobs that are interrupted: the same push or the next one resumes them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::TagMutability;
use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::distribution::{Client, Manifest, Retry};
use ark_container_core::model::{
    Access, Reference, RegistryHost, RepositoryPath, RepositoryUrl, Scope, Stage,
};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::{ImageSource, Push, Pushed};
use ark_container_core::{Error, Result};
use futures_util::TryStreamExt;

use super::Sources;
use super::local_registry::Local;
use super::unsteady::Unsteady;
use crate::aws::cloud::Cloud;
use crate::registry::server::{OURS, path};

const MIB: u64 = 1024 * 1024;
const PART_BYTES: u64 = 16 * MIB;
/// Headers of requests, and the content except for the layer.
const OTHER_BYTES: u64 = MIB;

/// Returns an image with a layer of more than five parts.
fn large() -> Sources {
    let image = SampleImage::builder().with_random_layer(usize::try_from(84 * MIB).unwrap());
    Sources::new(image.build())
}

/// A repository behind a link that can be cut.
struct Target<'a> {
    backend: Arc<dyn RegistryBackend>,
    path: &'a RepositoryPath,
    link: Unsteady,
    sources: &'a Sources,
    source: ImageSource,
    cache: tempfile::TempDir,
}

impl<'a> Target<'a> {
    async fn new(
        backend: Arc<dyn RegistryBackend>,
        path: &'a RepositoryPath,
        registry: &RegistryHost,
        sources: &'a Sources,
    ) -> Self {
        let (link, cache) = (Unsteady::to(registry).await, tempfile::tempdir().unwrap());
        Self { backend, path, link, sources, source: sources.layout(), cache }
    }

    /// Returns a target with the archive as source, whose layer is compressed during the push.
    fn with_archive(self) -> Self {
        Self { source: self.sources.archive(), ..self }
    }

    fn uploads(&self) -> std::path::PathBuf {
        self.cache.path().join("uploads")
    }

    async fn push(&self) -> Result<Pushed> {
        let retry = Retry::default().with_delays(Duration::ZERO, Duration::from_millis(1));
        let push = Push::new(self.backend.clone(), self.path, self.source.clone());
        let push = push.with_tag("v1".parse().unwrap()).with_cache_directory(self.cache.path());
        push.with_endpoint(self.link.host.clone()).with_retry(retry).await
    }

    /// Starts a push, and drops it when `bytes` have reached the registry.
    async fn push_until(&self, bytes: u64) {
        tokio::select! {
            pushed = self.push() => panic!("the push ended early: {pushed:?}"),
            () = self.link.wait_for(bytes) => {}
        }
    }

    /// Returns a client of the registry without the link.
    async fn client(&self) -> Client {
        let scope = Scope::repository(self.path.clone(), Access::Pull);
        let credentials = self.backend.credentials(&scope, &Default::default()).await.unwrap();
        let url = RepositoryUrl::new(credentials.host.clone(), self.path.clone());
        Client::with_endpoint(url, credentials, &self.link.host).unwrap()
    }

    /// Asserts that the registry has every blob of the image.
    async fn assert_whole(&self) {
        let client = self.client().await;
        let manifest = client.fetch_manifest(&"v1".parse().unwrap()).await.unwrap();
        assert_eq!(manifest.digest, self.sources.image.digest());
        for (digest, content) in self.sources.image.blobs() {
            let fetched: Vec<_> =
                client.fetch_blob(&digest).await.unwrap().try_collect().await.unwrap();
            assert!(fetched.concat() == content, "{digest}");
        }
    }
}

/// Returns a backend with full access to the fake, and a new repository.
async fn repository_at(cloud: &Cloud) -> (EcrBackend, RepositoryPath) {
    let config = cloud.config(cloud.admin.access_key(), None);
    let builder = EcrBackend::builder(cloud.aws.host().clone(), Stage::default());
    let (backend, path) = (builder.with_sdk_config(config).build(), path(OURS, "app"));
    backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    (backend, path)
}

/// Returns the size of the layer.
fn layer(sources: &Sources) -> u64 {
    sources.image.blobs().map(|(_, content)| content.len() as u64).max().unwrap()
}

fn total(sources: &Sources) -> u64 {
    sources.image.blobs().map(|(_, content)| content.len() as u64).sum()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connection_costs_at_most_one_part() {
    let (local, sources) = (Local::with_repository(TagMutability::Mutable).await, large());
    let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
    target.link.cut_after(45 * MIB);
    let pushed = target.push().await.unwrap();
    assert!(pushed.retries >= 1, "{pushed:?}");
    let size = layer(&sources);
    let passed = target.link.passed();
    assert!(passed <= size + PART_BYTES + OTHER_BYTES, "{passed}");
    assert_eq!(files(&target.uploads()), Vec::<std::path::PathBuf>::new());
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_push_resumes_dropped_upload() {
    let (local, sources) = (Local::with_repository(TagMutability::Mutable).await, large());
    let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
    target.push_until(45 * MIB).await;
    let kept = files(&target.uploads());
    assert_eq!(kept.len(), 2, "{kept:?}");
    for file in kept {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let before = target.link.passed();
    let pushed = target.push().await.unwrap();
    let size = layer(&sources);
    assert!(pushed.bytes_resumed >= 2 * PART_BYTES, "{pushed:?}");
    let accounted = pushed.bytes_sent + pushed.bytes_resumed + pushed.bytes_skipped;
    assert_eq!(accounted, total(&sources), "{pushed:?}");
    let passed = target.link.passed() - before;
    assert!(passed <= size - 2 * PART_BYTES + OTHER_BYTES, "{passed}");
    assert_eq!(files(&target.uploads()), Vec::<std::path::PathBuf>::new());
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_unknown_to_the_registry_restarts() {
    let (local, sources) = (Local::with_repository(TagMutability::Mutable).await, large());
    let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
    target.push_until(45 * MIB).await;
    let kept = files(&target.uploads());
    let kept =
        kept.iter().find(|file| file.extension().is_some_and(|kind| kind == "json")).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
    let location = state["location"].as_str().unwrap().to_owned();
    let (parent, _) = location.rsplit_once('/').unwrap();
    state["location"] = format!("{parent}/00000000-0000-4000-8000-000000000000").into();
    fs::write(kept, serde_json::to_vec(&state).unwrap()).unwrap();
    let pushed = target.push().await.unwrap();
    assert_eq!(pushed.bytes_sent + pushed.bytes_skipped, total(&sources), "{pushed:?}");
    assert_eq!(pushed.bytes_resumed, 0);
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pushes_of_one_blob_have_separate_uploads() {
    let (local, sources) = (Local::with_repository(TagMutability::Mutable).await, large());
    let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
    let (one, other) = tokio::join!(target.push(), target.push());
    assert_eq!(one.unwrap().url, other.unwrap().url);
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_upload_resumes_without_reported_offset() {
    let (cloud, sources) = (Cloud::start().await, large());
    let (backend, path) = repository_at(&cloud).await;
    let target =
        Target::new(Arc::new(backend.clone()), &path, &cloud.aws.registry_host(), &sources).await;
    target.link.cut_after(36 * MIB);
    let pushed = target.push().await.unwrap();
    assert!(pushed.retries >= 1, "{pushed:?}");
    target.assert_whole().await;
    let again = target.push().await.unwrap();
    assert_eq!((again.blobs_sent, again.retries), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn login_that_expires_during_a_push_is_renewed() {
    let (cloud, sources) = (Cloud::start().await, Sources::new(SampleImage::new("expiring")));
    let (backend, path) = repository_at(&cloud).await;
    let target =
        Target::new(Arc::new(backend.clone()), &path, &cloud.aws.registry_host(), &sources).await;
    // By this machine's clock, the login is valid for a day. The registry considers it expired.
    cloud.aws.set_token_lifetime(Duration::from_secs(300));
    cloud.aws.date_tokens(std::time::SystemTime::now() + Duration::from_secs(24 * 60 * 60));
    backend
        .credentials(&Scope::repository(path.clone(), Access::Push), &Default::default())
        .await
        .unwrap();
    cloud.aws.set_clock_ahead(600);
    let pushed = target.push().await;
    let pushed = pushed.map_err(|error: Error| format!("{error:?}")).unwrap();
    assert_eq!(pushed.blobs_sent, sources.image.blobs().count());
    assert_eq!(cloud.aws.count("ecr:GetAuthorizationToken"), 2);
}

/// Returns the manifest and the size of the tagged image's layer, after verifying its digest.
async fn fetched_layer(target: &Target<'_>) -> (Manifest, u64) {
    let client = target.client().await;
    let manifest = client.fetch_manifest(&"v1".parse().unwrap()).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let digest = json["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let pieces: Vec<_> = client.fetch_blob(&digest).await.unwrap().try_collect().await.unwrap();
    (manifest, pieces.iter().map(|piece| piece.len() as u64).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_layer_resumes_after_interruption() {
    let sources = large();
    let undisturbed = {
        let local = Local::with_repository(TagMutability::Mutable).await;
        let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
        target.with_archive().push().await.unwrap()
    };
    let local = Local::with_repository(TagMutability::Mutable).await;
    let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
    let target = target.with_archive();
    // The first time the push ends, the second time only the connection.
    target.push_until(45 * MIB).await;
    target.link.cut_after(target.link.passed() + 15 * MIB);
    let pushed = target.push().await.unwrap();
    let (manifest, size) = fetched_layer(&target).await;
    assert_eq!(undisturbed.url.reference(), &Reference::Digest(manifest.digest));
    assert!(pushed.bytes_resumed > 30 * MIB, "{pushed:?}");
    let passed = target.link.passed();
    assert!(passed <= size + 2 * PART_BYTES + OTHER_BYTES, "{passed} of {size}");
    assert_eq!(files(&target.uploads()).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_layer_restarts_after_tampered_upload() {
    let (local, sources) = (Local::with_repository(TagMutability::Mutable).await, large());
    let target = Target::new(local.backend(), &local.path, &local.endpoint, &sources).await;
    let target = target.with_archive();
    target.push_until(45 * MIB).await;
    // The tampered upload is longer than the compressed layer and has other content.
    let repository = local.backend.directory().join(local.path.to_string()).join("_repository");
    let uploads = files(&repository.join("uploads"));
    let upload = uploads.iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    fs::write(upload, vec![7; 100 << 20]).unwrap();
    let pushed = target.push().await.unwrap();
    assert_eq!(pushed.bytes_resumed, 0);
    fetched_layer(&target).await;
}
