//! Decisions of the policy: the calls that reach the backend, and the text of denials.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::identity::{Principal, PrincipalKind, PrincipalName, single_user};
use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::permission::{
    Action, AuditFile, Decision, Explanation, IsolationLayer, MembershipsPolicy, Permissioned,
    Policy, PolicyRequest, StandardPolicy, explain, policy_fn,
};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::{Error, RegistryBackend, Result};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::memberships::file;
use super::{GLOBAL, OTHER, TBD, alice, attempt, expecting_one, guarded, path, repository};

#[tokio::test]
async fn administrators_of_every_kind_may_do_everything() {
    for &kind in PrincipalKind::ALL {
        for organization in [TBD, GLOBAL] {
            let name = PrincipalName::new(kind, "root").unwrap();
            let root = Principal::new(name, Organizations::none(), organization.into());
            for &action in Action::ALL {
                let backend = guarded(expecting_one(action, organization), root.clone());
                attempt(&backend, action, organization).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn credentials_need_every_organization_of_their_scope() {
    let backend = guarded(MockRegistryBackend::new(), alice());
    let both = [TBD, OTHER];
    let scope = Scope::organizations(Stage::default(), both, Access::Pull);
    let error = backend.credentials(&scope, &Default::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("user:alice may not pull from organization {OTHER}"));
    let nothing = Scope::organizations(Stage::default(), [], Access::Pull);
    let error = backend.credentials(&nothing, &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
}

#[tokio::test]
async fn denial_names_principal_action_and_repository() {
    let robot =
        Principal::new("robot:nightly".parse().unwrap(), Organizations::All, Organizations::none());
    let backend = guarded(MockRegistryBackend::new(), robot);
    let error = attempt(&backend, Action::Push, TBD).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "robot:nightly may not push to \
         prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video"
    );
}

/// Returns the standard policy with a counter of its decisions.
fn counting() -> (Arc<AtomicUsize>, impl Policy) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let policy = policy_fn(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(StandardPolicy.decision(request))
    });
    (asked, policy)
}

/// The observable result of an attempt: its error without the user's input, and its cost.
#[derive(Debug, PartialEq)]
struct Trace {
    error: String,
    decisions: usize,
    events: Vec<serde_json::Value>,
}

/// Attempts every action on a repository of `OTHER`, which exists or not.
async fn traces(exists: bool) -> Vec<Trace> {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalBackend::open(Some(&folder.path().join("registry"))).unwrap();
    if exists {
        local.create_repository(&path(OTHER), &CreateOptions::default()).await.unwrap();
    }
    let mut traces = Vec::new();
    for &action in Action::ALL {
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
async fn denial_and_audit_are_alike_for_missing_repository() {
    let (foreign, missing) = (traces(true).await, traces(false).await);
    assert_eq!(foreign, missing);
    for trace in foreign {
        assert_eq!((trace.decisions, trace.events.len()), (1, 1), "{trace:?}");
        assert_eq!(trace.events[0]["rule"], "not-a-member");
    }
}

#[tokio::test]
async fn listing_takes_no_decision_for_foreign_repositories() {
    let mut work = Vec::new();
    for others in [0, 1000] {
        let mut inner = MockRegistryBackend::new();
        let own: Organizations = [TBD, GLOBAL].into_iter().collect();
        // The backend is not asked for other organizations, and a row of another organization needs no decision.
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

/// Returns a backend that expects a listing of `expected` and returns everything.
fn listing_everything(expected: Organizations) -> MockRegistryBackend {
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

#[tokio::test]
async fn listing_asks_for_and_shows_own_organizations() {
    let everything = || single_user("user:alice".parse().unwrap());
    let own: Organizations = [TBD, GLOBAL].into_iter().collect();
    for (principal, asked, passed_on, shown) in [
        (alice(), Organizations::All, own, &[TBD, GLOBAL][..]),
        (alice(), TBD.into(), TBD.into(), &[TBD]),
        (everything(), Organizations::All, Organizations::All, &[TBD, OTHER, GLOBAL]),
    ] {
        let backend = guarded(listing_everything(passed_on), principal);
        assert_eq!(listed(&backend, asked).await, BTreeSet::from_iter(shown.iter().copied()));
    }
}

#[tokio::test]
async fn denied_organization_denies_the_listing() {
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
async fn empty_listing_does_not_call_the_backend() {
    let backend = guarded(MockRegistryBackend::new(), alice());
    assert!(listed(&backend, Organizations::none()).await.is_empty());
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
async fn policy_filters_each_listed_repository() {
    let everything = single_user("user:alice".parse().unwrap());
    let inner = listing_everything(Organizations::All);
    let backend = Permissioned::new(inner, Hiding(OTHER), everything);
    let rows = listed(&backend, Organizations::All).await;
    assert_eq!(rows, BTreeSet::from([TBD, GLOBAL]));

    let inner = listing_everything(TBD.into());
    let backend = Permissioned::new(inner, Hiding(GLOBAL), alice());
    assert_eq!(listed(&backend, Organizations::All).await, BTreeSet::from([TBD]));
}

#[tokio::test]
async fn backend_serves_another_principal() {
    let inner: Arc<dyn RegistryBackend> = Arc::new(expecting_one(Action::ListRepositories, OTHER));
    let for_alice = Permissioned::new(inner, Hiding(GLOBAL), alice());
    let bob = Principal::new("user:bob".parse().unwrap(), OTHER.into(), Organizations::none());
    let for_bob = for_alice.for_principal(bob);
    assert_eq!(for_bob.principal().await.unwrap().to_string(), "user:bob");
    assert_eq!(for_alice.principal().await.unwrap().to_string(), "user:alice");
    assert_eq!(listed(&for_bob, OTHER.into()).await, BTreeSet::from([OTHER]));
}

fn offline() -> Error {
    Error::temporary("the directory of the company is offline")
        .with_source(std::io::Error::other("timeout"))
}

#[tokio::test]
async fn failing_policy_denies_every_action() {
    for &action in Action::ALL {
        // A mock without expectations panics at any call.
        let policy = policy_fn(|_| Err(offline()));
        let backend = Permissioned::new(MockRegistryBackend::new(), policy, alice());
        let error = attempt(&backend, action, TBD).await.unwrap_err();
        let resource = match action {
            Action::ListRepositories => format!("organization {TBD}"),
            _ => path(TBD).to_string(),
        };
        // Credentials to push include pull, which is decided first.
        let phrase = if action == Action::Push { Action::Pull } else { action }.phrase();
        let expected = format!("cannot decide whether user:alice may {phrase} {resource}");
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, Error::Temporary { .. }), "{error:?}");
        let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
        assert!(cause.is_temporary(), "{cause:?}");
    }
}

#[tokio::test]
async fn listing_ends_where_the_policy_fails() {
    let mut inner = MockRegistryBackend::new();
    inner.expect_list_repositories().once().returning(|_| {
        stream::iter([TBD, OTHER, TBD].map(|organization| Ok(repository(organization)))).boxed()
    });
    let policy = policy_fn(|request| match request.organization == OTHER {
        true => Err(offline()),
        false => Ok(Decision::allow("shown")),
    });
    let backend = Permissioned::new(inner, policy, single_user("user:alice".parse().unwrap()));
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).collect().await;
    let [Ok(shown), Err(Error::Temporary { message, .. })] = rows.as_slice() else {
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
async fn listing_ends_where_the_backend_fails() {
    let mut inner = MockRegistryBackend::new();
    inner.expect_list_repositories().once().returning(|_| {
        stream::iter([Ok(repository(TBD)), Err(offline()), Ok(repository(TBD))]).boxed()
    });
    let backend = Permissioned::new(inner, StandardPolicy, alice());
    let rows: Vec<_> = backend.list_repositories(&TBD.into()).collect().await;
    assert!(matches!(rows.as_slice(), [Ok(_), Err(Error::Temporary { .. })]), "{rows:?}");
}

#[tokio::test]
async fn failing_policy_cannot_be_explained() {
    let (policy, alice) = (policy_fn(|_| Err(offline())), alice());
    let request = PolicyRequest::new(&alice, Action::Push, TBD);
    let error = explain(&policy, &request, &[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot decide whether user:alice may push to organization {TBD}")
    );
}

const FILE: &str = r#"
[[organization]]
id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
kinds = ["user"]
members = ["robot:build"]
administrators = ["user:carol"]

[organization.rules]
robot = ["pull", "push"]
ingest-job = []

[[organization]]
id = "77777777-7777-4777-7777-777777777777"
administrators = ["user:carol"]
"#;

#[tokio::test]
async fn decision_names_the_line_of_its_rule() {
    let (_folder, file) = file(FILE);
    let policy = MembershipsPolicy::new(file.clone());
    // Principal, action, organization, decision, rule, and the line of the file with the rule.
    let explained = [
        ("user:alice", Action::Push, TBD, true, "member", Some(3)),
        ("user:alice", Action::DeleteImage, TBD, false, "administrators-delete", None),
        ("user:alice", Action::Pull, OTHER, false, "not-a-member", None),
        ("user:alice", Action::Pull, GLOBAL, true, "everyone-reads-global", None),
        ("user:alice", Action::Push, GLOBAL, false, "administrators-change-global", None),
        ("user:carol", Action::DeleteRepository, TBD, true, "administrator", Some(3)),
        ("user:carol", Action::Push, GLOBAL, true, "administrator", Some(13)),
        ("robot:build", Action::Push, TBD, true, "organization-rules", Some(9)),
        ("robot:build", Action::ListImages, TBD, false, "organization-rules", Some(9)),
        ("robot:build", Action::DeleteImage, TBD, false, "robots-read", None),
        ("robot:other", Action::Push, TBD, false, "not-a-member", Some(3)),
        ("ingest-job:1", Action::Pull, TBD, false, "not-a-member", Some(3)),
    ];
    for (who, action, organization, allowed, rule, line) in explained {
        let principal = file.current().principal(who.parse().unwrap());
        let request = PolicyRequest::new(&principal, action, organization);
        let explanation = explain(&policy, &request, &[]).await.unwrap();
        let Explanation { decision, .. } = &explanation;
        let context = format!("{who} {action} {organization}: {decision:?}");
        assert_eq!((decision.is_allowed(), decision.rule()), (allowed, rule), "{context}");
        assert!(decision.reason().is_some_and(|reason| !reason.ends_with('.')), "{context}");
        let origin = line.map(|line| format!("{}:{line}", file.path().display()));
        assert_eq!(decision.origin(), origin.as_deref(), "{context}");
    }
}

/// The claims of a token make members too. Then the file has only rules.
#[tokio::test]
async fn token_claims_have_no_origin_in_the_file() {
    let (_folder, file) = file(FILE);
    let policy = MembershipsPolicy::new(file);
    let claimed = |name: &str, member_of: OrganizationId, administers: Organizations| {
        Principal::new(name.parse().unwrap(), member_of.into(), administers)
    };
    let decide = async |principal: &Principal, action| {
        policy.decide(&PolicyRequest::new(principal, action, TBD)).await.unwrap()
    };

    let member = decide(&claimed("robot:token", TBD, Organizations::none()), Action::Push).await;
    assert!(member.is_allowed() && member.origin().is_some(), "{member:?}");
    let administrator = decide(&claimed("robot:token", TBD, TBD.into()), Action::DeleteImage).await;
    assert_eq!((administrator.rule(), administrator.origin()), ("administrator", None));
    let stranger = decide(&claimed("user:alice", OTHER, Organizations::none()), Action::Pull).await;
    assert_eq!((stranger.rule(), stranger.origin()), ("not-a-member", None));
}

#[tokio::test]
async fn explanation_lists_the_isolation_layers_that_apply() {
    use IsolationLayer::{Credentials, Iam, Policy};
    let alice = single_user("user:alice".parse().unwrap());
    let cases: &[(Action, &[IsolationLayer], &[IsolationLayer])] = &[
        (Action::Push, IsolationLayer::ALL, &[Policy, Credentials, Iam]),
        (Action::CreateRepository, IsolationLayer::ALL, &[Policy, Iam]),
        (Action::ListImages, &[Policy, Credentials], &[Policy]),
        (Action::Pull, &[Credentials], &[Credentials]),
        (Action::ListRepositories, &[], &[]),
    ];
    for (action, active, expected) in cases {
        let request = PolicyRequest::new(&alice, *action, TBD);
        let explanation = explain(&StandardPolicy, &request, active).await.unwrap();
        assert_eq!(explanation.isolation_layers, *expected, "{action}");
    }
}

#[tokio::test]
async fn policy_follows_the_file() {
    let (_folder, file) = file(FILE);
    let robot = file.current().principal("robot:build".parse().unwrap());
    let policy = MembershipsPolicy::new(file.clone());
    let push = PolicyRequest::new(&robot, Action::Push, TBD);
    assert!(policy.decide(&push).await.unwrap().is_allowed());
    fs::write(file.path(), FILE.replace(r#"["pull", "push"]"#, r#"["pull"]"#)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while policy.decide(&push).await.unwrap().is_allowed() {
        assert!(Instant::now() < deadline, "the file is not read again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(policy.decide(&push).await.unwrap().rule(), "organization-rules");
}
