//! A user without a name, as in a container that runs under a bare number.

use std::process::Command;

use insta::assert_snapshot;

use super::{alice, provider, write_token};
use crate::ecr::{Cloud, alice as administrator};
use crate::sandbox::{Run, Sandbox, TBD};

/// Runs a command under a number that the system has no name for.
///
/// `unshare` is part of util-linux; it shows the same user under another number.
fn nameless(sandbox: &Sandbox, command: &Command) -> Run {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-user=54321", "--"]).arg(command.get_program());
    unshare.args(command.get_args()).env_clear().current_dir(sandbox.path(""));
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            unshare.env(name, value);
        }
    }
    sandbox.finish(&mut unshare)
}

#[test]
fn on_this_machine_somebody_has_to_be_named() {
    let sandbox = Sandbox::new();
    let run = nameless(&sandbox, &sandbox.command("--quiet --whoami"));
    assert_snapshot!(format!("exit {}\n{}", run.code, run.stderr), @"
    exit 3
    error: not authenticated: the operating system has no name for this user: Null record
      help: say who asks: export ARK_PRINCIPAL=user:NAME
    ");
    write_token(&sandbox, "token", &provider().token(&alice()).unwrap());
    let mut whoami = sandbox.command("--quiet --whoami");
    let run = nameless(&sandbox, whoami.env("ARK_JWT_FILE", "token"));
    assert!(run.stdout.starts_with("Principal      user:alice\n"), "{run:?}");
}

#[test]
fn in_aws_they_are_called_what_aws_calls_them() {
    let cloud = Cloud::new();
    let whoami = cloud.command_as(&administrator(), "--quiet --whoami");
    let run = nameless(&cloud.sandbox, &whoami);
    let name = "Principal      user:arn:aws:iam::095412845506:user/alice\n";
    assert!(run.stdout.starts_with(name), "{run:?}");
    for line in [
        format!("--create-repository a --organization {TBD}"),
        format!("--login a --organization {TBD}"),
    ] {
        let run = nameless(&cloud.sandbox, &cloud.narrowed_command(&line));
        assert_eq!(run.code, 0, "{run:?}");
    }
}
