//! Layers that are compressed during a push: their content, and the work that later pushes skip.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::{CreateOptions, TagMutability};
use ark_container_core::distribution::Manifest;
use ark_container_core::model::{Digest, RepositoryPath};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::{Compression, Push, Pushed};
use serde_json::Value;

use super::local_registry::Local;
use super::{Sources, damage};

/// A registry, and a folder for the push cache.
struct CachingPushes {
    local: Local,
    folder: tempfile::TempDir,
}

impl CachingPushes {
    async fn new() -> Self {
        let local = Local::with_repository(TagMutability::Mutable).await;
        Self { local, folder: tempfile::tempdir().unwrap() }
    }

    async fn push_to(&self, path: &RepositoryPath, sources: &Sources) -> Pushed {
        let push = Push::new(self.local.backend(), path, sources.archive())
            .with_endpoint(self.local.endpoint.clone())
            .with_cache_directory(self.folder.path().join("cache"));
        push.with_tag("v1".parse().unwrap()).await.unwrap()
    }

    async fn push(&self, sources: &Sources) -> Pushed {
        self.push_to(&self.local.path, sources).await
    }

    /// Creates another repository of the same organization.
    async fn other(&self) -> RepositoryPath {
        let path: RepositoryPath =
            self.local.path.to_string().replace("test", "other").parse().unwrap();
        let options = CreateOptions::default();
        self.local.backend.create_repository(&path, &options).await.unwrap();
        path
    }
}

/// Returns large layers, of which the last depends on the seed.
fn image(seed: u64) -> Sources {
    let text = "all work and no play\n".repeat(200_000);
    let image = SampleImage::builder().with_layer([("text", text)]).with_layer([("empty", "")]);
    Sources::new(image.with_random_layer(3 << 20).with_seed(seed).build())
}

fn layers(manifest: &Manifest) -> Vec<(String, Digest)> {
    let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    layers
        .map(|layer| (text(&layer["mediaType"]), text(&layer["digest"]).parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn second_push_compresses_nothing_and_digests_are_stable() {
    let pushes = CachingPushes::new().await;
    let sources = image(1);
    let first = pushes.push(&sources).await;
    assert_eq!((first.blobs_sent, first.blobs_skipped), (4, 0));
    assert!(first.bytes_saved > 4_000_000, "{}", first.bytes_saved);

    // The second push does not read the layers.
    damage_layers(&sources);
    let second = pushes.push(&sources).await;
    assert_eq!((second.blobs_sent, second.blobs_skipped), (0, 4));
    assert_eq!((&second.url, second.bytes_saved), (&first.url, 0));

    let elsewhere = CachingPushes::new().await;
    let third = elsewhere.push(&image(1)).await;
    assert_eq!(third.url.reference(), first.url.reference());
}

/// Damages the layers in the archive.
fn damage_layers(sources: &Sources) {
    damage(&sources.path("image.tar"));
}

#[tokio::test(flavor = "multi_thread")]
async fn push_after_rebuild_sends_only_changed_layers() {
    let pushes = CachingPushes::new().await;
    let first = pushes.push(&image(1)).await;
    let second = pushes.push(&image(2)).await;
    // The configuration and the last layer.
    assert_eq!((second.blobs_sent, second.blobs_skipped), (2, 2));
    assert_ne!(second.url, first.url);
    assert!(second.bytes_sent < (3 << 20) + 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_of_another_repository_is_mounted() {
    let pushes = CachingPushes::new().await;
    let sources = image(1);
    let first = pushes.push(&sources).await;
    damage_layers(&sources);
    let other = pushes.other().await;
    let mounted = pushes.push_to(&other, &sources).await;
    assert_eq!((mounted.blobs_sent, mounted.blobs_mounted), (0, 4));
    assert_eq!(mounted.bytes_mounted, first.bytes_sent);
    assert_eq!(mounted.url.reference(), first.url.reference());
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_that_cannot_be_mounted_is_uploaded() {
    let pushes = CachingPushes::new().await;
    pushes.push(&image(1)).await;
    let delete = ark_container_core::backend::DeleteOptions::default().with_force(true);
    pushes.local.backend.delete_repository(&pushes.local.path, &delete).await.unwrap();
    let other = pushes.other().await;
    let sent = pushes.push_to(&other, &image(1)).await;
    assert_eq!((sent.blobs_sent, sent.blobs_mounted), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_or_foreign_cache_is_ignored() {
    let pushes = CachingPushes::new().await;
    let first = pushes.push(&image(1)).await;
    let cache = pushes.folder.path().join("cache");
    for folder in ["layers", "locations"] {
        for entry in fs::read_dir(cache.join(folder)).unwrap() {
            fs::write(entry.unwrap().path(), "nonsense").unwrap();
        }
    }
    let again = pushes.push(&image(1)).await;
    assert_eq!(again.url, first.url);
    assert!(again.bytes_saved > 0, "the layers were compressed again");

    fs::set_permissions(cache.join("layers"), Permissions::from_mode(0o777)).unwrap();
    let again = pushes.push(&image(1)).await;
    assert_eq!(again.url, first.url);
    assert!(again.bytes_saved > 0, "the layers were compressed again");
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_with_wrong_diff_id_is_named_and_not_published() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = image(1);
    damage_layers(&sources);
    let error = local.push(&sources.archive(), Some("v1")).await.unwrap_err();
    let archive = sources.path("image.tar").canonicalize().unwrap();
    let expected = format!("in {} is damaged: it is not sha256:", archive.display());
    assert!(error.to_string().contains(&expected), "{error}");
    assert!(local.images().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_have_the_chosen_compression() {
    for (compression, end) in [(Compression::Gzip, "tar+gzip"), (Compression::Zstd, "tar+zstd")] {
        let local = Local::with_repository(TagMutability::Mutable).await;
        let sources = image(1);
        let pushed = local.push_of(sources.archive()).with_compression(compression).await.unwrap();
        let reference = pushed.url.reference().clone();
        let manifest = local.client().await.fetch_manifest(&reference).await.unwrap();
        let layers = layers(&manifest);
        assert_eq!(layers.len(), 3);
        assert!(layers.iter().all(|(media_type, _)| media_type.ends_with(end)), "{layers:?}");
    }
}
