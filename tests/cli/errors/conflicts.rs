//! Conflicts with existing repositories, images, tags and servers.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

fn on(sandbox: &Sandbox, line: &str) -> String {
    reported(&sandbox.run(&format!("--quiet {line} --organization {TBD}")))
}

#[test]
fn create_with_other_settings_is_a_conflict() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    assert_snapshot!(on(&sandbox, "--create-repository a --immutable-tags"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a already exists with mutable tags
      help: its settings are not changed; to accept them: ark-catalog-container-tool --create-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(on(&sandbox, "--create-repository a --resource-tag team=x"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a already exists without the resource tag team=x
      help: its settings are not changed; to accept them: ark-catalog-container-tool --create-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    sandbox.printed(&format!("--create-repository b --organization {TBD} --immutable-tags"));
    assert_snapshot!(on(&sandbox, "--create-repository b"), @"
    exit 6
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/b already exists with immutable tags
      help: its settings are not changed; to accept them: ark-catalog-container-tool --create-repository b --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --immutable-tags
    ");
}

#[test]
fn delete_of_repository_with_images_is_a_conflict() {
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
fn push_to_immutable_tag_is_a_conflict() {
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
fn delete_of_index_image_is_a_conflict() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let index = SampleImage::for_two_platforms();
    index.write_oci_layout(&sandbox.path("index"), None).unwrap();
    sandbox.printed(&format!("--push a:v1 --from oci:index --all-platforms --organization {TBD}"));
    let image = index.children()[0].digest().to_string();
    let reported = on(&sandbox, &format!("--delete-image a@{image}"));
    let reported = reported.replace(&image, "sha256:IMAGE");
    assert_snapshot!(reported.replace(&index.digest().to_string(), "sha256:INDEX"), @"
    exit 6
    error: image prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a@sha256:IMAGE is part of the index sha256:INDEX
      help: first delete the images that refer to it: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

#[test]
fn second_server_is_a_conflict() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve();
    let reported = reported(&sandbox.run("--quiet --serve --listen 127.0.0.1:0"));
    assert_snapshot!(reported.replace(server.line().trim(), "127.0.0.1:PORT"), @"
    exit 6
    error: file ~/data/ark/registry is served already, at 127.0.0.1:PORT
      help: use the running server: every process on this machine finds it
    ");
}
