//! A catalog as programs use it: on a local registry without a server, and on AWS.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::backend::{BackendLayer, CreateOptions, RegistryBackend, Repository};
use ark_container_core::catalog::CatalogBuilder;
use ark_container_core::identity::single_user;
use ark_container_core::model::{Access, OrganizationId, RepositoryPath};
use ark_container_core::permission::Action;
use ark_container_core::testing::SampleImage;
use ark_container_core::{Catalog, Error};
use ark_container_fakes::aws::Role;
use futures_util::TryStreamExt;

use crate::aws::cloud::Cloud;

fn builder(folder: &Path) -> CatalogBuilder {
    let location = format!("local:{}", folder.display());
    let builder = Catalog::builder().with_registry(location.parse().unwrap());
    builder.with_organization(OrganizationId::TBD)
}

/// Runs a future in another task: catalogs and their futures can be sent between threads.
async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.unwrap()
}

#[tokio::test]
async fn local_image_is_pushed_and_pulled_without_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&path("in"), None).unwrap();
    let source = format!("oci:{}", path("in").display());
    let catalog = builder(&path("registry")).connect().await.unwrap();
    catalog.create("test/repo").await.unwrap();

    let (other, named) = (catalog.clone(), "test/repo:v1");
    in_a_task(async move { other.push(named, &source).await }).await.unwrap();

    let resolved = catalog.resolve(named).await.unwrap();
    assert_eq!((resolved.digest(), resolved.platforms.len()), (&image.digest(), 2));
    let arm = catalog.resolve_for(named, &"linux/arm64".parse().unwrap()).await.unwrap();
    assert!(arm.size < resolved.size && arm.digest() != resolved.digest(), "{arm:?}");
    assert_eq!(arm.platforms.len(), 1);
    let elsewhere = catalog.resolve_for(named, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert!(elsewhere.to_string().contains("linux/amd64, linux/arm64"), "{elsewhere}");

    // A pinned image URL is accepted as a name too.
    let (other, out) = (catalog.clone(), format!("oci:{}", path("out").display()));
    let pulled = in_a_task(async move { other.pull(&resolved.url, &out).await }).await.unwrap();
    assert_eq!(pulled.url.to_string(), catalog.resolve(named).await.unwrap().url);
}

#[tokio::test]
async fn memberships_of_the_folder_apply_to_all() {
    let folder = tempfile::tempdir().unwrap();
    let tbd = OrganizationId::TBD;
    let memberships = format!("[[organization]]\nid = \"{tbd}\"\nmembers = [\"robot:a\"]\n");
    std::fs::write(folder.path().join("memberships.toml"), memberships).unwrap();
    let audit = folder.path().join("audit.jsonl");
    let of = |name: &str| single_user(name.parse().unwrap());
    let builder = builder(folder.path()).with_identity_source(of("user:nobody"));
    let catalog = builder.with_audit(&audit).connect().await.unwrap();
    let robot = catalog.acting_as(of("robot:a"));
    assert!(robot.credentials("a", Access::Pull).await.is_ok());
    let refused = robot.create("a").await.unwrap_err();
    assert!(matches!(refused, Error::PermissionDenied { .. }), "{refused}");
    let text = std::fs::read_to_string(audit).unwrap();
    assert!(text.contains("robot:a") && text.contains("\"deny\""), "{text}");
}

#[tokio::test]
async fn local_registry_has_no_outside_repositories() {
    let folder = tempfile::tempdir().unwrap();
    let builder = builder(folder.path()).with_outside_repositories(true);
    let catalog = builder.connect().await.unwrap();
    let error = catalog.resolve("127.0.0.1:5050/older:latest").await.unwrap_err();
    assert!(error.to_string().contains("belongs to no organization"), "{error}");
    assert!(catalog.list().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

/// Returns a backend whose type the catalog does not know.
fn erased(folder: &Path) -> Arc<dyn RegistryBackend> {
    Arc::new(LocalBackend::open(Some(folder)).unwrap())
}

#[tokio::test]
async fn type_erased_local_backend_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("in");
    SampleImage::new("hello").write_oci_layout(&layout, None).unwrap();
    let catalog = Catalog::from_backend_as_administrator(erased(&folder.path().join("registry")));
    let catalog = catalog.in_organization(OrganizationId::TBD);
    catalog.create("test/repo").await.unwrap();
    let source = format!("oci:{}", layout.display());
    let pushed = catalog.push("test/repo:v1", &source).await.unwrap();
    let listed: Vec<_> = catalog.images("test/repo").unwrap().try_collect().await.unwrap();
    assert_eq!(pushed.url.reference().to_string(), listed[0].digest.to_string());
    let conflict = catalog.delete("test/repo").await.unwrap_err();
    assert!(matches!(conflict, Error::Conflict { .. }), "{conflict}");
}

#[tokio::test]
async fn given_backend_keeps_the_token_of_the_builder() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("jwt.json");
    std::fs::write(&token, "no token").unwrap();
    let builder = Catalog::builder().with_backend(erased(&folder.path().join("registry")));
    let catalog = builder.with_token_file(&token).connect().await.unwrap();
    let refused = catalog.in_organization(OrganizationId::TBD).create("test/repo").await;
    let refused = refused.unwrap_err();
    assert!(!matches!(refused, Error::PermissionDenied { .. }), "{refused}");
    assert!(refused.to_string().contains("jwt.json"), "{refused}");
}

#[tokio::test]
async fn given_backend_keeps_the_memberships_of_the_builder() {
    let folder = tempfile::tempdir().unwrap();
    let memberships = folder.path().join("memberships.toml");
    let text = format!("[[organization]]\nid = \"{}\"\n", OrganizationId::TBD);
    std::fs::write(&memberships, text).unwrap();
    let builder = Catalog::builder().with_backend(erased(&folder.path().join("registry")));
    let catalog = builder.with_memberships(&memberships).connect().await.unwrap();
    let refused = catalog.in_organization(OrganizationId::TBD).create("test/repo").await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
}

#[tokio::test]
async fn given_backend_rejects_unsupported_options() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || Catalog::builder().with_backend(erased(folder.path()));
    for builder in [
        builder().with_credentials_lifetime(Duration::from_secs(3600)),
        builder().with_require_scoped(true),
        builder().with_endpoint_url("http://127.0.0.1:1"),
        builder().with_full_scan(true),
    ] {
        let error = builder.connect().await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
    }
}

#[tokio::test]
async fn given_backend_keeps_the_memberships_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[[organization]]\nid = \"{}\"\n", OrganizationId::TBD);
    std::fs::write(folder.path().join("memberships.toml"), text).unwrap();
    let builder = Catalog::builder().with_backend(erased(folder.path()));
    let catalog = builder.with_organization(OrganizationId::TBD).connect().await.unwrap();
    let refused = catalog.create("test/repo").await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
}

/// Counts the created repositories.
#[derive(Debug, Default)]
struct CreateCounter(AtomicUsize);

#[async_trait::async_trait]
impl BackendLayer for CreateCounter {
    async fn create_repository(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        inner.create_repository(path, options).await
    }
}

#[tokio::test]
async fn layer_sees_only_permitted_calls() {
    let folder = tempfile::tempdir().unwrap();
    let counter = Arc::new(CreateCounter::default());
    let catalog = builder(folder.path()).with_layer(Arc::clone(&counter)).connect().await.unwrap();
    catalog.create("test/repo").await.unwrap();
    let robot = catalog.acting_as(single_user("robot:nightly".parse().unwrap()));
    robot.create("test/other").await.unwrap_err();
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    assert_eq!(catalog.list().try_collect::<Vec<_>>().await.unwrap().len(), 1);
}

#[tokio::test]
async fn audit_records_digests_of_pushes_and_copies() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, audit) = (folder.path().join("in"), folder.path().join("audit.jsonl"));
    SampleImage::new("hello").write_oci_layout(&layout, None).unwrap();
    let builder = builder(&folder.path().join("registry")).with_audit(&audit);
    let catalog = builder.connect().await.unwrap();
    catalog.create("test/repo").await.unwrap();
    let source = format!("oci:{}", layout.display());
    let pushed = catalog.push("test/repo:v1", &source).await.unwrap();
    catalog.copy("test/repo:v1", "test/repo:v2").await.unwrap();
    let text = std::fs::read_to_string(audit).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let changes = events.filter(|event| event["event"] == "change" && event["action"] == "push");
    let changes: Vec<_> = changes.collect();
    let field_values =
        |field: &str| changes.iter().map(|event| event[field].clone()).collect::<Vec<_>>();
    assert_eq!(field_values("reference"), ["v1", "v2"]);
    assert_eq!(field_values("digest"), vec![pushed.digest().to_string(); 2]);
    assert!(changes[1]["source"].as_str().unwrap().ends_with("/test/repo:v1"), "{changes:?}");
}

#[tokio::test]
async fn image_is_described_and_deleted_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("in");
    SampleImage::new("hello").write_oci_layout(&layout, None).unwrap();
    let catalog = builder(&folder.path().join("registry")).connect().await.unwrap();
    assert!(catalog.create_if_missing("test/repo").await.unwrap().is_new);
    assert!(!catalog.create_if_missing("test/repo").await.unwrap().is_new);
    let source = format!("oci:{}", layout.display());
    let pushed = catalog.push("test/repo", &source).await.unwrap();
    let image = catalog.describe_image("test/repo").await.unwrap();
    assert_eq!((&image.digest, image.tags[0].as_str()), (pushed.digest(), "latest"));
    let unnamed = catalog.delete_image("test/repo").await.unwrap_err();
    assert!(matches!(unnamed, Error::InvalidInput { .. }), "{unnamed}");
    catalog.delete_image("test/repo:latest").await.unwrap();
    let gone = catalog.describe_image("test/repo").await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}

#[tokio::test]
async fn client_of_a_folder_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = builder(folder.path()).connect().await.unwrap();
    catalog.create("test/repo").await.unwrap();
    let client = catalog.client("test/repo", Access::Pull).await.unwrap();
    assert!(client.tags().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn whoami_names_the_caller_and_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = builder(folder.path()).connect().await.unwrap();
    let report = serde_json::to_value(catalog.whoami().await.unwrap()).unwrap();
    assert_eq!(report["identity"]["kind"], "local_user");
    assert_eq!(report["organizations"][0]["organization"], "*");
    assert_eq!(report["isolation_layers"], serde_json::json!(["credentials"]));
    let robot = catalog.acting_as(single_user("robot:a".parse().unwrap()));
    assert_eq!(robot.whoami().await.unwrap().principal.to_string(), "robot:a");
    assert!(robot.allows(Action::Pull, OrganizationId::TBD).await.unwrap());
    assert!(!robot.allows(Action::CreateRepository, OrganizationId::TBD).await.unwrap());
}

/// AWS and the audit record each principal of a service, although one program makes all calls.
#[tokio::test]
async fn catalog_names_each_principal_to_aws() {
    let role = Role::new("ark-registry")
        .with_trust_policy(
            r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
                "Principal": {"AWS": "arn:aws:iam::095412845506:root"}}}"#,
        )
        .with_policy(
            r#"{"Version": "2012-10-17",
                "Statement": {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}}"#,
        );
    let cloud = Cloud::start_with(|aws| aws.with_role(role)).await;
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let role = "arn:aws:iam::095412845506:role/ark-registry".parse().unwrap();
    let registry = format!("ecr://{}/prod", cloud.aws.host()).parse().unwrap();
    let config = cloud.config(cloud.admin.access_key(), None);
    let builder = Catalog::builder().with_registry(registry).with_role(role);
    let builder = builder.with_sdk_config(config).with_audit(&audit);
    let catalog = builder.with_organization(OrganizationId::TBD).connect().await.unwrap();
    let hostile = "user:bob, of the \"team\" ü";
    for (name, repository, tag, session) in [
        ("user:alice", "by/alice", "user:alice", "user.alice"),
        // AWS accepts these characters neither in session names nor in tags.
        (hostile, "by/bob", "user:bob--of-the--team---+", "user-bob,-of-the--team---+"),
    ] {
        let caller = catalog.acting_as(single_user(name.parse().unwrap()));
        caller.create(repository).await.unwrap();
        let tags = catalog.describe(repository).await.unwrap().resource_tags.unwrap();
        assert!(tags["ark:created-by"].starts_with(tag), "{tags:?}");
        caller.credentials(repository, Access::Pull).await.unwrap();
        let calls = cloud.aws.calls();
        let login = calls.iter().rfind(|call| call.action == "ecr:GetAuthorizationToken").unwrap();
        let principal = login.principal.as_deref().unwrap();
        let sessions = "arn:aws:sts::095412845506:assumed-role/ark-registry/";
        assert!(principal.starts_with(&format!("{sessions}{session}")), "{principal}");
    }
    let audit = std::fs::read_to_string(audit).unwrap();
    let events = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let changes = events.filter(|event| event["event"] == "change");
    let principals: Vec<_> = changes.map(|event| event["principal"].clone()).collect();
    assert_eq!(principals, ["user:alice", hostile]);
}
