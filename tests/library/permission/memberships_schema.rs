//! The JSON schema of the memberships file and its parser judge files alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ark_container_core::identity::Memberships;
use ark_container_core::model::{Action, OrganizationId};
use serde_json::Value;

use crate::python_component::python_component;

const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

const ARNS: &[&str] = &[
    "arn:aws:iam::095412845506:user/alice",
    "arn:aws-us-gov:iam::095412845506:user/teams/al?c*",
    "arn:aws:iam::095412845506:user/",
    "arn:aws:iam::095412845506:user/teams//alice",
    "arn:aws:iam::095412845506:role/ark-build",
    "arn:aws:iam::095412845506:role/ark-*",
    "arn:aws:iam::095412845506:role/teams/ark-build",
    "arn:aws:iam::095412845506:role/teams/ark-*",
    "arn:aws:iam::095412845506:role/*/ark-build",
    "arn:aws:iam::*:role/ark-build",
    "arn:aws:iam::9541284550:role/ark-build",
    "arn:aws*:iam::095412845506:role/ark-build",
    "arn:moon:iam::095412845506:role/ark-build",
    "arn:aws:iam:us-east-1:095412845506:role/ark-build",
    "arn:aws:sts::095412845506:assumed-role/ark-build/*",
    "arn:aws:sts::095412845506:assumed-role/ark-?/**",
    "arn:aws:sts::095412845506:assumed-role/ark-build/alice",
    "arn:aws:sts::095412845506:assumed-role/ark-build",
    "arn:aws:sts::095412845506:assumed-role/ark-build/a/b",
    "arn:aws:sts::095412845506:federated-user/alice",
    "arn:aws:iam::095412845506:root",
    "arn:aws:iam::095412845506:user/a b",
    "arn:aws:iam::095412845506:user/é",
    "*",
    "",
];

const PRINCIPALS: &[&str] = &[
    "user:alice",
    "robot:arn:aws:iam::095412845506:user/alice",
    "user:{session}",
    "ingest-job:a-{session}{session}@example.com",
    "user:{name}",
    "user:{{session}}",
    "user:}",
    "{session}:alice",
    "user:",
    "admin:alice",
    "User:alice",
    "alice",
    "user:a\\nb",
    "user:a\\u0085",
];

const IDS: &[&str] = &[
    TBD,
    "{2EA25035-6AA4-42FB-9955-92288EA1B972}",
    "  2ea25035-6aa4-42fb-9955-92288ea1b972 ",
    "{2ea25035-6aa4-42fb-9955-92288ea1b972",
    "2ea25035-6aa4-42fb-9955-92288ea1b972x",
    "2ea250356aa442fb995592288ea1b972",
    "77777777-7777-4777-7777-777777777777",
    "",
];

/// Files that are good, and files with one fault each or two that meet.
fn samples() -> Vec<String> {
    let mut samples: Vec<String> = [
        "",
        "x = 1",
        "organization = 1",
        "aws = {}",
        "[[organization]]",
        "[[organization]]\nid = 1",
        "[[aws]]\narn = 'arn:aws:iam::095412845506:user/alice'",
        "[[aws]]\nprincipal = 'user:alice'",
    ]
    .map(str::to_owned)
    .into();
    for id in IDS {
        for rules in ["", "rules = {}", "rules = { robot = [] }"] {
            samples.push(format!("[[organization]]\nid = \"{id}\"\n{rules}"));
        }
    }
    let mut fields: Vec<String> = [
        "kinds = ['user', 'robot', 'ingest-job']",
        "kinds = ['ingest job']",
        "kinds = 'user'",
        "members = [1]",
        "member = []",
        "rules = { admin = [] }",
        "rules = { user = 'read' }",
        "rules = []",
    ]
    .map(str::to_owned)
    .into();
    let words = Action::ALL.iter().map(|action| action.as_str());
    let words = words.chain(["read", "create", "delete", "Read", ""]);
    fields.extend(words.map(|word| format!("rules = {{ robot = ['{word}'] }}")));
    for principal in PRINCIPALS {
        fields.push(format!("members = [\"{principal}\"]"));
        fields.push(format!("administrators = [\"{principal}\"]"));
    }
    samples.extend(fields.iter().map(|field| format!("[[organization]]\nid = '{TBD}'\n{field}")));
    let trusts = ["", "trust_session_name = false", "trust_session_name = true"];
    for arn in ARNS {
        for principal in PRINCIPALS {
            let mapping = format!("[[aws]]\narn = \"{arn}\"\nprincipal = \"{principal}\"\n");
            samples.extend(trusts.map(|trust| format!("{mapping}{trust}")));
        }
    }
    let mapping = "[[aws]]\narn = 'arn:aws:iam::095412845506:role/x'\nprincipal = 'user:x'\n";
    samples.extend(
        ["trust_session_name = 1", "trust = true"].map(|field| format!("{mapping}{field}")),
    );
    samples
}

fn check_jsonschema(arguments: impl IntoIterator<Item = impl AsRef<Path>>) -> Value {
    let mut command = python_component("check-jsonschema");
    command.args(["--output-format", "json", "-vv"]);
    command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_schema_and_the_parser_judge_alike() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = manifest.join("../ark-container-core/schemas/memberships.schema.json");
    let meta = check_jsonschema([Path::new("--check-metaschema"), &schema]);
    assert_eq!(meta["status"], "ok", "{meta:#}");

    let folder = tempfile::tempdir().unwrap();
    let samples = samples();
    let file = |index: usize| folder.path().join(format!("{index}.toml"));
    for (index, sample) in samples.iter().enumerate() {
        fs::write(file(index), sample).unwrap();
    }
    let files = (0..samples.len()).map(file);
    let report = check_jsonschema(["--schemafile".into(), schema].into_iter().chain(files));
    assert_eq!(report["parse_errors"], Value::Array(Vec::new()), "{:#}", report["parse_errors"]);
    let errors = report["errors"].as_array().unwrap();
    let refused: BTreeSet<&str> =
        errors.iter().map(|error| error["filename"].as_str().unwrap()).collect();

    let mut accepted = 0;
    for (index, sample) in samples.iter().enumerate() {
        let parsed = Memberships::parse(sample, "sample.toml");
        let is_refused = refused.contains(file(index).to_str().unwrap());
        assert_eq!(parsed.is_err(), is_refused, "{sample}\n\n{parsed:?}");
        accepted += usize::from(parsed.is_ok());
    }
    assert!(accepted > 50 && refused.len() > 500, "{accepted} {}", refused.len());
}

/// What a schema cannot say, only the parser refuses.
#[test]
fn an_organization_in_two_spellings_is_for_the_parser_to_find() {
    let tables = [TBD.to_owned(), TBD.to_uppercase()].map(|id| {
        let table = format!("[[organization]]\nid = '{id}'\n");
        assert!(Memberships::parse(&table, "sample.toml").is_ok());
        table
    });
    let error = Memberships::parse(&tables.concat(), "sample.toml").unwrap_err();
    let twice = format!("organization {} is listed twice", OrganizationId::TBD);
    assert!(error.to_string().ends_with(&twice), "{error}");
}
