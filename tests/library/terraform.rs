//! Checks the Terraform module of `examples/terraform` with Terraform.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ark_container_core::backend::ecr::IamDeployment;
use ark_container_core::model::{AdditionalAction, EcrHost};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::python_component::python_component;

/// The templates of the module, by the name of their document.
const TEMPLATES: [&str; 5] = [
    "access-role-trust",
    "access-role-permissions",
    "administrator-role-trust",
    "administrator-role-permissions",
    "repository",
];

/// Returns the rendered templates.
fn rendered(variables: &str) -> BTreeMap<String, Value> {
    let names = TEMPLATES.map(|name| format!("{name:?}")).join(", ");
    let folder = module().join("policies");
    let folder = folder.display();
    let file = format!("templatefile(\"{folder}/${{name}}.json.tftpl\", {variables})");
    let documents = format!("{{ for name in [{names}] : name => jsondecode({file}) }}");
    let template = format!("base64encode(jsonencode({documents}))");
    let elsewhere = tempfile::tempdir().unwrap();
    let printed = terraform(elsewhere.path()).arg("console").output_for(&template);
    let encoded = printed.trim().trim_matches('"');
    serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap()
}

fn check(host: &str, partition: &str, stage: &str, audience: &str, repository_policy: bool) {
    let provider = "auth.example.com/realms/ark";
    let host: EcrHost = host.parse().unwrap();
    let (account, region) = (host.account().to_owned(), host.region().to_owned());
    let deployment = IamDeployment::new(host, stage.parse().unwrap(), provider, audience).unwrap();
    let actions = ["release", "debug"].map(|profile| {
        let profile = format!("arn:aws:signer:us-east-1:{account}:/signing-profiles/{profile}");
        AdditionalAction::new("signer:SignPayload", profile).unwrap()
    });
    // Either both are configured, or neither is.
    let (policies, actions) = match repository_policy {
        true => {
            let deployment = deployment.with_repository_policy();
            (deployment.with_additional_actions(actions.clone()).policies(), &actions[..])
        }
        false => (deployment.policies(), &[][..]),
    };
    let listed = actions.iter().map(|additional| {
        format!("{{ action = {:?}, resource = {:?} }}", additional.action(), additional.resource())
    });
    let listed = listed.collect::<Vec<_>>().join(", ");
    let mut rendered = rendered(&format!(
        "{{ partition = {partition:?}, account = {account:?}, region = {region:?}, \
         stage = {stage:?}, provider = {provider:?}, audience = {audience:?}, \
         repository_policy = {repository_policy}, additional_actions = [{listed}] }}"
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
fn templates_are_all_compared() {
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
        ("applied_for ", "applies_to ", "Missing required argument"),
        ("name   = \"BLOB_MOUNTING\"", "", "Missing required argument"),
    ] {
        let changed = main.replacen(good, bad, 1);
        assert_ne!(changed, main);
        fs::write(folder.path().join("main.tf"), changed).unwrap();
        let answer = validate(&Provider::StandIn, folder.path());
        assert_eq!(answer["valid"], false);
        assert!(answer["diagnostics"].to_string().contains(problem), "{answer:#}");
    }
}

/// The provider that validates the arguments of resources.
#[derive(Debug)]
enum Provider {
    /// The AWS provider, which Terraform fetched into a folder.
    Fetched(tempfile::TempDir),
    /// A program with the schema in the provider's documentation.
    StandIn,
}

impl Provider {
    /// Returns the AWS provider if Terraform can fetch it, else the stand-in.
    fn of(module: &Path) -> Self {
        let data = tempfile::tempdir().unwrap();
        let init = terraform(module).data(data.path()).args(["init", "-backend=false"]).output();
        match init.status.success() {
            true => Self::Fetched(data),
            false => Self::StandIn,
        }
    }
}

/// Returns the output of `terraform validate` on a module.
fn validate(provider: &Provider, module: &Path) -> Value {
    let home = tempfile::tempdir().unwrap();
    let command = terraform(module).args(["validate", "-json"]);
    let command = match provider {
        Provider::Fetched(data) => command.data(data.path()),
        Provider::StandIn => command.stand_in(home.path()),
    };
    let output = command.output();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Returns the module's folder.
fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/terraform")
}

/// Returns a Terraform command in a folder, without this machine's configuration.
fn terraform(folder: &Path) -> Terraform {
    let mut command = Command::new("terraform");
    command
        .current_dir(folder)
        .env("TF_CLI_CONFIG_FILE", "/dev/null")
        .env("CHECKPOINT_DISABLE", "1");
    command.env("TF_IN_AUTOMATION", "1").env("TF_INPUT", "0").env_remove("TF_LOG");
    Terraform(command)
}

/// A Terraform command.
struct Terraform(Command);

impl Terraform {
    fn arg(self, argument: &str) -> Self {
        self.args([argument])
    }

    fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.0.args(arguments);
        self
    }

    /// Uses `folder` for downloads, so that the module's folder does not change.
    fn data(mut self, folder: &Path) -> Self {
        self.0.env("TF_DATA_DIR", folder);
        self
    }

    /// Uses the stand-in for the AWS provider, which may write below `home`.
    fn stand_in(mut self, home: &Path) -> Self {
        let python = python_component("python");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("library/terraform/aws_provider.py");
        let program = home.join("terraform-provider-aws");
        let (python, script) = (python.get_program().display().to_string(), script.display());
        fs::write(&program, format!("#!/bin/sh\nexec {python:?} '{script}'\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let configuration = home.join("terraformrc");
        let home = home.display();
        let overrides = format!("dev_overrides {{\n\"hashicorp/aws\" = \"{home}\"\n}}");
        let overrides = format!("provider_installation {{\n{overrides}\ndirect {{}}\n}}\n");
        fs::write(&configuration, overrides).unwrap();
        self.0.env("TF_CLI_CONFIG_FILE", configuration).env("HOME", home.to_string());
        self
    }

    /// Runs the command. Panics if Terraform is missing, so that no test is skipped silently.
    fn output(mut self) -> Output {
        self.0
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", missing()))
    }

    #[track_caller]
    fn succeeds(self) {
        let output = self.output();
        assert!(output.status.success(), "{output:?}");
    }

    /// Returns the output for this input on standard input.
    #[track_caller]
    fn output_for(mut self, input: &str) -> String {
        let piped = self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{}: {error}", missing()));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn missing() -> &'static str {
    "terraform cannot be run; install it: https://developer.hashicorp.com/terraform/install"
}
