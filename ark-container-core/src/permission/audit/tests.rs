use std::collections::HashSet;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::BoxError;
use crate::credentials::{Narrowing, Password};
use crate::model::{OrganizationId, Organizations, Reference, Stage};

const DOCUMENTATION: &str = include_str!("mod.rs");

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Returns the lines that the documentation shows.
fn documented() -> Vec<&'static str> {
    let lines = DOCUMENTATION.lines();
    lines.filter_map(|line| line.strip_prefix("//! ").filter(|l| l.starts_with('{'))).collect()
}

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap()
}

fn principal(name: &str) -> Principal {
    let tbd = Organizations::from(OrganizationId::TBD);
    Principal::new(name.parse().unwrap(), tbd, Organizations::none())
}

fn path() -> RepositoryPath {
    format!("prod/{}/catalog/extract-video", OrganizationId::TBD).parse().unwrap()
}

/// Returns the audit of a call with the documented request id.
fn call(number: u64, by: &str) -> CallAudit {
    let request = RequestId { process: 0x5f1c_9a2b_7d3e_4f60, call: number };
    CallAudit { file: None, request, principal: Arc::new(principal(by)) }
}

fn change(number: u64, action: Action) -> PendingChange {
    call(number, "user:alice").begin_change(action, &path())
}

/// Returns the line of an event at the documented time.
fn line(event: Event<'_>) -> String {
    let time = Timestamp(time("2026-07-14T09:21:07.312Z"));
    Event { time, ..event }.line().unwrap()
}

fn unreadable() -> Error {
    let cause: BoxError = "Permission denied".into();
    Error::failed("cannot read memberships.toml").with_source(cause)
}

fn credentials(expires_at: SystemTime) -> RegistryCredentials {
    let tbd = OrganizationId::TBD;
    let scope = Scope::organizations(Stage::default(), [tbd], Access::Pull);
    let password = Password::new("hunter2".to_owned());
    RegistryCredentials::new("localhost:1".parse().unwrap(), password, expires_at, scope)
}

#[test]
fn events_are_written_as_documented() {
    let path = path();
    let about = AuditedResource::Repository(&path);
    let (create, list) = (Action::CreateRepository, Action::ListRepositories);
    let member = Decision::allow("member").written_at("memberships.toml:3");
    let tag = |tag: &str| Reference::Tag(tag.parse().unwrap());
    let mut deletion = change(3, Action::DeleteImage);
    deletion.set_reference(&tag("latest"));
    let missing = Error::not_found(crate::ResourceKind::Repository, &path);
    let mut push = change(5, Action::Push);
    push.set_reference(&tag("stable"));
    push.set_digest(&DIGEST.parse().unwrap());
    push.set_source(format!("prod/{}/catalog/candidate:v1", OrganizationId::TBD));
    let credentials = credentials(time("2026-07-14T10:21:07Z"));
    let written = [
        line(call(1, "user:alice").decision_event(create, about, &member)),
        line(call(2, "ingest-job:nightly").undecided_event(
            list,
            AuditedResource::EveryOrganization,
            &unreadable(),
        )),
        line(change(1, create).event("done", None)),
        line(deletion.event("failed", Some(error_with_causes(&missing)))),
        line(push.event("done", None)),
        line(call(4, "robot:build").credentials_events(&credentials).remove(0)),
    ];
    let written: Vec<&str> = written.iter().map(|line| line.trim_end()).collect();
    assert_eq!(written, documented());
}

#[test]
fn audit_fields_are_documented() {
    for line in documented() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in event.as_object().unwrap().keys() {
            assert!(DOCUMENTATION.contains(&format!("//! | `{field}` | ")), "{field}");
        }
    }
}

#[test]
fn event_with_newlines_is_one_line() {
    let error = Error::invalid("first\nsecond\r\n\u{2028}\u{0}\"");
    let line = line(change(1, Action::Push).event("failed", Some(error.to_string())));
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["error"], error.to_string());
}

#[test]
fn timestamp_is_clamped_to_rfc3339_years() {
    let ever = Duration::from_secs(1 << 40);
    for (time, expected) in [
        (UNIX_EPOCH - Duration::from_secs(1), "1970-01-01T00:00:00.000Z"),
        (UNIX_EPOCH + ever, "9999-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(Timestamp(time).to_string(), expected);
    }
}

#[test]
fn event_of_credentials_has_no_password() {
    let credentials = credentials(SystemTime::now()).with_narrowing(Narrowing::Caller);
    let line = line(call(1, "user:alice").credentials_events(&credentials).remove(0));
    assert!(line.contains(r#""narrowing":"caller""#), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn request_ids_are_unique_in_a_process() {
    let threads: Vec<_> = (0..8)
        .map(|_| thread::spawn(|| (0..500).map(|_| RequestId::next().to_string()).collect()))
        .collect();
    let ids: Vec<Vec<String>> = threads.into_iter().map(|ids| ids.join().unwrap()).collect();
    let distinct: HashSet<&String> = ids.iter().flatten().collect();
    assert_eq!(distinct.len(), 4000);
    let prefixes: HashSet<&str> = distinct.iter().map(|id| &id[..17]).collect();
    assert_eq!(prefixes.len(), 1, "{prefixes:?}");
}

#[test]
fn request_id_has_sixteen_digits_of_the_process() {
    let id = RequestId { process: 0xc0ffee, call: 12 };
    assert_eq!(id.to_string(), "0000000000c0ffee-12");
}
