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
    assert_snapshot!(told(&built(&project)), @"
    error: the image a cannot be built: the builder that ARK_DOCKER_BUILDER chooses does not work: podman: no space left
      help: see what it says: podman info; or name another in ARK_DOCKER_BUILDER
    ");
    let project = project.with("ARK_DOCKER_BUILDER", "kaniko");
    assert_snapshot!(told(&built(&project)), @r#"
    error: the image a cannot be built: ARK_DOCKER_BUILDER is "kaniko", which is no builder
      help: export ARK_DOCKER_BUILDER=podman; docker and buildah are the others
    "#);
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
    assert_snapshot!(told(&built(&project)), @"
    error: the image a cannot be built: no builder works: docker: it is not installed; podman: it is not installed; buildah: it is not installed
      help: start docker, or install another builder: apt-get install buildah
    ");
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
    assert_snapshot!(told(&run).replace(&local_name, "a:HASH"), @"
    error: buildah could not build the image a, and says why above
      help: to try it alone: buildah bud --layers --file '~/pro ject/Dockerfile' --tag localhost/ark-docker/a:HASH --iidfile '~/pro ject/build/a-docker/image.id' '~/pro ject/build/a-docker/context'
    ");
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
    assert_snapshot!(told(&run), @"
    error: cannot describe prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/a in ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: its AWS endpoint cannot be reached: io error: client error (Connect): tcp connect error: Connection refused (os error 111)
      help: try again in a while
    ");
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
    assert_snapshot!(told(&run), @"
    error: repository 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/a does not exist
      help: create it: ark-catalog-container-tool --create-repository catalog/a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

#[test]
fn a_tool_that_does_not_run() {
    let sandbox = Sandbox::new();
    let tool = sandbox.write("tool", "no program");
    let option = format!("-DARK_CONTAINER_TOOL={}", tool.display());
    let project = Project::new(&sandbox, &image("a", "TAGS 1")).configured("Ninja", &[&option]);
    assert_snapshot!(told(&built(&project)), @"
    error: the tool ~/tool cannot be run: Permission denied
      help: cmake -DARK_CONTAINER_TOOL=FILE '~/pro ject/build'
    ");
}

#[test]
fn a_context_that_cannot_be_made() {
    let sandbox = Sandbox::new();
    let lists = image("a", "${CMAKE_CURRENT_BINARY_DIR}/hello TAGS 1");
    let project = Project::new(&sandbox, &lists);
    project.write("build/hello", "another of the same name");
    let project = project.configured("Ninja", &[]);
    assert_snapshot!(told(&built(&project)), @"
    error: the context of the image a cannot be made: two of its files are called hello
      help: see TARGETS and FILES of ark_add_docker(a)
    ");
}

#[test]
fn a_build_folder_that_cannot_be_written_to() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &image("a", "TAGS 1")).configured("Ninja", &[]);
    project.write("build/ark-docker", "a file where a folder is to be");
    let run = project.build("ark-docker", &[]);
    assert_snapshot!(told(&run), @"
    error: nothing can be written to ~/pro ject/build/ark-docker: Not a directory
      help: build in a folder that is yours: cmake -B DIR
    ");
}
