//! A catalog as programs use it, on a folder of this machine that nobody serves.

use std::path::Path;

use ark_container_core::catalog::CatalogBuilder;
use ark_container_core::identity::single_user;
use ark_container_core::model::{Access, OrganizationId};
use ark_container_core::testing::SampleImage;
use ark_container_core::{Catalog, Error};
use futures_util::TryStreamExt;

fn builder(folder: &Path) -> CatalogBuilder {
    let location = format!("local:{}", folder.display());
    let builder = Catalog::builder().with_registry(location.parse().unwrap());
    builder.with_organization(OrganizationId::TBD)
}

/// A catalog is for many tasks at once, and so is what it does.
async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.unwrap()
}

#[tokio::test]
async fn an_image_goes_in_and_out_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&path("in"), None).unwrap();
    let source = format!("oci:{}", path("in").display());
    let catalog = builder(&path("registry")).connect().await.unwrap();
    catalog.create("test/repo").await.unwrap();

    let (other, named) = (catalog.clone(), "test/repo:v1");
    let refused = in_a_task(async move { other.push(named, &source).await }).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidInput { .. }), "which platform? {refused}");
    let all = ark_container_core::push::PlatformChoice::All;
    let push = catalog.prepare_push(named).unwrap().with_platforms(all);
    let source = format!("oci:{}", path("in").display()).parse().unwrap();
    push.run(&source).await.unwrap();

    let resolved = catalog.resolve(named).await.unwrap();
    assert_eq!((&resolved.digest, resolved.platforms.len()), (&image.digest(), 2));
    let arm = catalog.resolve_for(named, &"linux/arm64".parse().unwrap()).await.unwrap();
    assert!(arm.size < resolved.size && arm.digest != resolved.digest, "{arm:?}");
    assert_eq!(arm.platforms.len(), 1);
    let elsewhere = catalog.resolve_for(named, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert!(elsewhere.to_string().contains("linux/amd64, linux/arm64"), "{elsewhere}");

    // What one pins is a name too.
    let (other, out) = (catalog.clone(), path("out"));
    let pulled = in_a_task(async move { other.pull(&resolved.url, out).await }).await.unwrap();
    assert_eq!(pulled.image.to_string(), catalog.resolve(named).await.unwrap().url);
}

#[tokio::test]
async fn the_memberships_of_the_folder_hold_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let tbd = OrganizationId::TBD;
    let memberships = format!("[[organization]]\nid = \"{tbd}\"\nmembers = [\"robot:a\"]\n");
    std::fs::write(folder.path().join("memberships.toml"), memberships).unwrap();
    let audit = folder.path().join("audit.jsonl");
    let of = |name: &str| single_user(name.parse().unwrap());
    let builder = builder(folder.path()).with_identity_source(of("user:nobody"));
    let catalog = builder.with_audit(&audit).connect().await.unwrap();
    let robot = catalog.for_principal(of("robot:a"));
    assert!(robot.credentials("a", Access::Pull).await.is_ok());
    let refused = robot.create("a").await.unwrap_err();
    assert!(matches!(refused, Error::PermissionDenied { .. }), "{refused}");
    let told = std::fs::read_to_string(audit).unwrap();
    assert!(told.contains("robot:a") && told.contains("\"deny\""), "{told}");
}

#[tokio::test]
async fn what_is_of_no_organization_is_not_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let builder = builder(folder.path()).with_outside_repositories(true);
    let catalog = builder.connect().await.unwrap();
    let error = catalog.resolve("127.0.0.1:5050/older:latest").await.unwrap_err();
    assert!(error.to_string().contains("is of no organization"), "{error}");
    assert!(catalog.list().try_collect::<Vec<_>>().await.unwrap().is_empty());
}
