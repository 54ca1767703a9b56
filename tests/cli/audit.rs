//! The audit file: recorded events, and no change without a record.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::sandbox::{OTHER, Sandbox, TBD};

/// Returns the recorded events, in order.
fn events(sandbox: &Sandbox, below: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.path(below)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns a short summary of an event.
fn summary(event: &Value) -> String {
    let word = |name: &str| event[name].as_str().unwrap_or_default();
    let outcome = [word("decision"), word("outcome"), word("narrowing")].concat();
    format!("{} {} {} {outcome}", word("principal"), word("event"), word("action"))
}

/// Returns a home whose configuration sets an audit file.
fn audited() -> Sandbox {
    let sandbox = Sandbox::with_memberships();
    sandbox.write("config/ark/container.toml", "audit_file = 'audit.jsonl'\n");
    sandbox
}

#[test]
fn decisions_changes_and_credentials_are_recorded() {
    let sandbox = audited();
    let run = |principal: &str, line: &str, organization: &str| {
        sandbox.run_as(principal, &format!("--quiet {line} --organization {organization}")).code
    };
    assert_eq!(run("user:alice", "--create-repository a", TBD), 0);
    assert_eq!(run("user:alice", "--create-repository a", OTHER), 4);
    assert_eq!(run("robot:nightly", "--login a", TBD), 0);
    let events = events(&sandbox, "config/ark/audit.jsonl");
    let summaries: Vec<String> = events.iter().map(summary).collect();
    assert_snapshot!(summaries.join("\n"), @"
    user:alice decision create-repository allow
    user:alice change create-repository done
    user:alice decision create-repository deny
    robot:nightly decision describe-repository allow
    robot:nightly decision pull allow
    robot:nightly credentials pull scoped
    ");
    assert_eq!(events[0]["request"], events[1]["request"], "a decision and its change");
}

#[test]
fn audit_file_variable_overrides_configuration_file() {
    let sandbox = audited();
    let mut list = sandbox.command("--quiet --list-repositories");
    list.env("ARK_AUDIT_FILE", "here.jsonl").env("ARK_PRINCIPAL", "user:alice");
    assert_eq!(sandbox.finish(&mut list).code, 0);
    assert!(!events(&sandbox, "here.jsonl").is_empty());
    assert!(!sandbox.path("config/ark/audit.jsonl").exists());
}

#[test]
fn unrecorded_operation_is_not_done() {
    let sandbox = audited();
    fs::create_dir(sandbox.path("config/ark/audit.jsonl")).unwrap();
    let create = format!("--quiet --create-repository a --organization {TBD}");
    let run = sandbox.run_as("user:alice", &create);
    assert_snapshot!(format!("exit {}\n{}", run.code, run.stderr), @"
    exit 1
    error: cannot write to the audit file ~/config/ark/audit.jsonl: ~/config/ark/audit.jsonl is a folder, not a file; replace or remove it
    ");
    fs::remove_dir(sandbox.path("config/ark/audit.jsonl")).unwrap();
    let listed = sandbox.run_as("user:alice", "--quiet --list-repositories --output json");
    assert_eq!((listed.code, listed.stdout.as_str()), (0, ""));
}
