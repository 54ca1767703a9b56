//! Missing repositories and images.

use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

fn on(sandbox: &Sandbox, line: &str) -> String {
    reported(&sandbox.run(&format!("--quiet {line} --organization {TBD}")))
}

#[test]
fn missing_repository_suggests_a_command() {
    let sandbox = Sandbox::new();
    assert_snapshot!(on(&sandbox, "--login test/repo"), @"
    exit 5
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo does not exist
      help: create it: ark-catalog-container-tool --create-repository test/repo --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    sandbox.write_image("image", "hello");
    assert_snapshot!(on(&sandbox, "--push test/repo:v1 --from oci:image"), @"
    exit 5
    error: repository 127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo does not exist
      help: create it: ark-catalog-container-tool --create-repository test/repo --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(on(&sandbox, "--list-images test/repo"), @"
    exit 5
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo does not exist
      help: list the repositories: ark-catalog-container-tool --list-repositories --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(on(&sandbox, "--delete-repository test/repo"), @"
    exit 5
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo does not exist
      help: list the repositories: ark-catalog-container-tool --list-repositories --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    assert_snapshot!(on(&sandbox, "--delete-image test/repo:v1"), @"
    exit 5
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo does not exist
      help: list the repositories: ark-catalog-container-tool --list-repositories --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

#[test]
fn suggested_command_has_the_registry_option() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("--quiet --login test/repo --organization");
    command.args([TBD, "--registry", "local:my folder"]);
    assert_snapshot!(reported(&sandbox.finish(&mut command)), @"
    exit 5
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo does not exist
      help: create it: ark-catalog-container-tool --create-repository test/repo --organization 2ea25035-6aa4-42fb-9955-92288ea1b972 --registry 'local:my folder'
    ");
}

#[test]
fn missing_image_suggests_list_images() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository test/repo --organization {TBD}"));
    assert_snapshot!(on(&sandbox, "--delete-image test/repo:v1"), @"
    exit 5
    error: image prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo:v1 does not exist
      help: list the images: ark-catalog-container-tool --list-images test/repo --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_snapshot!(on(&sandbox, &format!("--delete-image test/repo@{digest}")), @"
    exit 5
    error: image prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo@sha256:0000000000000000000000000000000000000000000000000000000000000000 does not exist
      help: list the images: ark-catalog-container-tool --list-images test/repo --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}
