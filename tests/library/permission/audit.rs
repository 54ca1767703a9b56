//! One event per decision, with stable fields and no secret.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use ark_container_core::RegistryBackend;
use ark_container_core::identity::{Principal, single_user};
use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::permission::{AUDIT_TARGET, Action};
use ark_container_core::testing::MockRegistryBackend;
use futures_util::StreamExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{OTHER, attempt, expecting_one, guarded};

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
        assert_eq!(*event.metadata().level(), Level::INFO);
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0.join(" "));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn alice() -> Principal {
    let tbd = Organizations::from(OrganizationId::TBD);
    Principal::new("user:alice".parse().unwrap(), tbd, Organizations::none())
}

#[tokio::test]
async fn each_decision_about_a_repository_is_one_event() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::CreateRepository, OrganizationId::TBD);
    attempt(&guarded(inner, alice()), Action::CreateRepository, OrganizationId::TBD).await.unwrap();
    assert_eq!(
        recorder.take(),
        ["principal=user:alice kind=user organization=2ea25035-6aa4-42fb-9955-92288ea1b972 \
          repository=prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video \
          action=create-repository decision=allow rule=member"]
    );

    let denied = guarded(MockRegistryBackend::new(), alice());
    attempt(&denied, Action::DeleteRepository, OrganizationId::TBD).await.unwrap_err();
    assert_eq!(
        recorder.take(),
        ["principal=user:alice kind=user organization=2ea25035-6aa4-42fb-9955-92288ea1b972 \
          repository=prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video \
          action=delete-repository decision=deny rule=administrators-delete"]
    );
}

#[tokio::test]
async fn credentials_are_a_decision_for_each_action_that_they_open() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::Push, OrganizationId::TBD);
    let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Push);
    guarded(inner, alice()).credentials(&scope).await.unwrap();
    let of = "principal=user:alice kind=user organization=2ea25035-6aa4-42fb-9955-92288ea1b972";
    let events = recorder.take();
    assert_eq!(
        events,
        [
            format!("{of} action=pull decision=allow rule=member"),
            format!("{of} action=push decision=allow rule=member"),
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
    let of = "principal=user:alice kind=user organization=";
    assert_eq!(
        recorder.take(),
        [
            format!(
                "{of}2ea25035-6aa4-42fb-9955-92288ea1b972 action=list-repositories \
                 decision=allow rule=member"
            ),
            format!(
                "{of}77777777-7777-4777-7777-777777777777 action=list-repositories \
                 decision=allow rule=everyone-reads-global"
            ),
        ]
    );

    let inner = expecting_one(Action::ListRepositories, OTHER);
    let backend = guarded(inner, single_user("robot:nightly".parse().unwrap()));
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).collect().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        recorder.take(),
        ["principal=robot:nightly kind=robot organization=* action=list-repositories \
          decision=allow rule=member-of-every-organization"]
    );
}
