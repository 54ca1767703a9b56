//! Copies from repository to repository.

use std::sync::Arc;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::backend::{CreateOptions, TagMutability};
use ark_container_core::model::{OrganizationId, Reference, Tag};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::{Copy, Pull};
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{RegistryBackend, RegistryBackendExt};

use super::Sources;
use super::local_registry::Local;

#[tokio::test]
async fn referrers_are_copied_also_if_the_image_exists() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = Sources::new(SampleImage::new("signed"));
    let name = "copies".parse().unwrap();
    let to = local.backend.repository_path(OrganizationId::TBD, &name).unwrap();
    local.backend.create_repository(&to, &CreateOptions::default()).await.unwrap();
    let tag = || "v1".parse().unwrap();
    let copy = Copy::new(local.backend(), &local.path, Reference::Tag(tag()), &to);
    let copy = copy.with_tag(tag()).with_endpoint(local.endpoint.clone());
    // Each referrer has its own layer. Both share the configuration.
    for (kind, blobs) in [("signature", 4), ("bill of materials", 1)] {
        let referrer = sources.attach(kind);
        local.push(&sources.layout(), Some("v1")).await.unwrap();
        let copied = copy.clone().await.unwrap();
        assert_eq!(copied.url.reference(), &sources.image.digest().into());
        assert_eq!(copied.blobs_mounted, blobs, "{copied:?}");
        let client = local.client_of(&to).await;
        let listed = client.referrers(&sources.image.digest(), Some(kind)).await.unwrap();
        assert_eq!(listed[0].digest, referrer);
    }
    let again = copy.clone().await.unwrap();
    assert_eq!((again.blobs_mounted, again.blobs_skipped), (0, 5));
}

#[tokio::test]
async fn spawned_transfers_within_local_folder_need_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(&folder.path().join("registry"))).unwrap();
    let image = SampleImage::new("moved");
    image.write_oci_layout(&folder.path().join("in"), None).unwrap();
    let mut paths = Vec::new();
    for name in ["a", "b"] {
        let path = backend.repository_path(OrganizationId::TBD, &name.parse().unwrap()).unwrap();
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        paths.push(path);
    }
    let shared: Arc<dyn RegistryBackend> = Arc::new(backend.clone());
    let tag = || -> Tag { "v1".parse().unwrap() };

    let source = ImageSource::oci_layout(folder.path().join("in"));
    let push = Push::new(shared.clone(), &paths[0], source).with_tag(tag()).with_local(&backend);
    let pushed = tokio::spawn(push.into_future()).await.unwrap().unwrap();
    let copy = Copy::new(shared.clone(), &paths[0], tag().into(), &paths[1]);
    let copy = copy.with_tag(tag()).with_local(&backend);
    let copied = tokio::spawn(copy.into_future()).await.unwrap().unwrap();
    assert_eq!((copied.digest(), copied.blobs_sent), (pushed.digest(), 0), "{copied:?}");
    let pull = Pull::new(shared, &paths[1], tag().into(), folder.path().join("out"));
    let pulled = tokio::spawn(pull.with_local(&backend).into_future()).await.unwrap().unwrap();
    assert_eq!(pulled.digest(), &image.digest());
}
