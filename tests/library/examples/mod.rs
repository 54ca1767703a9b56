//! Runs the example programs as users do. `mocked_tests` is a test itself, and `tests/cli/quickstart.rs` runs
//! `quickstart`.

mod batch_job;
mod catalog_service;
mod custom_backend;
mod ingest_job;
mod own_parts;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use ark_container_core::model::OrganizationId;

/// Returns a command that runs an example without this machine's settings.
fn example(name: &str, registry: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--example", name, "--"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("ARK_REGISTRY", format!("local:{}", registry.display()))
        .env("ARK_ORGANIZATION", OrganizationId::TBD.to_string())
        .env("XDG_CONFIG_HOME", registry.join("no-config"))
        .stdin(Stdio::null());
    for variable in
        ["ARK_PRINCIPAL", "ARK_JWT_FILE", "ARK_MEMBERSHIPS", "ARK_AUDIT_FILE", "ARK_KEY_SET"]
    {
        command.env_remove(variable);
    }
    command
}

/// Returns the output of a run: standard output and standard error.
fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// Returns the output of a run that must succeed.
#[track_caller]
fn succeeded(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let printed = printed(&output);
    assert!(output.status.success(), "{printed:?}");
    printed
}

/// Returns the standard error of a run that must fail.
#[track_caller]
fn failed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = printed(&output);
    assert!(!output.status.success() && stdout.is_empty(), "{stdout}{stderr}");
    stderr
}
