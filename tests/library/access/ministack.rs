//! Compares ministack, which evaluates IAM policies too, with the table.
//!
//! Gaps of ministack are worked around: policies have no variables and sessions by token have no tags, so every person
//! has roles of their own with the values filled in. `ecr:DescribeRepositories` and the reading of resource tags are
//! evaluated for `*`, so they are allowed for `*`. Cells with other differences are listed as exceptions: such a cell
//! is run too, and must differ from the table.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::ecr::{EcrBackend, IamDeployment, PolicyDocument};
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{EcrHost, Reference, Stage};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::conformance::{HttpImages, PutImage as _};
use ark_container_core::testing::{SampleImage, TokenIssuer};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::deployment::{AUDIENCE, ISSUER};
use super::matrix::{Layers, PEOPLE, Person, Target, reviewed_outcome};
use super::operation::{Clients, Operation};
use super::{path_of_cell, repositories};
use crate::aws::emulator::{Emulator, REGION};
use crate::python_component::python_component;

const ACCOUNT: &str = "000000000000";

/// ministack with roles for every person, and their tokens.
struct Account {
    ministack: Emulator,
    issuer: TokenIssuer,
    tokens: TempDir,
}

impl Account {
    async fn start() -> Self {
        let ministack = Emulator::ministack();
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
        let account = Self { ministack, issuer, tokens: tempfile::tempdir().unwrap() };
        account.create_roles();
        account.create_with_images().await;
        account
    }

    /// Creates two roles for each row of the table.
    fn create_roles(&self) {
        let iam = IamDeployment::new(host(), Stage::default(), ISSUER, AUDIENCE).unwrap();
        let iam = iam.policies();
        let mut roles = Vec::new();
        for (row, person) in PEOPLE.iter().enumerate() {
            let tags = person.session_tags().into_iter().collect();
            for (name, role) in
                [("access", &iam.access_role), ("administrator", &iam.administrator_role)]
            {
                let trust = filled_in(&role.trust, &tags);
                let mut permissions = filled_in(&role.permissions, &tags);
                let look = json!({
                    "Effect": "Allow",
                    "Action": ["ecr:DescribeRepositories", "ecr:ListTagsForResource"],
                    "Resource": "*",
                });
                permissions["Statement"].as_array_mut().unwrap().push(look);
                roles.push(json!([
                    format!("{name}-{row}"),
                    trust.to_string(),
                    permissions.to_string()
                ]));
            }
        }
        let mut python = python_component("python3")
            .args(["-c", include_str!("create_roles.py")])
            .env("AWS_ENDPOINT_URL", self.ministack.endpoint_url())
            .env("AWS_ACCESS_KEY_ID", &self.ministack.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.ministack.key.1)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(Value::from(roles).to_string().as_bytes()).unwrap();
        assert!(python.wait().unwrap().success());
    }

    async fn create_with_images(&self) {
        let backend = Arc::new(self.administrator());
        let images = HttpImages::new(backend.clone()).with_endpoint(self.ministack.address);
        for path in repositories() {
            backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
            for tag in ["v1", "v2"] {
                let reference = Reference::Tag(tag.parse().unwrap());
                images.put(&path, &reference, &SampleImage::new(tag)).await.unwrap();
            }
        }
    }

    fn administrator(&self) -> EcrBackend {
        let config = self.ministack.sdk_config();
        EcrBackend::builder(host(), Stage::default()).with_sdk_config(config).build()
    }

    fn bearer(&self, row: usize) -> EcrBackend {
        let arn = |role| format!("arn:aws:iam::{ACCOUNT}:role/{role}-{row}");
        let file = self.tokens.path().join(row.to_string());
        std::fs::write(&file, self.issuer.token(&PEOPLE[row].token()).unwrap()).unwrap();
        EcrBackend::builder(host(), Stage::default())
            .with_endpoint_url(self.ministack.endpoint_url())
            .with_web_identity(TokenFile::new(file))
            .with_role_arn(arn("access"))
            .with_administrator_role_arn(arn("administrator"))
            .build()
    }

    fn backend(&self, layers: Layers, row: usize) -> Arc<dyn RegistryBackend> {
        let guarded =
            |inner| Arc::new(Permissioned::new(inner, StandardPolicy, PEOPLE[row].principal()));
        match layers {
            Layers::Policy => guarded(self.administrator()),
            Layers::Aws => Arc::new(self.bearer(row)),
            Layers::Both => guarded(self.bearer(row)),
        }
    }

    /// Returns the cells of a row that differ from the table, and the exceptions that do not differ.
    async fn differences(&self, row: usize) -> Vec<String> {
        let person = &PEOPLE[row];
        let mut differences = Vec::new();
        for layers in Layers::ALL {
            let backend = self.backend(layers, row);
            let clients =
                Clients { backend: &*backend, registry: self.ministack.address, sessions: &[] };
            for operation in Operation::ALL.into_iter().filter(|operation| !operation.is_indirect())
            {
                for target in Target::ALL {
                    let path = path_of_cell(layers, person, target);
                    let ended = operation.attempt(clients, &path).await;
                    let cell = format!("{person}: {} ({})", operation.word(), target.word());
                    let (word, expected) =
                        (ended.outcome.word(), expected(layers, person, operation, target));
                    match (word == expected, excepted(layers, person, operation, target, expected))
                    {
                        (true, Some(why)) => {
                            differences.push(format!("{cell} is {word}, though {why}"));
                        }
                        (false, None) => {
                            differences.push(format!(
                                "{cell} is {word}, and not {expected}, by {}: {}",
                                layers.title(),
                                ended.text
                            ));
                        }
                        _ => {}
                    }
                }
            }
        }
        differences
    }
}

fn expected(layers: Layers, person: &Person, operation: Operation, target: Target) -> &'static str {
    reviewed_outcome(layers, person, operation.word(), target)
}

/// Returns why ministack differs from AWS in a cell whose reviewed outcome is `expected`; `None` if it does not.
fn excepted(
    layers: Layers,
    person: &Person,
    operation: Operation,
    target: Target,
    expected: &str,
) -> Option<&'static str> {
    if layers != Layers::Aws || expected != "no" {
        return None;
    }
    // The registry requires no password, but a login requires the role.
    let has_role = person.session_tags().iter().any(|(tag, _)| tag == "administers");
    let open = "ministack's registry requires no password";
    match operation {
        Operation::ListEverything | Operation::List | Operation::Describe => {
            Some("ministack lets every session describe all repositories")
        }
        Operation::Pull => Some(open),
        Operation::Push if has_role || target != Target::Global => Some(open),
        Operation::DeleteImageOverHttp if has_role => Some(open),
        _ => None,
    }
}

fn host() -> EcrHost {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_agrees_with_the_table() {
    let account = Arc::new(Account::start().await);
    let rows = (0..PEOPLE.len()).map(|row| {
        let account = Arc::clone(&account);
        tokio::spawn(async move { account.differences(row).await })
    });
    let differences: Vec<String> =
        join_all(rows).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(differences, Vec::<String>::new());
}

/// Returns a policy with its variables replaced by the tags of a session.
fn filled_in(document: &PolicyDocument, tags: &BTreeMap<String, String>) -> Value {
    let mut document: Value = serde_json::from_str(&document.to_string()).unwrap();
    let statements = document["Statement"].as_array_mut().unwrap();
    statements.retain_mut(|statement| holds(statement, tags));
    document
}

/// Returns whether a statement applies to a session, and removes the conditions on its tags.
fn holds(statement: &mut Value, tags: &BTreeMap<String, String>) -> bool {
    let conditions = statement["Condition"].take();
    let mut left = serde_json::Map::new();
    for (operator, keys) in conditions.as_object().into_iter().flatten() {
        for (key, values) in keys.as_object().unwrap() {
            let mut values = values.clone();
            let of_session = ["aws:PrincipalTag/", "aws:RequestTag/"]
                .iter()
                .find_map(|prefix| key.strip_prefix(prefix))
                .filter(|tag| !tag.starts_with("ark:"));
            let applies = match (of_session, operator.as_str()) {
                (Some(tag), "Null") => tags.contains_key(tag) == (values == json!(["false"])),
                (Some(tag), _) => {
                    let value = tags.get(tag).map(|value| json!(value));
                    value.is_some_and(|value| values.as_array().unwrap().contains(&value))
                }
                // The keys of the session's tags are valid.
                (None, "ForAllValues:StringLike") => true,
                (None, _) => {
                    let filled = fill_in(&mut values, tags);
                    left.entry(operator.as_str()).or_insert_with(|| json!({}))[key] = values;
                    filled
                }
            };
            if !applies {
                return false;
            }
        }
    }
    if let Some(statement) = statement.as_object_mut() {
        statement.remove("Condition");
        if !left.is_empty() {
            statement.insert("Condition".to_owned(), left.into());
        }
    }
    statement.get_mut("Resource").is_none_or(|resources| fill_in(resources, tags))
}

/// Replaces the variables of texts, and removes texts whose variables have no value.
fn fill_in(texts: &mut Value, tags: &BTreeMap<String, String>) -> bool {
    let texts = texts.as_array_mut().unwrap();
    texts.retain_mut(|text| {
        let mut filled = text.as_str().unwrap().to_owned();
        for (tag, value) in tags {
            filled = filled.replace(&format!("${{aws:PrincipalTag/{tag}, '-'}}"), value);
        }
        let of_all = filled.ends_with(":repository/*");
        *text = if of_all { json!("*") } else { json!(filled) };
        !filled.contains("${")
    });
    !texts.is_empty()
}
