//! A repository of another organization answers as one that does not exist, after the same work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::identity::Principal;
use ark_container_core::model::{OrganizationId, Organizations};
use ark_container_core::permission::{
    Action, AuditFile, Permissioned, Policy, StandardPolicy, policy_fn,
};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::{Error, RegistryBackend};
use futures_util::{StreamExt, stream};

use super::{OTHER, attempt, path};

const TBD: OrganizationId = OrganizationId::TBD;

fn alice() -> Principal {
    Principal::new("user:alice".parse().unwrap(), TBD.into(), Organizations::none())
}

/// The standard rules, and how often they were asked for.
fn counting() -> (Arc<AtomicUsize>, impl Policy) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let policy = policy_fn(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(StandardPolicy.decision(request))
    });
    (asked, policy)
}

/// What alice gets to see of an attempt, and what it took, with nothing of what she typed.
#[derive(Debug, PartialEq)]
struct Trace {
    error: String,
    decisions: usize,
    events: Vec<serde_json::Value>,
}

/// Attempts every action on a repository of `OTHER`, which has it or not.
async fn traces(exists: bool) -> Vec<Trace> {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalBackend::open(Some(&folder.path().join("registry"))).unwrap();
    if exists {
        local.create_repository(&path(OTHER), &CreateOptions::default()).await.unwrap();
    }
    let mut traces = Vec::new();
    for action in Action::ALL {
        let file = AuditFile::new(folder.path().join(format!("{action}.jsonl")));
        let (asked, policy) = counting();
        let backend = Permissioned::new(local.clone(), policy, alice()).with_audit(file.clone());
        let error = attempt(&backend, action, OTHER).await.unwrap_err();
        assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
        let lines = std::fs::read_to_string(file.path()).unwrap();
        let event = |line| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            for of_this_call in ["time", "request"] {
                event.as_object_mut().unwrap().remove(of_this_call).unwrap();
            }
            event
        };
        traces.push(Trace {
            error: error.to_string(),
            decisions: asked.load(Ordering::Relaxed),
            events: lines.lines().map(event).collect(),
        });
    }
    traces
}

#[tokio::test]
async fn what_is_foreign_answers_as_what_is_missing() {
    let (foreign, missing) = (traces(true).await, traces(false).await);
    assert_eq!(foreign, missing);
    for trace in foreign {
        assert_eq!((trace.decisions, trace.events.len()), (1, 1), "{trace:?}");
        assert_eq!(trace.events[0]["rule"], "not-a-member");
    }
}

#[tokio::test]
async fn a_listing_is_the_same_work_whatever_others_have() {
    let mut work = Vec::new();
    for others in [0, 1000] {
        let mut inner = MockRegistryBackend::new();
        let own: Organizations = [TBD, OrganizationId::GLOBAL].into_iter().collect();
        // Nobody else's are asked for, and a row that comes unasked costs no decision.
        inner.expect_list_repositories().once().withf(move |asked| *asked == own).returning(
            move |_| {
                let others = (1..=others).map(OrganizationId::from_u128);
                stream::iter(others.map(super::repository).map(Ok)).boxed()
            },
        );
        let (asked, policy) = counting();
        let backend = Permissioned::new(inner, policy, alice());
        let rows = backend.list_repositories(&Organizations::All).collect::<Vec<_>>().await;
        assert!(rows.is_empty());
        work.push(asked.load(Ordering::Relaxed));
    }
    assert_eq!(work, [2, 2]);
}
