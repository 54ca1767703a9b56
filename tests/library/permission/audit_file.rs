//! The audit's file: in the documented format, and what cannot be recorded is not done.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::identity::{Principal, PrincipalName};
use ark_container_core::model::{Access, OrganizationId, Organizations, Scope, Stage};
use ark_container_core::permission::{Action, AuditFile, Permissioned, StandardPolicy};
use ark_container_core::testing::MockRegistryBackend;
use ark_container_core::{Error, RegistryBackend};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{OTHER, attempt, guarded};
use crate::python_component::python_component;

const SCHEMA: &str = include_str!("../../../ark-container-core/schemas/audit.schema.json");
const DOCUMENTATION: &str = include_str!("../../../ark-container-core/src/permission/audit/mod.rs");

/// Which of the events the schema refuses, in order.
fn refused(events: &[Value]) -> Vec<usize> {
    let folder = tempfile::tempdir().unwrap();
    // The schema leaves room for fields of later versions; today there are no others.
    let mut strict: Value = serde_json::from_str(SCHEMA).unwrap();
    strict["unevaluatedProperties"] = json!(false);
    let schema = folder.path().join("schema.json");
    fs::write(&schema, strict.to_string()).unwrap();
    let mut check = python_component("check-jsonschema");
    check.args(["--output-format", "json", "--schemafile"]).arg(schema);
    for (number, event) in events.iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        fs::write(&file, event.to_string()).unwrap();
        check.arg(file);
    }
    let output = check.output().unwrap();
    let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else { panic!("{output:?}") };
    let unread = report["parse_errors"].as_array();
    assert!(unread.is_none_or(Vec::is_empty), "{report}");
    let number = |error: &Value| {
        let file = Path::new(error["filename"].as_str().unwrap());
        file.file_stem().unwrap().to_str().unwrap().parse().unwrap()
    };
    let mut refused: Vec<usize> = report["errors"].as_array().unwrap().iter().map(number).collect();
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(output.status.success(), refused.is_empty(), "{output:?}");
    refused
}

/// The lines that the documentation shows.
fn documented() -> Vec<Value> {
    let lines = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("//! "));
    lines.filter(|line| line.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn principal(name: &str, administers: Organizations) -> Principal {
    let name: PrincipalName = name.parse().unwrap();
    Principal::new(name, Organizations::from(OrganizationId::TBD), administers)
}

fn administrator() -> Principal {
    principal("user:root", Organizations::from(OrganizationId::TBD))
}

/// A folder, and the file for the audit in it.
fn audit_file() -> (TempDir, AuditFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = AuditFile::new(folder.path().join("audit.jsonl"));
    (folder, file)
}

fn events(file: &AuditFile) -> Vec<Value> {
    let text = fs::read_to_string(file.path()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_line_is_as_the_schema_says() {
    let (folder, file) = audit_file();
    let local = LocalBackend::open(Some(folder.path())).unwrap();
    let backend = Permissioned::new(local, Arc::new(StandardPolicy), administrator());
    let root = backend.with_audit(file.clone());
    let robot = root.for_principal(principal("robot:nightly", Organizations::none()));
    let job = root.for_principal(principal("ingest-job:a b", Organizations::none()));
    let tbd = OrganizationId::TBD;
    for backend in [&robot, &job, &root] {
        for action in Action::ALL {
            let _ = attempt(backend, action, tbd).await;
            let _ = attempt(backend, action, OTHER).await;
        }
    }
    let both = Scope::organizations(Stage::default(), [tbd, OrganizationId::GLOBAL], Access::Pull);
    root.credentials(&both, &Default::default()).await.unwrap();
    let mut events = events(&file);
    let count = |event: &str| events.iter().filter(|e| e["event"] == event).count();
    // Every action, two organizations, three principals; a push pulls too. Then the last login.
    assert_eq!(count("decision"), 8 * 2 * 3 + 3 + 2, "{events:#?}");
    assert_eq!((count("change"), count("credentials")), (3, 2 + 1 + 1 + 2), "{events:#?}");
    events.extend(documented());
    assert!(events.iter().any(|event| event["outcome"] == "failed"), "{events:#?}");
    assert_eq!(refused(&events), [] as [usize; 0], "{events:#?}");
}

#[test]
fn the_schema_refuses_what_is_not_in_the_format() {
    let [decision, undecided, done, failed, credentials] = &documented()[..] else { panic!() };
    let with = |event: &Value, field: &str, value: Value| {
        let mut event = event.clone();
        event[field] = value;
        event
    };
    let without = |event: &Value, field: &str| {
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove(field).unwrap();
        event
    };
    let bad = [
        json!("decision"),
        with(decision, "time", json!("2026-07-14T09:21:07Z")),
        with(decision, "event", json!("news")),
        with(decision, "decision", json!("maybe")),
        with(decision, "kind", json!("group")),
        with(decision, "organization", json!("2EA25035-6aa4-42fb-9955-92288ea1b972")),
        with(decision, "password", json!("hunter2")),
        with(decision, "outcome", json!("done")),
        with(undecided, "decision", json!("allow")),
        without(decision, "request"),
        without(decision, "rule"),
        without(done, "repository"),
        without(failed, "error"),
        without(failed, "reference"),
        with(done, "error", json!("why")),
        with(done, "organization", json!("*")),
        with(done, "action", json!("pull")),
        with(credentials, "scope", json!("everything")),
        without(credentials, "expires_at"),
    ];
    assert_eq!(refused(&bad), (0..bad.len()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_decision_that_cannot_be_recorded_is_no_permission() {
    let (folder, file) = audit_file();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), file.path()).unwrap();
    // The backend inside fails the test when it is called.
    let backend = guarded(MockRegistryBackend::new(), administrator()).with_audit(file.clone());
    for action in Action::ALL {
        let error = attempt(&backend, action, OrganizationId::TBD).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{action}: {error:?}");
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
    assert!(!folder.path().join("elsewhere").exists());
}

#[tokio::test]
async fn credentials_that_cannot_be_recorded_are_not_handed_out() {
    let (_folder, file) = audit_file();
    let mut inner = MockRegistryBackend::new();
    inner.expect_credentials().returning({
        let file = file.clone();
        move |scope, _| {
            fs::remove_file(file.path()).unwrap();
            fs::create_dir(file.path()).unwrap();
            let password = Password::new("hunter2".to_owned());
            let host = "localhost:1".parse().unwrap();
            Ok(RegistryCredentials::new(host, password, SystemTime::now(), scope.clone()))
        }
    });
    let backend = guarded(inner, administrator()).with_audit(file);
    let error = attempt(&backend, Action::Pull, OrganizationId::TBD).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
}
