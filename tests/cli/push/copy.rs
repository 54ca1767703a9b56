//! Images copied from repository to repository.

use ark_container_core::testing::SampleImage;
use serde_json::json;

use super::{interrupt, object};
use crate::clients::{assert_same, contents};
use crate::memory::{MIB, watched, write_layout};
use crate::sandbox::{OTHER, Sandbox, TBD};

/// A home whose repository `a` has an image of two platforms as `v1`, and an empty repository `b` in
/// both organizations.
fn sandbox() -> (Sandbox, SampleImage) {
    let sandbox = Sandbox::new();
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    let push = "--push a:v1 --from oci:image --create --all-platforms";
    sandbox.printed(&format!("{push} --organization {TBD}"));
    for organization in [TBD, OTHER] {
        sandbox.printed(&format!("--create-repository b --organization {organization}"));
    }
    (sandbox, image)
}

/// A home whose repository `a` has an image with a layer of so many bytes as `v1`, an empty repository
/// `b` in another organization, and what copies from the one to the other.
fn with_large_layer(size: u64) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    write_layout(&sandbox, size);
    sandbox.printed(&format!("--push a:v1 --from oci:layout --create --organization {TBD}"));
    sandbox.printed(&format!("--create-repository b --organization {OTHER}"));
    let copy = format!("--copy a:v1 --to b --organization {TBD} --to-organization {OTHER}");
    (sandbox, copy)
}

/// The image in a repository is the one that was pushed, to the last byte.
fn assert_is_there(sandbox: &Sandbox, image: &str, organization: &str) {
    sandbox.printed(&format!("--pull {image} --to oci:pulled --organization {organization}"));
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("image"));
}

#[test]
fn within_an_organization_the_registry_takes_the_blobs_over() {
    let (sandbox, image) = sandbox();
    let copy = format!("--copy a:v1 --to b:stable --organization {TBD}");
    let copied = object(&sandbox, &copy);
    let url = format!("127.0.0.1:5050/prod/{TBD}/b@{}", image.digest());
    assert_eq!((&copied["url"], &copied["tag"]), (&json!(url), &json!("stable")));
    assert_eq!((&copied["blobs_sent"], &copied["bytes_sent"]), (&json!(0), &json!(0)));
    assert!(copied["blobs_mounted"].as_u64().unwrap() > 3, "{copied}");
    assert_is_there(&sandbox, "b:stable", TBD);
    let again = object(&sandbox, &copy);
    assert_eq!(again["blobs_skipped"], copied["blobs_mounted"]);
}

#[test]
fn between_organizations_they_go_through_this_machine() {
    let (sandbox, image) = sandbox();
    let copy = format!("--copy a:v1 --to b --organization {TBD} --to-organization {OTHER}");
    let copied = object(&sandbox, &copy);
    let url = format!("127.0.0.1:5050/prod/{OTHER}/b@{}", image.digest());
    assert_eq!((&copied["url"], &copied["tag"]), (&json!(url), &json!("v1")));
    assert_eq!(copied["blobs_mounted"], 0);
    assert!(copied["bytes_sent"].as_u64().unwrap() > 300_000, "{copied}");
    assert_is_there(&sandbox, "b:v1", OTHER);
}

#[test]
fn a_digest_may_be_copied_and_one_platform_of_it() {
    let (sandbox, image) = sandbox();
    let copy = format!("--copy a@{} --to b --organization {TBD}", image.digest());
    let copied = object(&sandbox, &format!("{copy} --platform linux/arm64"));
    let digest = image.children()[1].digest().to_string();
    assert!(copied["url"].as_str().unwrap().ends_with(&digest), "{copied}");
    assert_eq!(copied["tag"], "latest");
}

#[test]
fn what_is_missing_is_told_for_the_side_that_lacks_it() {
    let (sandbox, _) = sandbox();
    let run = sandbox.run(&format!("--copy a:v1 --to c --organization {TBD}"));
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("create it: ") && run.stderr.contains("-repository c "), "{run:?}");
    let run = sandbox.run(&format!("--copy a:v9 --to b --organization {TBD}"));
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("--list-images a "), "{run:?}");
    let immutable = format!("--create-repository fixed --organization {TBD} --immutable-tags");
    sandbox.printed(&immutable);
    sandbox.write_image("other", "hello");
    sandbox.printed(&format!("--push fixed:v1 --from oci:other --organization {TBD}"));
    let run = sandbox.run(&format!("--copy a:v1 --to fixed:v1 --organization {TBD}"));
    assert_eq!(run.code, 6, "{run:?}");
    assert!(run.stderr.contains("copy it under another tag: --to fixed:TAG"), "{run:?}");
}

#[test]
fn both_sides_are_checked_against_the_memberships() {
    let sandbox = Sandbox::with_memberships();
    for (from, to) in [(TBD, OTHER), (OTHER, TBD)] {
        let copy = format!("--copy a:v1 --to b --organization {from} --to-organization {to}");
        let run = sandbox.run_as("user:alice", &copy);
        assert_eq!(run.code, 4, "{run:?}");
        assert!(run.stderr.contains(OTHER), "{run:?}");
    }
}

#[test]
fn an_interrupted_copy_leaves_no_tag_and_the_next_one_ends_it() {
    let (sandbox, copy) = with_large_layer(100 * MIB);
    interrupt(&sandbox, &copy);
    let listed = sandbox.printed(&format!("--list-images b --organization {OTHER} --output json"));
    assert_eq!(listed, "");
    sandbox.printed(&copy);
    sandbox.printed(&format!("--pull b:v1 --to oci:pulled --organization {OTHER}"));
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("layout"));
}

#[test]
fn a_copy_holds_little_of_a_large_layer_in_memory() {
    let (sandbox, copy) = with_large_layer(256 * MIB);
    let (peak, ended) = watched(sandbox.command(&format!("--quiet {copy}")).spawn().unwrap());
    assert!(ended, "the copy failed");
    assert!(0 < peak && peak < 64 * MIB, "{} MiB", peak / MIB);
}
