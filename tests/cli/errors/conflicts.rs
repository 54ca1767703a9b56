//! What exists and is in the way.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;

use super::told;
use crate::sandbox::{Sandbox, TBD};

fn on(sandbox: &Sandbox, line: &str) -> String {
    told(&sandbox.run(&format!("--quiet {line} --organization {TBD}")))
}

#[test]
fn other_settings() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    assert_snapshot!(on(&sandbox, "--create-repository a --immutable-tags"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a already exists with mutable tags
      help: its settings stay; to take it as it is: ark-catalog-container-tool --create-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(on(&sandbox, "--create-repository a --resource-tag team=x"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a already exists without the resource tag team=x
      help: its settings stay; to take it as it is: ark-catalog-container-tool --create-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    sandbox.printed(&format!("--create-repository b --organization {TBD} --immutable-tags"));
    assert_snapshot!(on(&sandbox, "--create-repository b"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/b already exists with immutable tags
      help: its settings stay; to take it as it is: ark-catalog-container-tool --create-repository b --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --immutable-tags
    ");
}

#[test]
fn a_repository_with_images() {
    let sandbox = Sandbox::new();
    sandbox.push("a:v1");
    assert_snapshot!(on(&sandbox, "--delete-repository a"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a has images
      help: delete its images too: ark-catalog-container-tool --delete-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --force
    ");
    sandbox.printed(&format!("--delete-repository a --force --organization {TBD}"));
}

#[test]
fn an_immutable_tag() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD} --immutable-tags"));
    let push = |layout: &str| format!("--push a:v1 --from oci:{layout} --organization {TBD}");
    sandbox.write_image("first", "first");
    sandbox.write_image("other", "other");
    let url = sandbox.printed(&push("first"));
    assert_snapshot!(on(&sandbox, "--push a:v1 --from oci:other"), @"
    exit 6
    error: image 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v1 cannot be changed: the tags of this repository are immutable
      help: push it under another tag: ark-catalog-container-tool --push a:TAG --from oci:other --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_eq!(sandbox.printed(&push("first")), url);
}

#[test]
fn an_image_of_an_index() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let index = SampleImage::for_two_platforms();
    index.write_oci_layout(&sandbox.path("index"), None).unwrap();
    sandbox.printed(&format!("--push a:v1 --from oci:index --all-platforms --organization {TBD}"));
    let image = index.children()[0].digest().to_string();
    let told = on(&sandbox, &format!("--delete-image a@{image}"));
    let told = told.replace(&image, "sha256:IMAGE");
    assert_snapshot!(told.replace(&index.digest().to_string(), "sha256:INDEX"), @"
    exit 6
    error: image prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a@sha256:IMAGE is part of the index sha256:INDEX
      help: delete what refers to it first: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

#[test]
fn a_registry_that_is_served_already() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve();
    let told = told(&sandbox.run("--quiet --serve --listen 127.0.0.1:0"));
    assert_snapshot!(told.replace(server.line().trim(), "127.0.0.1:PORT"), @"
    exit 6
    error: file ~/data/ark/registry is served already, at 127.0.0.1:PORT
      help: one server is enough: every process here finds it
    ");
}
