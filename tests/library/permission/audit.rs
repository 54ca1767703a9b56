//! The audit: one event for each decision, change and login, in the documented format.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::identity::{Principal, PrincipalName, single_user};
use ark_container_core::model::{Access, OrganizationId, Organizations, Reference, Scope, Stage};
use ark_container_core::permission::{
    AUDIT_TARGET, Action, AuditFile, Permissioned, StandardPolicy, policy_fn,
};
use ark_container_core::testing::{MockRegistryBackend, ready};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{DIGEST, OTHER, TBD, alice, attempt, expecting_one, guarded, path};
use crate::cancel::within;
use crate::python_component::python_component;

/// Collects the events of the audit target, one per line.
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
    /// Returns the events since the last call. The request ID of the first call is replaced by `1`, the next by `2`,
    /// and so on.
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

/// Returns the start of an event of alice's first call.
fn of_alice(event: &str) -> String {
    let tbd = TBD;
    format!("event={event} request=1 principal=user:alice kind=user organization={tbd}")
}

#[tokio::test]
async fn decision_and_change_share_a_request_id() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::CreateRepository, TBD);
    attempt(&guarded(inner, alice()), Action::CreateRepository, TBD).await.unwrap();
    let path = path(TBD);
    let about = format!("repository={path} action=create-repository");
    assert_eq!(
        recorder.take(),
        [
            format!("{} {about} decision=allow rule=member", of_alice("decision")),
            format!("{} {about} outcome=done", of_alice("change")),
        ]
    );

    let denied = guarded(MockRegistryBackend::new(), alice());
    attempt(&denied, Action::DeleteRepository, TBD).await.unwrap_err();
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
async fn failed_change_is_recorded_with_its_causes() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let mut inner = MockRegistryBackend::new();
    inner.expect_delete_image().returning(|_, _| {
        ready(Err(Error::failed("cannot delete it").with_source("the disk is worn out")))
    });
    attempt(&guarded(inner, administrator()), Action::DeleteImage, TBD).await.unwrap_err();
    let events = recorder.take();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].contains(" decision=allow rule=administrator"), "{events:?}");
    let outcome = " action=delete-image reference=latest outcome=failed \
                   error=cannot delete it: the disk is worn out";
    assert!(events[1].ends_with(outcome), "{events:?}");
}

#[tokio::test]
async fn unrecorded_change_is_an_error_event() {
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
            ready(Ok(None))
        }
    });
    let backend = guarded(inner, administrator()).with_audit(AuditFile::new(&file));
    attempt(&backend, Action::DeleteImage, TBD).await.unwrap();
    let events = recorder.take();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[1].ends_with(" outcome=done"), "{events:?}");
    assert!(events[2].starts_with("ERROR "), "{events:?}");
    let expected = format!("cannot write to the audit file {}", file.display());
    assert!(events[2].contains(" request=1 ") && events[2].contains(&expected), "{events:?}");
}

#[tokio::test]
async fn failed_decision_is_recorded_as_denial_with_reason() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let policy =
        policy_fn(|_| Err(Error::failed("cannot read the rules").with_source("it is a folder")));
    let backend = Permissioned::new(MockRegistryBackend::new(), policy, alice());
    attempt(&backend, Action::Pull, TBD).await.unwrap_err();
    let path = path(TBD);
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
async fn credentials_record_decisions_and_the_login() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let inner = expecting_one(Action::Push, TBD);
    let tbd = TBD;
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
async fn listing_records_one_decision_per_organization() {
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

const SCHEMA: &str = include_str!("../../../ark-container-core/schemas/audit.schema.json");
const DOCUMENTATION: &str = include_str!("../../../ark-container-core/src/permission/audit/mod.rs");

/// Returns the indexes of the events that the schema rejects.
fn refused(events: &[Value]) -> Vec<usize> {
    let folder = tempfile::tempdir().unwrap();
    // The schema permits fields of later versions. This version has no others.
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

/// Returns the lines in the documentation.
fn documented() -> Vec<Value> {
    let lines = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("//! "));
    lines.filter(|line| line.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn principal(name: &str, administers: Organizations) -> Principal {
    let name: PrincipalName = name.parse().unwrap();
    Principal::new(name, Organizations::from(TBD), administers)
}

fn administrator() -> Principal {
    principal("user:root", Organizations::from(TBD))
}

/// Returns a temporary folder and an audit file in it.
fn new_audit_file() -> (TempDir, AuditFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = AuditFile::new(folder.path().join("audit.jsonl"));
    (folder, file)
}

fn events(file: &AuditFile) -> Vec<Value> {
    let text = fs::read_to_string(file.path()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn events_match_the_schema() {
    let (folder, file) = new_audit_file();
    let local = LocalBackend::open(Some(folder.path())).unwrap();
    let backend = Permissioned::new(local, StandardPolicy, administrator());
    let root = backend.with_audit(file.clone());
    let robot = root.for_principal(principal("robot:nightly", Organizations::none()));
    let job = root.for_principal(principal("ingest-job:a b", Organizations::none()));
    let tbd = TBD;
    for backend in [&robot, &job, &root] {
        for &action in Action::ALL {
            let _ = attempt(backend, action, tbd).await;
            let _ = attempt(backend, action, OTHER).await;
        }
    }
    let both = Scope::organizations(Stage::default(), [tbd, OrganizationId::GLOBAL], Access::Pull);
    root.credentials(&both, &Default::default()).await.unwrap();
    let mut events = events(&file);
    let count = |event: &str| events.iter().filter(|e| e["event"] == event).count();
    // Each action, two organizations, three principals. A push also decides about a pull. The last events are a login.
    assert_eq!(count("decision"), 8 * 2 * 3 + 3 + 2, "{events:#?}");
    assert_eq!((count("change"), count("credentials")), (3, 2 + 1 + 1 + 2), "{events:#?}");
    events.extend(documented());
    assert!(events.iter().any(|event| event["outcome"] == "failed"), "{events:#?}");
    assert_eq!(refused(&events), [] as [usize; 0], "{events:#?}");
}

#[test]
fn schema_rejects_other_formats() {
    let [decision, undecided, done, failed, _pushed, credentials] = &documented()[..] else {
        panic!("the documentation has other examples")
    };
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
async fn unrecorded_decision_is_a_denial() {
    let (folder, file) = new_audit_file();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), file.path()).unwrap();
    // The inner backend fails the test when it is called.
    let backend = guarded(MockRegistryBackend::new(), administrator()).with_audit(file.clone());
    for &action in Action::ALL {
        let error = attempt(&backend, action, TBD).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{action}: {error:?}");
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }
    assert!(!folder.path().join("elsewhere").exists());
}

#[tokio::test]
async fn unrecorded_credentials_are_withheld() {
    let (_folder, file) = new_audit_file();
    let mut inner = MockRegistryBackend::new();
    inner.expect_credentials().returning({
        let file = file.clone();
        move |scope, _| {
            fs::remove_file(file.path()).unwrap();
            fs::create_dir(file.path()).unwrap();
            let password = Password::new("hunter2".to_owned());
            let host = "localhost:1".parse().unwrap();
            ready(Ok(RegistryCredentials::new(host, password, SystemTime::now(), scope.clone())))
        }
    });
    let backend = guarded(inner, administrator()).with_audit(file);
    let error = attempt(&backend, Action::Pull, TBD).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
}

/// Returns a runtime. Dropping it waits for its blocking tasks.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Returns the events of a file, each as its kind and outcome.
fn outcomes_of(file: &Path) -> Vec<(String, String)> {
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    let event = |line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| event[field].as_str().map(str::to_owned);
        (text("event").unwrap(), text("decision").or(text("outcome")).unwrap())
    };
    lines.lines().map(event).collect()
}

/// Cancels `action` after 0, 1, 2, … polls until it completes, and returns the outcomes.
fn cancel_everywhere(action: Action) -> Vec<Option<String>> {
    let path = path(TBD);
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
        let events = outcomes_of(file.path());
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
    unreachable!("every call ends")
}

#[test]
fn cancelled_call_records_each_change() {
    for action in [Action::CreateRepository, Action::DeleteRepository] {
        let outcomes = cancel_everywhere(action);
        let count = |wanted: Option<&str>| {
            outcomes.iter().filter(|outcome| outcome.as_deref() == wanted).count()
        };
        assert!(count(None) > 0 && count(Some("unknown")) > 0, "{action}: {outcomes:?}");
        assert_eq!(outcomes.last().unwrap().as_deref(), Some("done"), "{action}: {outcomes:?}");
    }
}

#[tokio::test]
async fn deletion_by_tag_is_recorded_with_the_digest() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let mut inner = MockRegistryBackend::new();
    inner.expect_delete_image().returning(|_, _| ready(Ok(Some(DIGEST.parse().unwrap()))));
    let backend = guarded(inner, administrator());
    attempt(&backend, Action::DeleteImage, OrganizationId::TBD).await.unwrap();
    let events = recorder.take();
    assert!(
        events[1].ends_with(&format!(" reference=latest digest={DIGEST} outcome=done")),
        "{events:?}"
    );
}

#[tokio::test]
async fn push_is_recorded_with_tag_digest_and_source() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let backend = guarded(MockRegistryBackend::new(), alice());
    let path = path(OrganizationId::TBD);
    let about = format!("{} repository={path} action=push", of_alice("change"));

    let mut push = backend.begin_push(&path).await.unwrap();
    push.set_reference(&Reference::Tag("v1".parse().unwrap()));
    push.set_source("prod/other:v1");
    push.set_digest(&DIGEST.parse().unwrap());
    push.finish(&Ok(())).await;
    let image = format!("reference=v1 digest={DIGEST} source=prod/other:v1");
    assert_eq!(recorder.take(), [format!("{about} {image} outcome=done")]);

    let push = backend.begin_push(&path).await.unwrap();
    push.finish::<()>(&Err(Error::temporary("the registry did not respond"))).await;
    let failed = format!("{about} outcome=failed error=the registry did not respond");
    assert_eq!(recorder.take(), [failed]);

    drop(backend.begin_push(&path).await.unwrap());
    assert_eq!(recorder.take(), [format!("{about} outcome=unknown")]);

    // The denial was recorded when the credentials were requested.
    let denied = guarded(MockRegistryBackend::new(), administrator());
    let denial = attempt(&denied, Action::Push, OTHER).await.unwrap_err();
    recorder.take();
    backend.begin_push(&path).await.unwrap().finish::<()>(&Err(denial)).await;
    assert!(recorder.take().is_empty());
}
