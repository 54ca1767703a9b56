//! The conformance suite on the local backend: bare, boxed, shared, and wrapped by a policy.

mod faults;

use std::collections::BTreeSet;
use std::sync::Arc;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::identity::{Memberships, single_user};
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::conformance::{self, Conformance, HttpImages};
use tokio::sync::oneshot;

const ORGANIZATIONS: [OrganizationId; 3] =
    [OrganizationId::TBD, OrganizationId::from_u128(0x0123), OrganizationId::from_u128(u128::MAX)];

/// Runs every case on a wrapped local backend whose registry is running.
async fn check<B: RegistryBackend>(wrap: impl FnOnce(LocalBackend) -> B) {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalBackend::open(Some(folder.path())).unwrap();
    let registry = Registry::bind(local.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let images = HttpImages::new(local.clone()).with_endpoint(registry.local_addr());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(registry.serve(async { drop(stopped.await) }));

    let backend = wrap(local);
    conformance::all(&Conformance::new(&backend, ORGANIZATIONS).with_images(&images)).await;

    drop((stop, images));
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract() {
    check(|local| local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_in_a_box() {
    check(|local| Box::new(local) as Box<dyn RegistryBackend>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_when_it_is_shared() {
    check(|local| Arc::new(local) as Arc<dyn RegistryBackend>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_for_its_single_user() {
    let alice = single_user("user:alice".parse().unwrap());
    check(|local| Permissioned::new(local, StandardPolicy, alice)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_keeps_the_contract_for_an_administrator() {
    let tables = ORGANIZATIONS
        .map(|id| format!("[[organization]]\nid = \"{id}\"\nadministrators = [\"user:carol\"]\n"));
    let memberships = Memberships::parse(&tables.concat(), "memberships.toml").unwrap();
    let carol = memberships.principal("user:carol".parse().unwrap());
    check(|local| Permissioned::new(local, StandardPolicy, carol)).await;
}

#[test]
fn case_names_are_unique() {
    let names: BTreeSet<&str> = conformance::cases().map(|case| case.name()).collect();
    assert_eq!(names.len(), conformance::cases().count());
}
