use super::*;
use crate::BoxError;
use crate::credentials::Password;
use crate::model::{Access, Organizations, Stage};

const DOCUMENTATION: &str = include_str!("../mod.rs");

/// The lines that the documentation shows.
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

fn line(call: u64, by: &str, action: Action, about: Subject<'_>, what: Details<'_>) -> String {
    let (at, by) = (time("2026-07-14T09:21:07.312Z"), principal(by));
    let request = RequestId::fixed(0x5f1c_9a2b_7d3e_4f60, call);
    Event::new(at, request, &by, action, about, what).line().unwrap()
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
    let about = Subject::Repository(&path);
    let member = Decision::allow("member").written_at("memberships.toml:3");
    let latest = Reference::Tag("latest".parse().unwrap());
    let missing = Error::not_found(crate::ResourceKind::Repository, &path);
    let credentials = credentials(time("2026-07-14T10:21:07Z"));
    let opened = Details::credentials(&credentials, credentials.scope.clone());
    let (create, delete) = (Action::CreateRepository, Action::DeleteImage);
    let (list, all) = (Action::ListRepositories, Subject::EveryOrganization);
    let of_tbd = Subject::Organization(OrganizationId::TBD);
    let written = [
        line(1, "user:alice", create, about, Details::decision(&member)),
        line(2, "ingest-job:nightly", list, all, Details::undecided(&unreadable())),
        line(1, "user:alice", create, about, Details::change(None, None)),
        line(3, "user:alice", delete, about, Details::change(Some(&latest), Some(&missing))),
        line(4, "robot:build", Action::Pull, of_tbd, opened),
    ];
    let written: Vec<&str> = written.iter().map(|line| line.trim_end()).collect();
    assert_eq!(written, documented());
}

#[test]
fn every_field_is_documented() {
    for line in documented() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in event.as_object().unwrap().keys() {
            assert!(DOCUMENTATION.contains(&format!("//! | `{field}` | ")), "{field}");
        }
    }
}

#[test]
fn whatever_is_in_an_event_it_is_one_line() {
    let error = Error::invalid("first\nsecond\r\n\u{2028}\u{0}\"");
    let details = Details::change(None, Some(&error));
    let path = path();
    let line = line(1, "user:alice", Action::Push, Subject::Repository(&path), details);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["error"], error.to_string());
}

#[test]
fn a_time_that_cannot_be_written_becomes_the_nearest() {
    let ever = Duration::from_secs(1 << 40);
    for (time, expected) in [
        (UNIX_EPOCH - Duration::from_secs(1), "1970-01-01T00:00:00.000Z"),
        (UNIX_EPOCH + ever, "9999-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(Timestamp(time).to_string(), expected);
    }
}

#[test]
fn credentials_are_told_without_their_password() {
    let credentials = credentials(SystemTime::now()).with_narrowing(Narrowing::Caller);
    let details = Details::credentials(&credentials, credentials.scope.clone());
    let of_tbd = Subject::Organization(OrganizationId::TBD);
    let line = line(1, "user:alice", Action::Pull, of_tbd, details);
    assert!(line.contains(r#""narrowing":"caller""#), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}
