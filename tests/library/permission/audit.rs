//! One event per decision, change and login handed out, with stable fields and no secret.

use std::fmt::Debug;
use std::fs;
use std::sync::{Arc, Mutex};

use ark_container_core::identity::{IdentitySource, Principal, single_user};
use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::permission::{
    AUDIT_TARGET, Action, AuditFile, Permissioned, StandardPolicy, policy_fn,
};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::{Error, RegistryBackend, Result};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{OTHER, attempt, expecting_one, guarded, path};

/// Keeps what is recorded at the audit's target, an event a line.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

/// The fields of one event, as `name=value`.
struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(format!("{}={value:?}", field.name()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push(format!("{}={value}", field.name()));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == AUDIT_TARGET
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Vec::new());
        if *event.metadata().level() != Level::INFO {
            fields.0.push(event.metadata().level().to_string());
        }
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0.join(" "));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Recorder {
    /// The events since the last time, with the first call's request id replaced by `1`, the next by
    /// `2` and so on.
    fn take(&self) -> Vec<String> {
        let mut calls: Vec<String> = Vec::new();
        let mut numbered = |event: String| {
            let request = event.split(' ').find_map(|field| field.strip_prefix("request="));
            let request = request.unwrap().to_owned();
            let known = calls.iter().position(|call| *call == request);
            let number = 1 + known.unwrap_or(calls.len());
            let numbered = event.replace(&request, &number.to_string());
            calls.extend(known.is_none().then_some(request));
            numbered
        };
        let events = std::mem::take(&mut *self.0.lock().unwrap());
        events.into_iter().map(&mut numbered).collect()
    }
}

fn administrator() -> Principal {
    let tbd = Organizations::from(OrganizationId::TBD);
    Principal::new("user:root".parse().unwrap(), tbd.clone(), tbd)
}

fn alice() -> Principal {
    let tbd = Organizations::from(OrganizationId::TBD);
    Principal::new("user:alice".parse().unwrap(), tbd, Organizations::none())
}

/// What an event of alice's first call begins with.
fn of_alice(event: &str) -> String {
    let tbd = OrganizationId::TBD;
    format!("event={event} request=1 principal=user:alice kind=user organization={tbd}")
}

#[tokio::test]
async fn a_decision_and_the_change_that_follows_have_one_request_id() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::CreateRepository, OrganizationId::TBD);
    attempt(&guarded(inner, alice()), Action::CreateRepository, OrganizationId::TBD).await.unwrap();
    let path = path(OrganizationId::TBD);
    let about = format!("repository={path} action=create-repository");
    assert_eq!(
        recorder.take(),
        [
            format!("{} {about} decision=allow rule=member", of_alice("decision")),
            format!("{} {about} outcome=done", of_alice("change")),
        ]
    );

    let denied = guarded(MockRegistryBackend::new(), alice());
    attempt(&denied, Action::DeleteRepository, OrganizationId::TBD).await.unwrap_err();
    assert_eq!(
        recorder.take(),
        [format!(
            "{} repository={path} action=delete-repository decision=deny \
             rule=administrators-delete",
            of_alice("decision")
        )]
    );
}

#[tokio::test]
async fn a_change_that_fails_is_recorded_with_its_causes() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let mut inner = MockRegistryBackend::new();
    inner.expect_delete_image().returning(|_, _| {
        Err(Error::failed("cannot delete it").with_source("the disk is worn out"))
    });
    attempt(&guarded(inner, administrator()), Action::DeleteImage, OrganizationId::TBD)
        .await
        .unwrap_err();
    let events = recorder.take();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].contains(" decision=allow rule=administrator"), "{events:?}");
    let outcome = " action=delete-image reference=latest outcome=failed \
                   error=cannot delete it: the disk is worn out";
    assert!(events[1].ends_with(outcome), "{events:?}");
}

#[tokio::test]
async fn a_change_whose_call_is_cancelled_has_an_unknown_outcome() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    // The backend inside waits for ever, and nothing is done.
    let stuck = Permissioned::new(MockRegistryBackend::new(), Arc::new(StandardPolicy), Nobody);
    let backend = Permissioned::new(stuck, Arc::new(StandardPolicy), administrator());
    let call = attempt(&backend, Action::DeleteRepository, OrganizationId::TBD);
    assert!(call.now_or_never().is_none());
    let events = recorder.take();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].starts_with("event=change request=1 "), "{events:?}");
    assert!(events[1].ends_with(" action=delete-repository outcome=unknown"), "{events:?}");
}

/// Whoever asks for the principal waits for ever.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl IdentitySource for Nobody {
    async fn principal(&self) -> Result<Arc<Principal>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_change_that_is_not_in_the_file_is_an_error_event() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let mut inner = MockRegistryBackend::new();
    inner.expect_delete_image().returning({
        let file = file.clone();
        move |_, _| {
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
            Ok(())
        }
    });
    let backend = guarded(inner, administrator()).with_audit(AuditFile::new(&file));
    attempt(&backend, Action::DeleteImage, OrganizationId::TBD).await.unwrap();
    let events = recorder.take();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[1].ends_with(" outcome=done"), "{events:?}");
    assert!(events[2].starts_with("ERROR "), "{events:?}");
    let told = format!("cannot write to the audit file {}", file.display());
    assert!(events[2].contains(" request=1 ") && events[2].contains(&told), "{events:?}");
}

#[tokio::test]
async fn what_cannot_be_decided_is_a_denial_that_says_why() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let policy = policy_fn(|_, _, _| {
        Err(Error::failed("cannot read the rules").with_source("it is a folder"))
    });
    let backend = Permissioned::new(MockRegistryBackend::new(), Arc::new(policy), alice());
    attempt(&backend, Action::Pull, OrganizationId::TBD).await.unwrap_err();
    let path = path(OrganizationId::TBD);
    assert_eq!(
        recorder.take(),
        [format!(
            "{} repository={path} action=pull decision=deny rule=error \
             error=cannot read the rules: it is a folder",
            of_alice("decision")
        )]
    );
}

#[tokio::test]
async fn credentials_are_a_decision_for_each_action_and_a_login_handed_out() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::Push, OrganizationId::TBD);
    let tbd = OrganizationId::TBD;
    let scope = Scope::organizations(Stage::default(), [tbd], Access::Push);
    guarded(inner, alice()).credentials(&scope, &Default::default()).await.unwrap();
    let events = recorder.take();
    assert_eq!(
        events,
        [
            format!("{} action=pull decision=allow rule=member", of_alice("decision")),
            format!("{} action=push decision=allow rule=member", of_alice("decision")),
            format!(
                "{} action=push scope=repository:prod/{tbd}/*:pull,push \
                 expires_at=1970-01-01T00:00:00.000Z narrowing=scoped",
                of_alice("credentials")
            ),
        ]
    );
    assert!(!events.concat().contains("hunter2"));
}

#[tokio::test]
async fn a_listing_is_a_decision_per_organization_and_not_per_row() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::ListRepositories, OTHER);
    let backend = guarded(inner, alice());
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).collect().await;
    assert!(rows.is_empty());
    let allowed = "action=list-repositories decision=allow";
    assert_eq!(
        recorder.take(),
        [
            format!("{} {allowed} rule=member", of_alice("decision")),
            format!(
                "event=decision request=1 principal=user:alice kind=user \
                 organization=77777777-7777-4777-7777-777777777777 {allowed} \
                 rule=everyone-reads-global"
            ),
        ]
    );

    let inner = expecting_one(Action::ListRepositories, OTHER);
    let backend = guarded(inner, single_user("robot:nightly".parse().unwrap()));
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).collect().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        recorder.take(),
        [format!(
            "event=decision request=1 principal=robot:nightly kind=robot organization=* {allowed} \
             rule=member-of-every-organization"
        )]
    );
}
