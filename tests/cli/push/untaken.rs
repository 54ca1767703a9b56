//! What docker and podman cannot give, with commands that stand in for them where they would not fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use insta::assert_snapshot;

use crate::component::component;
use crate::sandbox::{Sandbox, TBD};

fn with_repository() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    fs::create_dir(sandbox.path("bin")).unwrap();
    sandbox
}

/// A command of this name that the program finds, and no other.
fn stand_in(sandbox: &Sandbox, name: &str, script: &str) {
    let path = sandbox.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn push(sandbox: &Sandbox, source: &str) -> Command {
    let line = format!("--quiet --push a:v1 --from {source} --organization {TBD}");
    let mut push = sandbox.command(&line);
    push.env("PATH", sandbox.path("bin"));
    push
}

fn told(sandbox: &Sandbox, source: &str) -> String {
    let run = sandbox.finish(&mut push(sandbox, source));
    assert_eq!(run.stdout, "", "{run:?}");
    format!("exit {}\n{}", run.code, run.stderr)
}

#[test]
fn a_missing_command_comes_with_its_package() {
    let sandbox = with_repository();
    assert_snapshot!(told(&sandbox, "docker-daemon:alpine:3"), @"
    exit 1
    error: docker is not installed, or not on the PATH; on Debian: apt-get install docker.io
    ");
    assert_snapshot!(told(&sandbox, "podman:alpine"), @"
    exit 1
    error: podman is not installed, or not on the PATH; on Debian: apt-get install podman
    ");
    assert_snapshot!(told(&sandbox, "alpine:3"), @r#"
    exit 2
    error: "alpine:3" is no image source: there is no such file, docker is not installed, podman is not installed; write docker-daemon:REF, podman:REF, docker-archive:FILE[:REF], oci:DIR[:REF], oci-archive:FILE[:REF], or - for an archive on standard input
    "#);
    assert_snapshot!(told(&sandbox, "podman:-q"), @r#"
    exit 2
    error: image source "podman:-q" names an option, not an image
    "#);
}

#[test]
fn a_daemon_that_is_down_speaks_for_itself() {
    let sandbox = with_repository();
    // docker's own client, with no daemon where it looks.
    let path = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join(component("docker").get_program()))
        .find(|path| path.is_file());
    std::os::unix::fs::symlink(path.unwrap(), sandbox.path("bin/docker")).unwrap();
    let mut push = push(&sandbox, "docker-daemon:alpine:3");
    let run = sandbox.finish(push.env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("docker does not give its image alpine:3"), "{run:?}");
    assert!(
        run.stderr.contains("Cannot connect to the Docker daemon at unix:///nowhere"),
        "{run:?}"
    );
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_save_that_fails_or_gives_nonsense_is_told() {
    let sandbox = with_repository();
    let save = |script: &str| {
        stand_in(
            &sandbox,
            "docker",
            &format!("case $1 in image) echo sha256:{ID};; save) {script};; esac"),
        );
        told(&sandbox, "docker-daemon:a:1")
    };
    assert_snapshot!(save("echo part; echo 'unexpected EOF' >&2; exit 1"), @"
    exit 1
    error: docker does not give its image a:1: unexpected EOF
    ");
    assert_snapshot!(save("echo no archive"), @"
    exit 1
    error: docker-daemon:a:1 is no whole archive: failed to read entire block
    ");
    assert_snapshot!(save("kill -9 $$"), @"
    exit 1
    error: docker does not give its image a:1: signal: 9 (SIGKILL)
    ");
    stand_in(&sandbox, "docker", "echo nonsense");
    assert_snapshot!(told(&sandbox, "docker-daemon:a:1"), @r#"
    exit 1
    error: docker does not give its image a:1: "nonsense" is no ID of an image
    "#);
}

#[test]
fn a_name_that_both_have_is_to_be_told_apart() {
    let sandbox = with_repository();
    for name in ["docker", "podman"] {
        stand_in(&sandbox, name, &format!("echo {ID}"));
    }
    assert_snapshot!(told(&sandbox, "alpine:3"), @r#"
    exit 2
    error: "alpine:3" may be several things; write docker-daemon:alpine:3 or podman:alpine:3
    "#);
}

#[test]
fn nothing_on_standard_input_is_told() {
    let sandbox = with_repository();
    assert_snapshot!(told(&sandbox, "-"), @"
    exit 1
    error: standard input: nothing came
    ");
}
