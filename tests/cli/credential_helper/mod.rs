//! `docker-credential-ark`: its protocol, the clients that run it, and how docker is configured for it.

mod aws;
mod clients;
mod configure_docker;
mod docker_config;
mod protocol;
mod registries;

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::ecr::{Cloud, alice};
use crate::sandbox::{Run, Sandbox};

/// The program.
const HELPER: &str = env!("CARGO_BIN_EXE_docker-credential-ark");

/// Where it is, as a part of PATH.
fn folder() -> &'static str {
    Path::new(HELPER).parent().unwrap().to_str().unwrap()
}

/// The helper in a sandbox, with what clients send it.
fn helper(sandbox: &Sandbox, operation: &str, input: impl AsRef<[u8]>) -> Command {
    let mut command = sandbox.at_home(HELPER);
    command.arg(operation).stdin(sent(input));
    command
}

/// What a client sends, as a file that it is read from.
fn sent(input: impl AsRef<[u8]>) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_ref()).unwrap();
    file.rewind().unwrap();
    file
}

/// The same on behalf of alice, where the sandbox's registry is an account's.
fn helper_at(cloud: &Cloud, operation: &str, input: impl AsRef<[u8]>) -> Command {
    let mut command = helper(&cloud.sandbox, operation, input);
    command
        .env("ARK_REGISTRY", format!("ecr://{}/prod", cloud.aws.host()))
        .envs(cloud.aws.environment(alice().access_key()));
    command
}

/// What a run of the helper told that failed, as docker and its kin read it.
fn told(run: &Run) -> String {
    assert_eq!(run.code, 1, "{run:?}");
    // Some clients show the one, and some the other.
    let expected = if run.stdout.starts_with("docker-credential-ark: ") { &run.stdout } else { "" };
    assert_eq!(run.stderr, expected);
    run.stdout.clone()
}

/// The login that a run of the helper answered with: server, user and password.
fn login(run: &Run) -> (String, String, String) {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let login: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(login.as_object().unwrap().len(), 3);
    let text = |name: &str| login[name].as_str().unwrap().to_owned();
    (text("ServerURL"), text("Username"), text("Secret"))
}
