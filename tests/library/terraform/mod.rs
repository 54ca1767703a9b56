//! The Terraform module of `examples/terraform`, as Terraform sees it.

mod command;

use std::collections::BTreeMap;
use std::fs;

use ark_container_core::backend::ecr::IamDeployment;
use ark_container_core::model::EcrHost;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use command::{Provider, module, terraform, validate};

/// The templates that the module fills in, by the name of their document.
const TEMPLATES: [&str; 5] = [
    "access-role-trust",
    "access-role-permissions",
    "administrator-role-trust",
    "administrator-role-permissions",
    "repository",
];

/// What Terraform makes of the templates.
fn rendered(variables: &str) -> BTreeMap<String, Value> {
    let names = TEMPLATES.map(|name| format!("{name:?}")).join(", ");
    let folder = module().join("policies");
    let folder = folder.display();
    let file = format!("templatefile(\"{folder}/${{name}}.json.tftpl\", {variables})");
    let documents = format!("{{ for name in [{names}] : name => jsondecode({file}) }}");
    let template = format!("base64encode(jsonencode({documents}))");
    let elsewhere = tempfile::tempdir().unwrap();
    let printed = terraform(elsewhere.path()).arg("console").told(&template);
    let encoded = printed.trim().trim_matches('"');
    serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap()
}

fn check(host: &str, partition: &str, stage: &str, audience: &str, repository_policy: bool) {
    let provider = "auth.example.com/realms/ark";
    let host: EcrHost = host.parse().unwrap();
    let (account, region) = (host.account().to_owned(), host.region().to_owned());
    let deployment = IamDeployment::new(host, stage.parse().unwrap(), provider, audience).unwrap();
    let policies = match repository_policy {
        true => deployment.with_repository_policy().policies(),
        false => deployment.policies(),
    };
    let mut rendered = rendered(&format!(
        "{{ partition = {partition:?}, account = {account:?}, region = {region:?}, \
         stage = {stage:?}, provider = {provider:?}, audience = {audience:?}, \
         repository_policy = {repository_policy} }}"
    ));
    let mut same = |name: &str, document: String| {
        let document: Value = serde_json::from_str(&document).unwrap();
        let rendered = rendered.remove(name).unwrap();
        let shown = serde_json::to_string_pretty(&document).unwrap();
        assert!(rendered == document, "examples/terraform/policies/{name} is to be {shown}");
    };
    same("access-role-trust", policies.access_role.trust.to_string());
    same("access-role-permissions", policies.access_role.permissions.to_string());
    same("administrator-role-trust", policies.administrator_role.trust.to_string());
    same("administrator-role-permissions", policies.administrator_role.permissions.to_string());
    if let Some(policy) = policies.repository_policy {
        same("repository", policy.to_string());
    }
}

#[test]
fn templates_match_the_policies_of_the_library() {
    let usual = "095412845506.dkr.ecr.us-east-1.amazonaws.com";
    for repository_policy in [false, true] {
        check(usual, "aws", "prod", "ark", repository_policy);
    }
    let elsewhere = "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn";
    check(elsewhere, "aws-cn", "dev-2", "https://ark.example.com/?x=%25", true);
}

#[test]
fn every_template_is_compared() {
    let files = fs::read_dir(module().join("policies")).unwrap();
    let mut found: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let mut known = TEMPLATES.map(|name| format!("{name}.json.tftpl"));
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn terraform_module_is_formatted() {
    terraform(&module()).args(["fmt", "-check", "-diff", "-recursive"]).succeeds();
}

#[test]
fn terraform_accepts_the_module() {
    let provider = Provider::of(&module());
    let answer = validate(&provider, &module());
    assert_eq!(answer["valid"], true, "{provider:?}: {answer:#}");
}

#[test]
fn terraform_rejects_unknown_arguments() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["variables.tf", "outputs.tf"] {
        fs::copy(module().join(file), folder.path().join(file)).unwrap();
    }
    std::os::unix::fs::symlink(module().join("policies"), folder.path().join("policies")).unwrap();
    let main = fs::read_to_string(module().join("main.tf")).unwrap();
    for (good, bad, problem) in [
        ("assume_role_policy ", "assume_policy ", "Missing required argument"),
        ("max_session_duration ", "longest_session ", "Unsupported argument"),
        ("aws_iam_role.access.id", "aws_iam_role.access.arnn", "Unsupported attribute"),
    ] {
        let changed = main.replacen(good, bad, 1);
        assert_ne!(changed, main);
        fs::write(folder.path().join("main.tf"), changed).unwrap();
        let answer = validate(&Provider::StandIn, folder.path());
        assert_eq!(answer["valid"], false);
        assert!(answer["diagnostics"].to_string().contains(problem), "{answer:#}");
    }
}
