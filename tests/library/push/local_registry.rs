//! Pushes to the library's local registry.

use std::collections::HashMap;
use std::error::Error as _;
use std::io::Read;
use std::sync::Arc;

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::backend::{CreateOptions, Image, TagMutability};
use ark_container_core::distribution::Client;
use ark_container_core::model::{
    Access, ImageUrl, OrganizationId, Reference, RegistryHost, RepositoryPath, Scope, Tag,
};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::{ImageSource, PlatformChoice, Push, Pushed};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt, ResourceKind};
use flate2::read::MultiGzDecoder;
use futures_util::TryStreamExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Sources, damage};

/// A running registry in its own folder, on a free port.
pub(super) struct Local {
    pub(super) backend: LocalBackend,
    pub(super) path: RepositoryPath,
    pub(super) endpoint: RegistryHost,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Local {
    /// Starts a registry with a repository.
    pub(super) async fn with_repository(tag_mutability: TagMutability) -> Self {
        let local = Self::new();
        let options = CreateOptions::default().with_tag_mutability(tag_mutability);
        local.backend.create_repository(&local.path, &options).await.unwrap();
        local
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(Some(folder.path())).unwrap();
        let registry = Registry::bind(backend.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = registry.local_addr().into();
        let serving = tokio::spawn(async {
            registry.serve(std::future::pending()).await.unwrap();
        });
        let name = "test/repo".parse().unwrap();
        let path = backend.repository_path(OrganizationId::TBD, &name).unwrap();
        Self { backend, path, endpoint, serving, _folder: folder }
    }

    pub(super) async fn push(
        &self,
        source: &ImageSource,
        tag: Option<&str>,
    ) -> Result<Pushed, Error> {
        let push = self.push_of(source.clone()).with_platforms(PlatformChoice::All);
        match tag {
            Some(tag) => push.with_tag(tag.parse().unwrap()).await,
            None => push.await,
        }
    }

    pub(super) fn push_of(&self, source: ImageSource) -> Push {
        let push = Push::new(self.backend(), &self.path, source);
        push.with_endpoint(self.endpoint.clone())
    }

    pub(super) fn backend(&self) -> Arc<dyn RegistryBackend> {
        Arc::new(self.backend.clone())
    }

    pub(super) async fn images(&self) -> Vec<Image> {
        self.backend.list_images(&self.path).try_collect().await.unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        self.client_of(&self.path).await
    }

    /// Returns a client of another repository.
    pub(super) async fn client_of(&self, path: &RepositoryPath) -> Client {
        let scope = Scope::repository(path.clone(), Access::Pull);
        let credentials = self.backend.credentials(&scope, &Default::default()).await.unwrap();
        let url = self.backend.repository_url(path);
        Client::with_endpoint(url, credentials, &self.endpoint).unwrap()
    }

    /// Asserts that the repository has every blob of an image.
    pub(super) async fn assert_whole(&self, image: &SampleImage) {
        let client = self.client().await;
        for part in image.children().iter().chain([image]) {
            let manifest = client.fetch_manifest(&part.digest().into()).await.unwrap();
            assert_eq!(&manifest, part.root());
            for (digest, content) in part.blobs() {
                let stream = client.fetch_blob(&digest).await.unwrap();
                let fetched: Vec<_> = stream.try_collect().await.unwrap();
                assert!(fetched.concat() == content, "{digest}");
            }
        }
    }
}

impl Local {
    /// Asserts that the repository has an image of the same configuration, whose decompressed layers are the same.
    pub(super) async fn assert_unpacks(&self, pushed: &ImageUrl, image: &SampleImage) {
        let client = self.client().await;
        let fetch = async |digest: &Value| {
            let digest = digest.as_str().unwrap().parse().unwrap();
            let stream = client.fetch_blob(&digest).await.unwrap();
            stream.try_collect::<Vec<_>>().await.unwrap().concat()
        };
        let manifest = client.fetch_manifest(pushed.reference()).await.unwrap();
        let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        let own: Value = serde_json::from_slice(image.manifest()).unwrap();
        assert_eq!(manifest["config"]["digest"], own["config"]["digest"]);
        let blobs: HashMap<_, _> = image.blobs().collect();
        let layers = |manifest: &Value| manifest["layers"].as_array().unwrap().clone();
        assert_eq!(layers(&manifest).len(), layers(&own).len());
        for (pushed, own) in layers(&manifest).iter().zip(layers(&own)) {
            let mut content = Vec::new();
            let compressed = fetch(&pushed["digest"]).await;
            MultiGzDecoder::new(&compressed[..]).read_to_end(&mut content).unwrap();
            assert!(content == blobs[&own["digest"].as_str().unwrap().parse().unwrap()]);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test]
async fn index_is_pushed_completely_and_only_once() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = Sources::new(SampleImage::for_two_platforms());
    let pushed = local.push(&sources.layout(), Some("v1")).await.unwrap();
    let digest = sources.image.digest();
    let url = local.backend.repository_url(&local.path);
    assert_eq!(pushed.url, url.image(digest.clone()));
    assert_eq!(pushed.tag, Some("v1".parse().unwrap()));
    assert_eq!((pushed.blobs_sent, pushed.blobs_skipped), (6, 0));
    assert!(pushed.bytes_sent > 300_000);
    local.assert_whole(&sources.image).await;
    assert_eq!(local.images().await.len(), 3);

    let again = local.push(&sources.layout(), Some("v1")).await.unwrap();
    assert_eq!((again.blobs_sent, again.bytes_sent, again.blobs_skipped), (0, 0, 6));
    assert_eq!(again.bytes_skipped, pushed.bytes_sent);
    let tagged = local.push(&sources.layout(), Some("v2")).await.unwrap();
    assert_eq!(tagged.blobs_sent, 0);
    for tag in ["v1", "v2"] {
        let reference: Reference = tag.parse().unwrap();
        assert_eq!(local.backend.resolve(&local.path, &reference).await.unwrap(), digest);
    }
}

#[tokio::test]
async fn archive_is_pushed_completely_and_moves_the_tag() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let build = |seed: u64| {
        let image = SampleImage::builder().with_layer([("etc/same", "same")]);
        Sources::new(image.with_random_layer(1 << 20).with_seed(seed).build())
    };
    for sources in [build(1), build(2)] {
        let pushed = local.push(&sources.archive(), Some("v1")).await.unwrap();
        local.assert_unpacks(&pushed.url, &sources.image).await;
        let tags: Vec<Tag> = local.client().await.tags().try_collect().await.unwrap();
        assert_eq!(tags, ["v1".parse().unwrap()]);
        let moved = local.backend.resolve(&local.path, &"v1".parse().unwrap()).await.unwrap();
        assert_eq!(moved, pushed.url.reference().to_string().parse().unwrap());
    }
}

#[tokio::test]
async fn image_without_tag_is_pushed_by_digest() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = Sources::new(SampleImage::new("untagged"));
    let pushed = local.push(&sources.layout(), None).await.unwrap();
    assert_eq!(pushed.tag, None);
    let images = local.images().await;
    assert_eq!(images.len(), 1);
    assert!(images[0].tags.is_empty() && images[0].digest == sources.image.digest());
}

#[tokio::test]
async fn push_to_missing_repository_is_not_found() {
    let local = Local::new();
    let sources = Sources::new(SampleImage::new("early"));
    let error = local.push(&sources.layout(), Some("v1")).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }), "{error:?}");
    assert!(!local.backend.repository_exists(&local.path).await.unwrap());
}

#[tokio::test]
async fn immutable_tag_accepts_only_the_same_image() {
    let local = Local::with_repository(TagMutability::Immutable).await;
    let (first, second) =
        (Sources::new(SampleImage::new("first")), Sources::new(SampleImage::new("second")));
    local.push(&first.layout(), Some("v1")).await.unwrap();
    local.push(&first.layout(), Some("v1")).await.unwrap();
    let error = local.push(&second.layout(), Some("v1")).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { kind: ResourceKind::Image, .. }), "{error:?}");
    let reference: Reference = "v1".parse().unwrap();
    let unmoved = local.backend.resolve(&local.path, &reference).await.unwrap();
    assert_eq!(unmoved, first.image.digest());
}

#[tokio::test]
async fn damaged_layer_is_named_and_not_tagged() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = Sources::new(SampleImage::new("fragile"));
    damage(&sources.layer());
    let error = local.push(&sources.layout(), Some("v1")).await.unwrap_err();
    let layer = sources.layer().canonicalize().unwrap();
    let expected = format!("{} is damaged: it is not sha256:", layer.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(error.source().is_some());
    assert!(local.images().await.is_empty());

    damage(&sources.layer());
    local.push(&sources.layout(), Some("v1")).await.unwrap();
    local.assert_whole(&sources.image).await;
}

#[tokio::test]
async fn pull_login_cannot_push() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let error = local.client().await.start_upload().await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    assert!(error.to_string().contains("may not push to"), "{error}");
}

#[tokio::test]
async fn referrers_are_pushed_also_if_the_image_exists() {
    let local = Local::with_repository(TagMutability::Immutable).await;
    let sources = Sources::new(SampleImage::new("signed"));
    local.push(&sources.layout(), Some("v1")).await.unwrap();

    let digest = sources.attach("signature");
    let pushed = local.push(&sources.layout(), Some("v1")).await.unwrap();
    assert_eq!(pushed.url.reference(), &sources.image.digest().into());
    assert_eq!((pushed.blobs_sent, pushed.blobs_skipped), (2, 2));
    let client = local.client().await;
    assert!(client.manifest(&Reference::Digest(digest)).await.unwrap().is_some());
    let again = local.push(&sources.layout(), Some("v1")).await.unwrap();
    assert_eq!((again.blobs_sent, again.blobs_skipped), (0, 4));
}

#[tokio::test]
async fn single_platform_is_pushed_without_the_index() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = Sources::new(SampleImage::for_two_platforms());
    let push = local.push_of(sources.layout());
    let arm = PlatformChoice::One("linux/arm64".parse().unwrap());
    let pushed = push.with_platforms(arm).await.unwrap();
    let image = &sources.image.children()[1];
    assert_eq!(pushed.url.reference(), &image.digest().into());
    local.assert_whole(image).await;
    assert_eq!(local.images().await.len(), 1);
}
