//! Copies from repository to repository.

use ark_container_core::backend::{CreateOptions, TagMutability};
use ark_container_core::model::{OrganizationId, Reference};
use ark_container_core::pull::Copy;
use ark_container_core::testing::SampleImage;
use ark_container_core::{RegistryBackend, RegistryBackendExt};

use super::Sources;
use super::local_registry::Local;

#[tokio::test]
async fn what_refers_to_an_image_is_copied_along_also_when_the_image_is_there() {
    let local = Local::with_repository(TagMutability::Mutable).await;
    let sources = Sources::new(SampleImage::new("signed"));
    let name = "copies".parse().unwrap();
    let to = local.backend.repository_path(OrganizationId::TBD, &name).unwrap();
    local.backend.create_repository(&to, &CreateOptions::default()).await.unwrap();
    let tag = || "v1".parse().unwrap();
    let copy = Copy::new(local.backend(), &local.path, Reference::Tag(tag()), &to);
    let copy = copy.with_tag(tag()).with_endpoint(local.endpoint.clone());
    // Of each, its layer; and the configuration that they have in common.
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
