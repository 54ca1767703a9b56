//! Listings: gated where an organization is asked for, narrowed where all are, filtered always.

use std::collections::BTreeSet;
use std::sync::Arc;

use ark_container_core::identity::{Principal, single_user};
use ark_container_core::model::{OrganizationId, Organizations};
use ark_container_core::permission::{Action, Decision, Permissioned, Policy, PolicyRequest};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::{Error, RegistryBackend, Result};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{OTHER, expecting_one, guarded, repository};

const TBD: OrganizationId = OrganizationId::TBD;
const GLOBAL: OrganizationId = OrganizationId::GLOBAL;

/// A backend that must be asked for `expected` and answers with everything that it has.
fn telling_too_much(expected: Organizations) -> MockRegistryBackend {
    let mut inner = MockRegistryBackend::new();
    let asked = move |organizations: &Organizations| *organizations == expected;
    inner.expect_list_repositories().once().withf(asked).returning(|_| {
        stream::iter([TBD, OTHER, GLOBAL].map(|organization| Ok(repository(organization)))).boxed()
    });
    inner
}

async fn listed(
    backend: &dyn RegistryBackend,
    organizations: Organizations,
) -> BTreeSet<OrganizationId> {
    let rows = backend.list_repositories(&organizations);
    rows.map(|row| row.unwrap().url.path().organization()).collect().await
}

fn alice() -> Principal {
    Principal::new("user:alice".parse().unwrap(), TBD.into(), Organizations::none())
}

#[tokio::test]
async fn all_means_ones_own_and_the_global_organization() {
    let inner = telling_too_much([TBD, GLOBAL].into_iter().collect());
    let rows = listed(&guarded(inner, alice()), Organizations::All).await;
    assert_eq!(rows, BTreeSet::from([TBD, GLOBAL]));
}

#[tokio::test]
async fn rows_that_were_not_asked_for_are_left_out() {
    let inner = telling_too_much(TBD.into());
    let rows = listed(&guarded(inner, alice()), TBD.into()).await;
    assert_eq!(rows, BTreeSet::from([TBD]));
}

#[tokio::test]
async fn one_denied_organization_denies_the_listing() {
    let backend = guarded(MockRegistryBackend::new(), alice());
    let asked = [TBD, OTHER].into_iter().collect();
    let items: Vec<_> = backend.list_repositories(&asked).collect().await;
    let [Err(error @ Error::PermissionDenied { .. })] = items.as_slice() else {
        panic!("{items:?}")
    };
    let expected = format!("user:alice may not list the repositories of organization {OTHER}");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn asking_for_nothing_asks_nobody() {
    let backend = guarded(MockRegistryBackend::new(), alice());
    assert!(listed(&backend, Organizations::none()).await.is_empty());
}

#[tokio::test]
async fn whoever_belongs_to_all_is_shown_all() {
    let inner = telling_too_much(Organizations::All);
    let everything = single_user("user:alice".parse().unwrap());
    let rows = listed(&guarded(inner, everything), Organizations::All).await;
    assert_eq!(rows, BTreeSet::from([TBD, OTHER, GLOBAL]));
}

/// Hides one organization from everyone.
#[derive(Debug)]
struct Hiding(OrganizationId);

#[async_trait]
impl Policy for Hiding {
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        Ok(match request.organization == self.0 {
            true => Decision::deny("hidden"),
            false => Decision::allow("shown"),
        })
    }
}

#[tokio::test]
async fn the_policy_has_the_last_word_on_every_row() {
    let everything = single_user("user:alice".parse().unwrap());
    let inner = telling_too_much(Organizations::All);
    let backend = Permissioned::new(inner, Hiding(OTHER), everything);
    let rows = listed(&backend, Organizations::All).await;
    assert_eq!(rows, BTreeSet::from([TBD, GLOBAL]));

    let inner = telling_too_much(TBD.into());
    let backend = Permissioned::new(inner, Hiding(GLOBAL), alice());
    assert_eq!(listed(&backend, Organizations::All).await, BTreeSet::from([TBD]));
}

#[tokio::test]
async fn another_principal_is_served_by_the_same_backend() {
    let inner: Arc<dyn RegistryBackend> = Arc::new(expecting_one(Action::ListRepositories, OTHER));
    let for_alice = Permissioned::new(inner, Hiding(GLOBAL), alice());
    let bob = Principal::new("user:bob".parse().unwrap(), OTHER.into(), Organizations::none());
    let for_bob = for_alice.for_principal(bob);
    assert_eq!(for_bob.principal().await.unwrap().to_string(), "user:bob");
    assert_eq!(for_alice.principal().await.unwrap().to_string(), "user:alice");
    assert_eq!(listed(&for_bob, OTHER.into()).await, BTreeSet::from([OTHER]));
}
