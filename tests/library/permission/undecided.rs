//! A policy that fails denies, and the failure is told.

use std::error::Error as _;

use ark_container_core::identity::{Principal, single_user};
use ark_container_core::model::{OrganizationId, Organizations};
use ark_container_core::permission::{
    Action, Decision, Permissioned, PolicyRequest, StandardPolicy, explain, policy_fn,
};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::{Error, RegistryBackend};
use futures_util::{StreamExt, stream};

use super::{OTHER, attempt, path, repository};

const TBD: OrganizationId = OrganizationId::TBD;

fn alice() -> Principal {
    single_user("user:alice".parse().unwrap())
}

fn offline() -> Error {
    Error::temporary("the directory of the company is offline")
        .with_source(std::io::Error::other("timeout"))
}

#[tokio::test]
async fn nothing_is_done_while_the_policy_fails() {
    for action in Action::ALL {
        // A mock without expectations panics at any call.
        let policy = policy_fn(|_| Err(offline()));
        let backend = Permissioned::new(MockRegistryBackend::new(), policy, alice());
        let error = attempt(&backend, action, TBD).await.unwrap_err();
        let resource = match action {
            Action::ListRepositories => format!("organization {TBD}"),
            _ => path(TBD).to_string(),
        };
        // Credentials to push open pulling too, which is decided first.
        let phrase = if action == Action::Push { Action::Pull } else { action }.phrase();
        let expected = format!("cannot decide whether user:alice may {phrase} {resource}");
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
        assert!(cause.is_temporary(), "{cause:?}");
    }
}

#[tokio::test]
async fn a_listing_ends_where_the_policy_fails() {
    let mut inner = MockRegistryBackend::new();
    inner.expect_list_repositories().once().returning(|_| {
        stream::iter([TBD, OTHER, TBD].map(|organization| Ok(repository(organization)))).boxed()
    });
    let policy = policy_fn(|request| match request.organization == OTHER {
        true => Err(offline()),
        false => Ok(Decision::allow("shown")),
    });
    let backend = Permissioned::new(inner, policy, alice());
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).collect().await;
    let [Ok(shown), Err(Error::Failed { message, .. })] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(*shown, repository(TBD));
    assert_eq!(
        *message,
        format!(
            "cannot decide whether user:alice may list the repositories of organization {OTHER}"
        )
    );
}

#[tokio::test]
async fn a_listing_ends_where_the_backend_inside_fails() {
    let mut inner = MockRegistryBackend::new();
    inner.expect_list_repositories().once().returning(|_| {
        stream::iter([Ok(repository(TBD)), Err(offline()), Ok(repository(TBD))]).boxed()
    });
    let backend = Permissioned::new(inner, StandardPolicy, alice());
    let rows: Vec<_> = backend.list_repositories(&TBD.into()).collect().await;
    assert!(matches!(rows.as_slice(), [Ok(_), Err(Error::Temporary { .. })]), "{rows:?}");
}

#[tokio::test]
async fn policy_failure_fails_explain() {
    let policy = policy_fn(|_| Err(offline()));
    let alice = alice();
    let request = PolicyRequest::new(&alice, Action::Push, TBD);
    let error = explain(&policy, &request, &[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot decide whether user:alice may push to organization {TBD}")
    );
}
