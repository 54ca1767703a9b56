//! Errors of the CMake module: the message, and the command to type next.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use super::{Project, image};
use crate::sandbox::{BINARY, Run, Sandbox, TBD};

/// The sentence and the help of a run that failed, without what CMake says around them.
pub(super) fn told(run: &Run) -> String {
    assert_ne!(run.code, 0, "{run:?}");
    let text = format!("{}{}", run.stdout, run.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let errors = lines.iter().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{text}");
    let first = lines.iter().position(|line| line.starts_with("error: ")).unwrap();
    assert!(lines[first + 1].starts_with("help: "), "{text}");
    format!("{}\n  {}", lines[first], lines[first + 1]).replace(BINARY, "TOOL")
}

/// What is told of a call with these arguments.
fn refusal(arguments: &str) -> String {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &format!("ark_add_docker({arguments})\n"));
    told(&project.configure("Ninja", &[]))
}

fn repository(more: &str) -> String {
    refusal(&format!("a ORGANIZATION {TBD} REPOSITORY catalog/a {more}"))
}

#[test]
fn organization() {
    assert_snapshot!(refusal("a ORGANIZATION 2ea25035 REPOSITORY a/b"), @r#"
    error: ark_add_docker(a): "2ea25035" is no organization's GUID: it has 32 hexadecimal digits as 8-4-4-4-12
      help: your organizations: TOOL --whoami
    "#);
    assert_snapshot!(refusal("a REPOSITORY a/b"), @"
    error: ark_add_docker(a): ORGANIZATION is missing
      help: ark_add_docker(a ORGANIZATION GUID REPOSITORY catalog/extract-video)
    ");
}

#[test]
fn repository_name() {
    assert_snapshot!(refusal(&format!("a ORGANIZATION {TBD} REPOSITORY Catalog/a")), @r#"
    error: ark_add_docker(a): "Catalog/a" is no repository's name
      help: lower-case words with slashes between, as catalog/extract-video; tags go behind TAGS
    "#);
    assert_snapshot!(refusal(&format!("a ORGANIZATION {TBD} REPOSITORY a:v1")), @r#"
    error: ark_add_docker(a): "a:v1" is no repository's name
      help: lower-case words with slashes between, as catalog/extract-video; tags go behind TAGS
    "#);
    assert_snapshot!(refusal(&format!("a ORGANIZATION {TBD} REPOSITORY")), @"
    error: ark_add_docker(a): REPOSITORY has no value
      help: give one behind REPOSITORY, or leave it out
    ");
}

#[test]
fn dockerfile() {
    assert_snapshot!(repository("DOCKERFILE Dockerfile.absent"), @"
    error: ark_add_docker(a): the Dockerfile ~/pro ject/Dockerfile.absent does not exist
      help: create it, or name another: DOCKERFILE FILE
    ");
}

#[test]
fn tags() {
    assert_snapshot!(repository("TAGS latest"), @"
    error: ark_add_docker(a): the tag latest alone does not say what is in an image
      help: give another beside it, as TAGS v1.2 latest, or leave TAGS out for what git describes the commit as
    ");
    assert_snapshot!(repository("TAGS a/b"), @r#"
    error: ark_add_docker(a): "a/b" is no tag
      help: up to 128 letters, digits, '_', '.' and '-', as v1.2
    "#);
    let sandbox = Sandbox::new();
    let call = format!("ark_add_docker(a ORGANIZATION {TBD} REPOSITORY a)\n");
    let project = Project::new(&sandbox, &call);
    std::fs::remove_dir_all(project.path(".git")).unwrap();
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"
    error: ark_add_docker(a): git knows no commit of ~/pro ject to tag the image with: fatal: not a git repository (or any of the parent directories): .git
      help: commit it, or give tags: TAGS v1.2
    ");
    project.git("init -q");
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"
    error: ark_add_docker(a): git knows no commit of ~/pro ject to tag the image with: fatal: Needed a single revision
      help: commit it, or give tags: TAGS v1.2
    ");
    project.git("add .");
    project.git("commit -q -m change");
    let project = project.with("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"
    error: ark_add_docker(a): git knows no commit of ~/pro ject to tag the image with: fatal: detected dubious ownership in repository at '~/pro ject'
      help: give tags: TAGS v1.2; or trust the folder: git config --global --add safe.directory '~/pro ject'
    ");
}

#[test]
fn files_and_targets() {
    assert_snapshot!(repository("FILES absent"), @"
    error: ark_add_docker(a): the file absent is neither in ~/pro ject nor made by a custom command of this folder
      help: correct its name behind FILES
    ");
    assert_snapshot!(repository("TARGETS absent"), @"
    error: ark_add_docker(a): there is no target absent
      help: TARGETS takes targets that are defined before; files that exist go behind FILES
    ");
}

#[test]
fn other_arguments() {
    assert_snapshot!(repository("TAG v1"), @r#"
    error: ark_add_docker(a): "TAG" is no keyword of it
      help: the keywords: ORGANIZATION, REPOSITORY, DOCKERFILE, TARGETS, FILES, TAGS, BUILD_ARGS, PLATFORMS, REGISTRY, CREATE
    "#);
    assert_snapshot!(repository("PLATFORMS arm64"), @r#"
    error: ark_add_docker(a): "arm64" is no platform
      help: as PLATFORMS linux/amd64 linux/arm64
    "#);
    assert_snapshot!(repository("BUILD_ARGS VERSION"), @r#"
    error: ark_add_docker(a): the build argument "VERSION" is not of the form KEY=VALUE
      help: as BUILD_ARGS VERSION=1.2
    "#);
    assert_snapshot!(refusal(&format!("\"a b\" ORGANIZATION {TBD} REPOSITORY a")), @r#"
    error: ark_add_docker(a b): "a b" cannot be part of a target's name
      help: letters, digits, '_', '.', '+' and '-', as ark-extract-catalog-video
    "#);
    let twice = format!("TAGS 1)\nark_add_docker(a ORGANIZATION {TBD} REPOSITORY b TAGS 1");
    assert_snapshot!(repository(&twice), @"
    error: ark_add_docker(a): there is such an image already, from ~/pro ject
      help: give each image a name of its own
    ");
}

#[test]
fn settings() {
    let sandbox = Sandbox::new();
    let call = format!("ark_add_docker(a ORGANIZATION {TBD} REPOSITORY a TAGS 1)\n");
    let project = Project::new(&sandbox, &call);
    assert_snapshot!(told(&project.configure("Ninja", &["-DARK_DOCKER_BUILDER=kaniko"])), @r#"
    error: ark_add_docker(a): ARK_DOCKER_BUILDER is "kaniko", which is no builder
      help: docker, podman or buildah, or empty for the first that works: cmake -DARK_DOCKER_BUILDER= .
    "#);
    let absent = ["-DARK_DOCKER_BUILDER=", "-DARK_CONTAINER_TOOL=/absent/tool"];
    assert_snapshot!(told(&project.configure("Ninja", &absent)), @"
    error: ark_add_docker(a): the tool /absent/tool does not exist
      help: cmake -DARK_CONTAINER_TOOL=FILE .
    ");
    std::fs::remove_dir_all(project.path("build")).unwrap();
    project.write("build/a-docker", "a file where a folder is to be");
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"
    error: ark_add_docker(a): ~/pro ject/build/a-docker is in the way: it is to be a folder
      help: remove it, or build in another folder: cmake -B DIR
    ");
}

#[test]
fn no_tool() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, "").with("PATH", "/usr/bin:/bin");
    let run = project.configure("Ninja", &["-UARK_CONTAINER_TOOL"]);
    assert_ne!(run.code, 0, "{run:?}");
    let told = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("say where it is: cmake -DARK_CONTAINER_TOOL=FILE"), "{run:?}");
}

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
