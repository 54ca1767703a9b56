//! What is wrong when a project is configured: what is told, and what to type next.

use insta::assert_snapshot;

use super::Project;
use crate::sandbox::{Run, Sandbox, TBD};

/// The sentence and the help of a run that failed, without what CMake says around them.
pub(super) fn told(run: &Run) -> String {
    assert_ne!(run.code, 0, "{run:?}");
    let text = format!("{}{}", run.stdout, run.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let errors = lines.iter().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{text}");
    let first = lines.iter().position(|line| line.starts_with("error: ")).unwrap();
    assert!(lines[first + 1].starts_with("help: "), "{text}");
    format!("{}\n  {}", lines[first], lines[first + 1])
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
    assert_snapshot!(refusal("a ORGANIZATION 2ea25035 REPOSITORY a/b"), @"");
    assert_snapshot!(refusal("a REPOSITORY a/b"), @"");
}

#[test]
fn repository_name() {
    assert_snapshot!(refusal(&format!("a ORGANIZATION {TBD} REPOSITORY Catalog/a")), @"");
    assert_snapshot!(refusal(&format!("a ORGANIZATION {TBD} REPOSITORY a:v1")), @"");
    assert_snapshot!(refusal(&format!("a ORGANIZATION {TBD} REPOSITORY")), @"");
}

#[test]
fn dockerfile() {
    assert_snapshot!(repository("DOCKERFILE Dockerfile.absent"), @"");
}

#[test]
fn tags() {
    assert_snapshot!(repository("TAGS latest"), @"");
    assert_snapshot!(repository("TAGS a/b"), @"");
    let sandbox = Sandbox::new();
    let call = format!("ark_add_docker(a ORGANIZATION {TBD} REPOSITORY a)\n");
    let project = Project::new(&sandbox, &call);
    std::fs::remove_dir_all(project.path(".git")).unwrap();
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"");
    project.git("init -q");
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"");
}

#[test]
fn files_and_targets() {
    assert_snapshot!(repository("FILES absent"), @"");
    assert_snapshot!(repository("TARGETS absent"), @"");
}

#[test]
fn other_arguments() {
    assert_snapshot!(repository("TAG v1"), @"");
    assert_snapshot!(repository("PLATFORMS arm64"), @"");
    assert_snapshot!(repository("BUILD_ARGS VERSION"), @"");
    assert_snapshot!(refusal(&format!("\"a b\" ORGANIZATION {TBD} REPOSITORY a")), @"");
    let twice = format!("TAGS 1)\nark_add_docker(a ORGANIZATION {TBD} REPOSITORY b TAGS 1");
    assert_snapshot!(repository(&twice), @"");
}

#[test]
fn settings() {
    let sandbox = Sandbox::new();
    let call = format!("ark_add_docker(a ORGANIZATION {TBD} REPOSITORY a TAGS 1)\n");
    let project = Project::new(&sandbox, &call);
    assert_snapshot!(told(&project.configure("Ninja", &["-DARK_DOCKER_BUILDER=kaniko"])), @"");
    let absent = ["-DARK_DOCKER_BUILDER=", "-DARK_CONTAINER_TOOL=/absent/tool"];
    assert_snapshot!(told(&project.configure("Ninja", &absent)), @"");
    std::fs::remove_dir_all(project.path("build")).unwrap();
    project.write("build/a-docker", "a file where a folder is to be");
    assert_snapshot!(told(&project.configure("Ninja", &[])), @"");
}

#[test]
fn no_tool() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, "").with("PATH", "/usr/bin:/bin");
    let run = project.configure("Ninja", &["-UARK_CONTAINER_TOOL"]);
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("say where it is: cmake -DARK_CONTAINER_TOOL=FILE"), "{run:?}");
}
