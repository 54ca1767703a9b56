//! The memberships file: its schema, its parser, and its changes during a run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use ark_container_core::Error;
use ark_container_core::identity::{
    LocalUser, Memberships, MembershipsFile, PrincipalKind, PrincipalName,
};
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{
    Action, Decision, MembershipsPolicy, Permissioned, Policy, PolicyRequest, StandardPolicy,
};
use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::model::{NAMES, ORGANIZATIONS, Table, as_toml, may, tables};
use super::{attempt, expecting_one};
use crate::python_component::python_component;
use crate::registry::server::Log;

/// Returns a memberships file with this text, which only its owner can write.
pub(super) fn file(text: &str) -> (NamedTempFile, MembershipsFile) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let memberships = MembershipsFile::open(file.path()).unwrap();
    (file, memberships)
}

const CALLERS: [&str; 3] = [
    "arn:aws:iam::095412845506:user/teams/alice",
    "arn:aws:sts::095412845506:assumed-role/ark-build/i-0123",
    "arn:aws:iam::095412845506:root",
];

/// Returns TOML with the right names and mostly invalid values.
fn values() -> impl Strategy<Value = String> {
    let organization =
        ("(read|create|push|pull|delete-image|\\PC){0,1}", "(user|robot|ingest-job|x)");
    let organization = organization.prop_map(|(word, kind)| {
        let id = OrganizationId::TBD;
        format!("[[organization]]\nid = '{id}'\n[organization.rules]\n{kind} = [{word:?}]\n")
    });
    let arn = "arn:aws:(iam|sts)::095412845506:(user/|role/|assumed-role/|[a-z*?/:]|\\PC){0,6}";
    let aws = (arn, "(user|robot):(a|\\{|\\}|\\{session\\}|\\PC){0,4}", any::<bool>());
    let aws = aws.prop_map(|(arn, principal, trust)| {
        format!("[[aws]]\narn = {arn:?}\nprincipal = {principal:?}\ntrust_session_name = {trust}\n")
    });
    (vec(organization, 0..=1), vec(aws, 0..=3))
        .prop_map(|(organizations, aws)| organizations.concat() + &aws.concat())
}

fn decide(policy: &dyn Policy, request: &PolicyRequest<'_>) -> Decision {
    policy.decide(request).now_or_never().unwrap().unwrap()
}

proptest! {
    #[test]
    fn decisions_agree_with_the_model(
        tables in tables(),
        who in select(NAMES.to_vec()),
        organization in select(ORGANIZATIONS.to_vec()),
    ) {
        let (_folder, file) = file(&as_toml(&tables));
        let principal = file.current().principal(who.parse().unwrap());
        let policy = MembershipsPolicy::new(file);
        for &action in Action::ALL {
            let decision = decide(&policy, &PolicyRequest::new(&principal, action, organization));
            let expected = may(&tables, who, action.as_str(), organization);
            prop_assert_eq!(decision.is_allowed(), expected, "{} {}", action, decision.rule());
        }
    }

    #[test]
    fn stranger_reads_the_global_organization_only(
        tables in tables(),
        organization in select(ORGANIZATIONS.to_vec()),
    ) {
        let tables: Vec<Table> = tables.into_iter().map(Table::without_kinds).collect();
        let (_folder, file) = file(&as_toml(&tables));
        let policies: [&dyn Policy; 2] = [&StandardPolicy, &MembershipsPolicy::new(file.clone())];
        for (kind, policy) in PrincipalKind::ALL.iter().copied().flat_map(|kind| policies.map(|policy| (kind, policy))) {
            let stranger = PrincipalName::new(kind, "stranger").unwrap();
            let stranger = file.current().principal(stranger);
            let allowed = Action::ALL.iter().copied()
                .filter(|action| {
                    decide(policy, &PolicyRequest::new(&stranger, *action, organization)).is_allowed()
                })
                .count();
            let expected = if organization == OrganizationId::GLOBAL { 4 } else { 0 };
            prop_assert_eq!(allowed, expected);
        }
    }

    #[test]
    fn random_text_does_not_panic(
        text in "(\\PC|[\\[\\]={}\"'\n#,.]|organization|id|kinds|members|rules|robot|aws|arn|principal){0,40}"
    ) {
        if let Err(error) = Memberships::parse(&text, "random.toml") {
            prop_assert!(error.to_string().starts_with("random.toml:"));
        }
    }

    #[test]
    fn random_values_do_not_panic(text in values(), caller in select(CALLERS.to_vec())) {
        match Memberships::parse(&text, "random.toml") {
            Ok(memberships) => {
                let principal = memberships.aws_principal(caller).unwrap();
                let is_filled_in = principal.is_none_or(|name| !name.id().contains(['{', '}']));
                prop_assert!(is_filled_in);
            }
            Err(error) => prop_assert!(error.to_string().starts_with("random.toml:"), "{}", error),
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(30);

/// Returns the log lines about memberships.
fn lines(log: &Log) -> Vec<String> {
    log.text().lines().filter(|line| line.contains("memberships")).map(str::to_owned).collect()
}

fn members(members: &str) -> String {
    format!("[[organization]]\nid = \"{}\"\nmembers = [{members}]\n", OrganizationId::TBD)
}

#[tokio::test]
async fn removed_member_is_denied() {
    let (temporary, memberships) = file(&members("'user:alice'"));
    let alice = LocalUser::new("user:alice".parse().unwrap()).with_memberships(memberships.clone());
    let inner = expecting_one(Action::Pull, OrganizationId::TBD);
    let policy = MembershipsPolicy::new(memberships);
    let backend = Permissioned::new(inner, policy, alice);
    attempt(&backend, Action::Pull, OrganizationId::TBD).await.unwrap();

    std::fs::write(temporary.path(), members("'user:bob'")).unwrap();
    let start = Instant::now();
    while backend.principal().await.unwrap().is_member_of(OrganizationId::TBD) {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The inner backend accepts one call and panics at another.
    let denied = attempt(&backend, Action::Pull, OrganizationId::TBD).await;
    assert!(matches!(denied, Err(Error::PermissionDenied { .. })), "{denied:?}");
}

#[test]
fn invalid_file_is_logged_once_and_ignored() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let (temporary, memberships) = file(&members("'user:alice'"));
        let good = memberships.current();
        std::fs::write(temporary.path(), members("'alice'")).unwrap();
        let look_until = |done: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !done() {
                assert!(start.elapsed() < DEADLINE, "{:?}", lines(&log));
                thread::sleep(Duration::from_millis(20));
                memberships.current();
            }
        };
        look_until(&|| !lines(&log).is_empty());
        let warned = lines(&log);
        assert!(warned[0].contains("WARN"), "{warned:?}");
        let position = format!("{}:3:12: ", temporary.path().display());
        assert!(warned[0].contains(&position), "{warned:?}");
        assert!(Arc::ptr_eq(&good, &memberships.current()));

        // The file is checked more than once in this time.
        let warned_at = Instant::now();
        look_until(&|| warned_at.elapsed() > Duration::from_millis(2500));
        assert_eq!(lines(&log), warned);

        std::fs::write(temporary.path(), members("'user:bob'")).unwrap();
        look_until(&|| lines(&log).len() > 1);
        assert!(lines(&log)[1].contains("INFO"), "{:?}", lines(&log));
        let bob = memberships.current().principal("user:bob".parse().unwrap());
        assert!(bob.is_member_of(OrganizationId::TBD));
    });
}

const TBD_TEXT: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

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
    TBD_TEXT,
    "{2EA25035-6AA4-42FB-9955-92288EA1B972}",
    "  2ea25035-6aa4-42fb-9955-92288ea1b972 ",
    "{2ea25035-6aa4-42fb-9955-92288ea1b972",
    "2ea25035-6aa4-42fb-9955-92288ea1b972x",
    "2ea250356aa442fb995592288ea1b972",
    "77777777-7777-4777-7777-777777777777",
    "",
];

/// Returns valid files, and files with one or two faults.
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
    samples
        .extend(fields.iter().map(|field| format!("[[organization]]\nid = '{TBD_TEXT}'\n{field}")));
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
fn schema_and_parser_agree() {
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
