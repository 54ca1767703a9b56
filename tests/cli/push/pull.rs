//! Images fetched into layouts.

use std::fs;

use ark_container_core::testing::SampleImage;
use serde_json::json;

use super::{interrupt, listed_manifest, object};
use crate::clients::{assert_same, contents};
use crate::sandbox::{OTHER, Sandbox, TBD};
use crate::tools::Tools;

/// A home whose repository `a` has an image of two platforms as `v1`.
fn sandbox() -> (Sandbox, SampleImage) {
    let sandbox = Sandbox::new();
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    let push = "--push a:v1 --from oci:image --create --all-platforms";
    sandbox.printed(&format!("{push} --organization {TBD}"));
    (sandbox, image)
}

#[test]
fn what_was_pushed_comes_back_byte_for_byte() {
    let (sandbox, image) = sandbox();
    let pull = format!("--pull a:v1 --to oci:pulled --organization {TBD}");
    let pulled = object(&sandbox, &pull);
    assert!(pulled["url"].as_str().unwrap().ends_with(&format!("a@{}", image.digest())));
    assert_eq!((&pulled["name"], &pulled["directory"]), (&json!("v1"), &json!("pulled")));
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("image"));
    let again = object(&sandbox, &pull);
    assert_eq!((&again["blobs_fetched"], &again["bytes_fetched"]), (&json!(0), &json!(0)));
    assert_eq!(again["blobs_skipped"], pulled["blobs_fetched"]);
    let mut left: Vec<_> = fs::read_dir(sandbox.path("pulled")).unwrap().collect();
    left.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let left: Vec<_> = left.into_iter().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn skopeo_reads_the_layout() {
    let (sandbox, image) = sandbox();
    sandbox.printed(&format!("--pull a:v1 --to oci:pulled:mine --organization {TBD}"));
    let tools = Tools::new(&sandbox, "127.0.0.1:1");
    let raw = tools.printed("skopeo inspect --raw oci:pulled:mine");
    assert_eq!(raw.as_bytes(), image.root().bytes);
    tools.printed("skopeo copy -q --all --preserve-digests oci:pulled:mine oci:copied");
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("copied"), &blobs("image"));
}

#[test]
fn a_pull_goes_on_where_another_was_cut_off() {
    let (sandbox, image) = sandbox();
    let (digest, content) = image.children()[0]
        .blobs()
        .map(|(digest, content)| (digest, content.to_vec()))
        .max_by_key(|(_, content)| content.len())
        .unwrap();
    let received = content.len() / 2;
    let partial = format!("pulled/.ark-partial/sha256-{}", digest.hex());
    let pull = format!("--pull a:v1 --to oci:pulled --organization {TBD}");
    let whole =
        object(&sandbox, &pull.replace("pulled", "other"))["bytes_fetched"].as_u64().unwrap();
    sandbox.write("pulled/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    sandbox.write(&partial, &content[..received]);
    let pulled = object(&sandbox, &pull);
    assert_eq!(pulled["bytes_fetched"].as_u64().unwrap(), whole - received as u64);
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("image"));
    // What is there is no beginning of the blob: it comes anew.
    fs::remove_dir_all(sandbox.path("pulled/blobs")).unwrap();
    sandbox.write(&partial, vec![b'x'; received]);
    sandbox.printed(&pull);
    assert_same(&blobs("pulled"), &blobs("image"));
}

#[test]
fn one_platform_comes_without_the_index() {
    let (sandbox, image) = sandbox();
    let pull = format!("--pull a@{} --to oci:pulled --organization {TBD}", image.digest());
    sandbox.printed(&format!("{pull} --platform linux/arm64"));
    let (entry, manifest) = listed_manifest(&sandbox.path("pulled"), 0);
    assert_eq!(entry["digest"], json!(image.children()[1].digest()));
    assert!(manifest["layers"].is_array(), "{manifest}");
    let run = sandbox.run(&format!("{pull} --platform linux/s390x"));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("it is for: linux/amd64, linux/arm64"), "{}", run.stderr);
}

#[test]
fn what_cannot_be_pulled_is_told_with_what_to_do() {
    let (sandbox, _) = sandbox();
    let run = |line: &str| sandbox.run(&format!("{line} --organization {TBD}"));
    let missing = run("--pull a:v9 --to oci:pulled");
    assert_eq!(missing.code, 5, "{missing:?}");
    assert!(missing.stderr.contains("see what there is: "), "{}", missing.stderr);
    assert!(missing.stderr.contains("--list-images a "), "{}", missing.stderr);
    assert_eq!(run("--pull b:v1 --to oci:pulled").code, 5);
    assert_eq!(run("--pull a:v1 --to pulled").code, 2);
    sandbox.write("letters/one", "dear");
    let full = run("--pull a:v1 --to oci:letters");
    assert_eq!(full.code, 2, "{full:?}");
    assert!(full.stderr.contains("letters is no OCI layout, and not empty"), "{}", full.stderr);
    assert_eq!(fs::read_dir(sandbox.path("letters")).unwrap().count(), 1);
}

#[test]
fn an_organization_that_one_does_not_belong_to_is_closed() {
    let sandbox = Sandbox::with_memberships();
    let pull = format!("--pull a:v1 --to oci:pulled --organization {OTHER}");
    let run = sandbox.run_as("user:alice", &pull);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn an_interrupted_pull_lists_nothing_and_the_next_one_goes_on() {
    let sandbox = Sandbox::new();
    let image = SampleImage::builder().with_random_layer(100_000_000).build();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    sandbox.printed(&format!("--push a:v1 --from oci:image --create --organization {TBD}"));
    let pull = format!("--pull a:v1 --to oci:pulled --organization {TBD}");
    interrupt(&sandbox, &pull);
    assert!(!sandbox.path("pulled/index.json").exists());
    let pulled = object(&sandbox, &pull);
    let (fetched, whole) = (&pulled["bytes_fetched"], 100_000_000);
    assert!(fetched.as_u64().unwrap() < whole, "{fetched}");
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("image"));
}
