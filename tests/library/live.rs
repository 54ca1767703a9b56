//! The opt-in suite against a real AWS account; `tests/README.md` says what it creates and removes.
//!
//! Without `ARK_LIVE_ECR` the tests pass without checking anything. Their names start with `opt_in`.

use std::env;
use std::time::SystemTime;

use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::credentials::Narrowing;
use ark_container_core::distribution::Client;
use ark_container_core::model::{
    Access, OrganizationId, Reference, RegistryLocation, RepositoryPath, Scope,
};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::{self, Conformance, HttpImages, PutImage as _};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt as _};

/// The registry to check, as `ecr://<host>/<stage>`.
const LOCATION: &str = "ARK_LIVE_ECR";
/// A role that may do everything in the repositories of the stage.
const ROLE: &str = "ARK_LIVE_ROLE_ARN";

/// Prefix of every organization GUID of this suite. Repositories of an interrupted run are recognized by it.
const ORGANIZATIONS: u128 = 0xa11f_e000 << 96;

/// Returns the registry that the environment names, with the role if there is one; `None` without a registry.
fn opted_in(role: Option<String>) -> Option<EcrBackend> {
    let location = env::var(LOCATION).ok()?.parse().unwrap();
    let RegistryLocation::Ecr { host, stage } = location else {
        panic!("ARK_LIVE_ECR is ecr://<host>/<stage>");
    };
    let mut builder = EcrBackend::builder(host, stage).with_principal("robot:live-suite");
    if let Some(role) = role {
        builder = builder.with_role_arn(role).with_require_scoped(true);
    }
    Some(builder.build())
}

/// Returns organizations that nobody else uses.
fn own_organizations() -> [OrganizationId; 3] {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let run = (since.as_nanos() << 8) % (1 << 96);
    [1, 2, 3].map(|number| OrganizationId::from_u128(ORGANIZATIONS | run | number))
}

#[tokio::test(flavor = "multi_thread")]
async fn opt_in_by_ark_live_ecr_account_passes_conformance() {
    let Some(backend) = opted_in(env::var(ROLE).ok()) else { return };
    conformance::all(&Conformance::new(&backend, own_organizations())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opt_in_by_ark_live_token_honours_session_policy() {
    let Ok(role) = env::var(ROLE) else { return };
    let Some(backend) = opted_in(Some(role)) else { return };
    let [own, other, _] = own_organizations();
    let path = |organization| backend.repository_path(organization, &"live".parse().unwrap());
    let (own, other) = (path(own).unwrap(), path(other).unwrap());
    for path in [&own, &other] {
        backend.create_repository(path, &CreateOptions::default()).await.unwrap();
    }
    let findings = findings(&backend, &own, &other).await;
    for path in [&own, &other] {
        let options = DeleteOptions::default().with_force(true);
        backend.delete_repository(path, &options).await.unwrap();
    }
    assert_eq!(findings, Vec::<&str>::new());
}

/// Returns the operations that a token for one repository permits and its session policy does not grant.
async fn findings(
    backend: &EcrBackend,
    own: &RepositoryPath,
    other: &RepositoryPath,
) -> Vec<&'static str> {
    let image = SampleImage::new("live");
    let reference = Reference::Tag("v1".parse().unwrap());
    let images = HttpImages::new(backend.clone());
    for path in [own, other] {
        images.put(path, &reference, &image).await.unwrap();
    }
    let client = async |access, path: &RepositoryPath| {
        let scope = Scope::repository(own.clone(), access);
        let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
        assert_eq!(credentials.narrowing, Narrowing::Scoped);
        Client::new(backend.repository_url(path), credentials).unwrap()
    };
    let pull = client(Access::Pull, own).await;
    assert_eq!(pull.fetch_manifest(&reference).await.unwrap().digest, image.digest());
    let mut findings = Vec::new();
    let mut must_be_denied = |denied: Option<Error>, finding| match denied {
        Some(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {}
        Some(error) => panic!("neither granted nor denied: {error}"),
        None => findings.push(finding),
    };
    let other = client(Access::Push, other).await;
    must_be_denied(other.fetch_manifest(&reference).await.err(), "pulls another repository");
    must_be_denied(other.start_upload().await.err(), "pushes to another repository");
    must_be_denied(pull.start_upload().await.err(), "pushes with a scope for pulling");
    findings
}
