//! A call that is cancelled at any point leaves a record of whatever it may have changed.

use std::path::Path;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::identity::single_user;
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{Action, AuditFile, Permissioned, StandardPolicy};
use ark_container_core::{RegistryBackend, RegistryBackendExt};
use tokio::runtime::{Builder, Runtime};

use super::path;
use crate::cancel::within;

/// A runtime that has finished all that it began once it is dropped.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// The events of a file, each as its kind and how it ended.
fn events(file: &Path) -> Vec<(String, String)> {
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    let event = |line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| event[field].as_str().map(str::to_owned);
        (text("event").unwrap(), text("decision").or(text("outcome")).unwrap())
    };
    lines.lines().map(event).collect()
}

/// Cancels `action` after one poll, two and so on until it is done; answers the outcomes.
fn cancel_everywhere(action: Action) -> Vec<Option<String>> {
    let path = path(OrganizationId::TBD);
    let mut outcomes = Vec::new();
    for polls in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::new(folder.path().join("audit.jsonl"));
        let local = LocalBackend::open(Some(&folder.path().join("registry"))).unwrap();
        let before = action == Action::DeleteRepository;
        if before {
            let options = CreateOptions::default();
            runtime().block_on(local.create_repository(&path, &options)).unwrap();
        }
        let alice = single_user("user:alice".parse().unwrap());
        let backend =
            Permissioned::new(local.clone(), StandardPolicy, alice).with_audit(file.clone());
        let call = async {
            match action {
                Action::CreateRepository => {
                    backend.create_repository(&path, &CreateOptions::default()).await.map(drop)
                }
                _ => backend.delete_repository(&path, &DeleteOptions::default()).await,
            }
        };
        let done = runtime().block_on(within(polls, call));

        let after = runtime().block_on(local.repository_exists(&path)).unwrap();
        let events = events(file.path());
        let events: Vec<(&str, &str)> =
            events.iter().map(|(event, end)| (event.as_str(), end.as_str())).collect();
        let outcome = match events.as_slice() {
            [] | [("decision", "allow")] => None,
            [("decision", "allow"), ("change", outcome)] => Some((*outcome).to_owned()),
            _ => panic!("{polls}: {events:?}"),
        };
        match outcome.as_deref() {
            None => assert_eq!(before, after, "{polls}: unrecorded"),
            Some("done") => assert_ne!(before, after, "{polls}"),
            Some("unknown") => {}
            Some(other) => panic!("{polls}: {other}"),
        }
        outcomes.push(outcome);
        if let Some(answer) = done {
            answer.unwrap();
            return outcomes;
        }
    }
    unreachable!("a call has an end")
}

#[test]
fn a_change_is_never_made_without_a_record() {
    for action in [Action::CreateRepository, Action::DeleteRepository] {
        let outcomes = cancel_everywhere(action);
        let count = |wanted: Option<&str>| {
            outcomes.iter().filter(|outcome| outcome.as_deref() == wanted).count()
        };
        assert!(count(None) > 0 && count(Some("unknown")) > 0, "{action}: {outcomes:?}");
        assert_eq!(outcomes.last().unwrap().as_deref(), Some("done"), "{action}: {outcomes:?}");
    }
}
