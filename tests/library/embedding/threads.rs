//! Checks at compile time that handles are `Send` and `Sync`, and that their futures are `Send`. No code runs.

use std::sync::Arc;

use ark_container_core::backend::Observed;
use ark_container_core::backend::ecr::{EcrBackend, EcrBackendBuilder};
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::catalog::{CatalogBuilder, Inspect, Prune};
use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::distribution::Client;
use ark_container_core::identity::{KeySet, MembershipsFile, Principal, TokenFile, TokenVerifier};
use ark_container_core::model::{Access, Reference, RepositoryPath};
use ark_container_core::permission::{AuditFile, Permissioned};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::transfer::{Copy, Pull};
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{Catalog, Error, RegistryBackend};

fn everywhere<T: Send + Sync>() {}
fn cloned_for_each_task<T: Clone + Send + Sync + 'static>() {}
fn sendable(_: impl Future + Send) {}
fn spawnable<F: IntoFuture<IntoFuture: Send + 'static>>(_: F) {}

#[test]
fn handles_are_send_and_sync() {
    cloned_for_each_task::<Catalog>();
    cloned_for_each_task::<CatalogBuilder>();
    cloned_for_each_task::<Arc<dyn RegistryBackend>>();
    cloned_for_each_task::<EcrBackend>();
    cloned_for_each_task::<LocalBackend>();
    cloned_for_each_task::<Observed<LocalBackend>>();
    // A clone shares the backend, which need not be `Clone`.
    cloned_for_each_task::<Permissioned<MockRegistryBackend>>();
    cloned_for_each_task::<Permissioned<Arc<dyn RegistryBackend>>>();
    cloned_for_each_task::<Client>();
    cloned_for_each_task::<RegistryCredentials>();
    cloned_for_each_task::<CredentialsCache>();
    cloned_for_each_task::<AuditFile>();
    cloned_for_each_task::<MembershipsFile>();
    cloned_for_each_task::<Principal>();
    cloned_for_each_task::<KeySet>();
    cloned_for_each_task::<TokenFile>();
    cloned_for_each_task::<TokenVerifier>();
    cloned_for_each_task::<Push>();
    cloned_for_each_task::<Pull>();
    cloned_for_each_task::<Copy>();
    cloned_for_each_task::<Inspect>();
    cloned_for_each_task::<Prune>();
    everywhere::<EcrBackendBuilder>();
    everywhere::<Error>();
}

#[test]
fn futures_are_send() {
    let catalog = Catalog::from_backend_as_administrator(MockRegistryBackend::new());
    sendable(Catalog::from_env());
    sendable(Catalog::builder().connect());
    sendable(catalog.principal());
    sendable(catalog.create("a"));
    sendable(catalog.describe("a"));
    sendable(catalog.credentials("a", Access::Pull));
    sendable(catalog.push("a:v1", "oci:layout"));
    sendable(catalog.pull("a:v1", "oci:layout"));
    sendable(catalog.resolve("a:v1"));
    sendable(catalog.resolve_for("a:v1", &"linux/arm64".parse().unwrap()));
    sendable(catalog.tag("a:v1", "v2"));
    spawnable(catalog.inspect("a:v1"));
    spawnable(catalog.prune("a"));
    sendable(catalog.prune("a").plan());

    let backend: Arc<dyn RegistryBackend> = Arc::new(MockRegistryBackend::new());
    let path: RepositoryPath = "prod/11111111-2222-3333-4444-555555555555/a".parse().unwrap();
    let reference: Reference = "v1".parse().unwrap();
    let source: ImageSource = "oci:layout".parse().unwrap();
    spawnable(Push::new(backend.clone(), &path, source));
    spawnable(Pull::new(backend.clone(), &path, reference.clone(), std::path::Path::new("layout")));
    spawnable(Copy::new(backend, &path, reference, &path));
}
