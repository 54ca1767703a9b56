//! What is wrong when a project is configured: what is told, and what to type next.

use insta::assert_snapshot;

use super::Project;
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
