//! Terraform's command line, and the provider that it is given.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::python_component::python_component;

/// What validates the arguments of resources.
#[derive(Debug)]
pub(super) enum Provider {
    /// The AWS provider itself, in a folder into which Terraform fetched it.
    Fetched(tempfile::TempDir),
    /// A program with the schema that the provider's documentation tells.
    StandIn,
}

impl Provider {
    /// The provider itself where Terraform can fetch it, else what stands in for it.
    pub(super) fn of(module: &Path) -> Self {
        let data = tempfile::tempdir().unwrap();
        let init = terraform(module).data(data.path()).args(["init", "-backend=false"]).output();
        match init.status.success() {
            true => Self::Fetched(data),
            false => Self::StandIn,
        }
    }
}

/// What `terraform validate` says of a module.
pub(super) fn validate(provider: &Provider, module: &Path) -> Value {
    let home = tempfile::tempdir().unwrap();
    let command = terraform(module).args(["validate", "-json"]);
    let command = match provider {
        Provider::Fetched(data) => command.data(data.path()),
        Provider::StandIn => command.stand_in(home.path()),
    };
    let output = command.output();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The module's folder.
pub(super) fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/terraform")
}

/// Terraform in a folder, without what the machine configures it with.
pub(super) fn terraform(folder: &Path) -> Terraform {
    let mut command = Command::new("terraform");
    command
        .current_dir(folder)
        .env("TF_CLI_CONFIG_FILE", "/dev/null")
        .env("CHECKPOINT_DISABLE", "1");
    command.env("TF_IN_AUTOMATION", "1").env("TF_INPUT", "0").env_remove("TF_LOG");
    Terraform(command)
}

/// One command that is to be run.
pub(super) struct Terraform(Command);

impl Terraform {
    pub(super) fn arg(self, argument: &str) -> Self {
        self.args([argument])
    }

    pub(super) fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.0.args(arguments);
        self
    }

    /// With this folder for what it fetches, so that nothing is left in the module.
    fn data(mut self, folder: &Path) -> Self {
        self.0.env("TF_DATA_DIR", folder);
        self
    }

    /// With the program that stands in for the AWS provider, which may write below `home`.
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

    /// A command whose component is missing fails: skipped, it would show nothing.
    pub(super) fn output(mut self) -> Output {
        self.0
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", missing()))
    }

    #[track_caller]
    pub(super) fn succeeds(self) {
        let output = self.output();
        assert!(output.status.success(), "{output:?}");
    }

    /// What it prints when this is typed.
    #[track_caller]
    pub(super) fn told(mut self, input: &str) -> String {
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
