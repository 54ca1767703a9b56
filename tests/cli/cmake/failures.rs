//! What goes wrong while a project is built: what is told, and what to type next.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use super::configuring::told;
use super::{Project, image};
use crate::sandbox::{Run, Sandbox};

/// A project whose builder is a script.
fn with_builder<'a>(sandbox: &'a Sandbox, builder: &str, script: &str) -> Project<'a> {
    let stub = sandbox.write(&format!("stubs/{builder}"), script);
    fs::set_permissions(stub, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("stubs").display(), std::env::var("PATH").unwrap());
    Project::new(sandbox, &image("a", "TAGS 1"))
        .with("PATH", &path)
        .with("ARK_DOCKER_BUILDER", builder)
        .configured("Ninja", &[])
}

fn built(project: &Project<'_>) -> Run {
    let run = project.build("ark-docker", &[]);
    // Nothing comes behind the message but ninja's own end.
    let last: Vec<&str> = run.stdout.trim_end().lines().rev().take(2).collect();
    assert_eq!(last[0], "ninja: build stopped: subcommand failed.", "{}", run.stdout);
    assert!(last[1].starts_with("  help: "), "{}", run.stdout);
    run
}

#[test]
fn a_builder_that_does_not_work() {
    let sandbox = Sandbox::new();
    let project =
        with_builder(&sandbox, "podman", "#!/bin/sh\necho 'no space left' >&2\nexit 125\n");
    assert_snapshot!(told(&built(&project)), @"");
    let project = project.with("ARK_DOCKER_BUILDER", "kaniko");
    assert_snapshot!(told(&built(&project)), @"");
    // cmake, git and a shell, and no builder.
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    for tool in ["cmake", "ninja", "git", "sh"] {
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|folder| folder.join(tool));
        let found = found.into_iter().find(|file| file.is_file()).unwrap();
        std::os::unix::fs::symlink(found, bin.join(tool)).unwrap();
    }
    let project = project.with("ARK_DOCKER_BUILDER", "").with("PATH", bin.to_str().unwrap());
    assert_snapshot!(told(&built(&project)), @"");
}

#[test]
fn a_build_that_fails() {
    let sandbox = Sandbox::new();
    let script = "#!/bin/sh\n[ \"$1\" = info ] && exit\necho 'the builder says why' >&2\nexit 1\n";
    let project = with_builder(&sandbox, "buildah", script);
    let run = built(&project);
    assert!(run.stdout.contains("\nthe builder says why\nerror: "), "{}", run.stdout);
    let local_name =
        run.stdout.split_once("/ark-docker/").unwrap().1[.."a:01234567".len()].to_owned();
    assert_snapshot!(told(&run).replace(&local_name, "a:HASH"), @"");
}

#[test]
fn a_registry_that_is_not_reached() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &image("a", "TAGS 1"))
        .with("ARK_REGISTRY", "ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod")
        .with("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", "secret")
        .with("AWS_MAX_ATTEMPTS", "1")
        .configured("Ninja", &[]);
    let run = built(&project);
    assert_snapshot!(told(&run), @"");
    assert!(!project.path("build/a.image").exists());
    // The image is built, and where it is pushed to is there again.
    let project = project.with("ARK_REGISTRY", "");
    assert_eq!(project.built("ark-docker"), (vec![], vec!["a".to_owned()]));
}

#[test]
fn a_repository_that_is_missing() {
    let sandbox = Sandbox::new();
    let lists = image("a", "TAGS 1").replace("CREATE", "");
    let project = Project::new(&sandbox, &lists).configured("Unix Makefiles", &[]);
    let run = project.build("ark-docker", &[]);
    assert_snapshot!(told(&run), @"");
}

#[test]
fn a_tool_that_does_not_run() {
    let sandbox = Sandbox::new();
    let tool = sandbox.write("tool", "no program");
    let option = format!("-DARK_CONTAINER_TOOL={}", tool.display());
    let project = Project::new(&sandbox, &image("a", "TAGS 1")).configured("Ninja", &[&option]);
    assert_snapshot!(told(&built(&project)), @"");
}

#[test]
fn a_context_that_cannot_be_made() {
    let sandbox = Sandbox::new();
    let lists = image("a", "${CMAKE_CURRENT_BINARY_DIR}/hello TAGS 1");
    let project = Project::new(&sandbox, &lists);
    project.write("build/hello", "another of the same name");
    let project = project.configured("Ninja", &[]);
    assert_snapshot!(told(&built(&project)), @"");
}

#[test]
fn a_build_folder_that_cannot_be_written_to() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &image("a", "TAGS 1")).configured("Ninja", &[]);
    project.write("build/ark-docker", "a file where a folder is to be");
    let run = project.build("ark-docker", &[]);
    assert_snapshot!(told(&run), @"");
}
