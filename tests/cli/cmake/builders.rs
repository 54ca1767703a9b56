//! Each builder, and several platforms.

use std::fs;

use serde_json::json;

use super::{Project, image};
use crate::component::component;
use crate::daemon::Daemon;
use crate::sandbox::Sandbox;
use crate::served::Served;

/// Builds, pushes and pulls; then the builder forgets the image, which has to be pushed once more.
fn image_comes_out(builder: &str, more: &[(&str, &str)], forget: &[&str]) {
    let served = Served::with_repositories(&["catalog/a"]);
    let tools = served.tools(&["catalog/a"]);
    let mut project = Project::new(&served.sandbox, &image("a", "TAGS 1"));
    for (name, value) in more.iter().chain(&[("ARK_DOCKER_BUILDER", builder)]) {
        project = project.with(name, value);
    }
    let project = project.configured("Ninja", &[]);
    let a = || vec!["a".to_owned()];
    assert_eq!(project.built("ark-docker"), (a(), a()));
    let files = project.pulled(&tools, &format!("{}:1", served.image("catalog/a")));
    assert_eq!(fs::read(files.join("hello")).unwrap(), b"hello");
    assert_eq!(project.built("ark-docker"), (vec![], vec![]));

    let mut command = project.command(component(forget[0]));
    let run = served.sandbox.finish(command.args(&forget[1..]));
    assert_eq!(run.code, 0, "{run:?}");
    fs::remove_file(project.path("build/a.image")).unwrap();
    let run = project.build("ark-docker", &[]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(project.path("build/a.image").is_file());
}

#[test]
fn podman() {
    image_comes_out("podman", &[], &["podman", "rmi", "--all", "--force"]);
}

#[test]
fn docker() {
    let daemon = Daemon::start();
    let host = daemon.host();
    let prune = ["docker", "--host", &host, "image", "prune", "--all", "--force"];
    image_comes_out("docker", &[("DOCKER_HOST", &host)], &prune);
}

#[test]
fn the_first_builder_that_works() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox, &image("a", "TAGS 1"))
        .with("ARK_DOCKER_BUILDER", "")
        .with("DOCKER_HOST", "unix:///nowhere")
        .configured("Ninja", &[]);
    assert_eq!(project.built("ark-docker").1, ["a"]);
    assert!(project.read("build/a-docker/built.cmake").contains("[podman:"));
    // A choice of the project's is stronger than the environment's.
    let project = project.with("ARK_DOCKER_BUILDER", "docker");
    let project = project.configured("Ninja", &["-DARK_DOCKER_BUILDER=buildah"]);
    assert_eq!(project.built("ark-docker").0, ["a"]);
    assert!(project.read("build/a-docker/built.cmake").contains("[oci:"));
}

#[test]
fn several_platforms_are_one_index() {
    for builder in ["podman", "buildah"] {
        let sandbox = Sandbox::new();
        let lists = image("a", "TAGS 1 PLATFORMS linux/amd64 linux/arm64") + &image("b", "TAGS 1");
        let project = Project::new(&sandbox, &lists)
            .with("ARK_DOCKER_BUILDER", builder)
            // What a toolchain file of a cross build says.
            .configured(
                "Ninja",
                &["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"],
            );
        project.built("ark-docker");
        let platforms = |name: &str| project.listed(name)[0]["platforms"].clone();
        let both = json!(["linux/amd64", "linux/arm64"]);
        assert_eq!(platforms("catalog/a"), both, "{builder}");
        assert_eq!(platforms("catalog/b"), json!(["linux/arm64"]), "{builder}");
    }
}
