//! The example programs, run as their users run them. `mocked_tests` is its own test, and
//! `tests/cli/quickstart.rs` runs `quickstart`.

mod batch_job;
mod catalog_service;
mod custom_backend;
mod ingest_job;
mod own_parts;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use ark_container_core::model::OrganizationId;

/// An example, with nothing of this machine's own settings.
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

/// What a run printed: its results, and what it told.
fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// What a run that succeeds printed.
#[track_caller]
fn succeeded(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let printed = printed(&output);
    assert!(output.status.success(), "{printed:?}");
    printed
}

/// What a run that fails told.
#[track_caller]
fn failed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = printed(&output);
    assert!(!output.status.success() && stdout.is_empty(), "{stdout}{stderr}");
    stderr
}
