//! Copying images between repositories, and pulling images.

use std::fs;

use ark_container_core::testing::SampleImage;
use serde_json::json;

use super::{interrupt, listed_manifest, object};
use crate::clients::{assert_same, contents};
use crate::crash::disk::files_below;
use crate::load::{MIB, watched, write_layout};
use crate::sandbox::{OTHER, Sandbox, TBD};
use crate::tools::Tools;

/// Returns a home with an image for two platforms as `a:v1`, and an empty repository `b` in both organizations.
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

/// Returns a home with an image that has a layer of `size` bytes as `a:v1`, an empty repository `b` in another
/// organization, and the line that copies the image.
fn with_large_layer(size: u64) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    write_layout(&sandbox, size);
    sandbox.printed(&format!("--push a:v1 --from oci:layout --create --organization {TBD}"));
    sandbox.printed(&format!("--create-repository b --organization {OTHER}"));
    let copy = format!("--copy a:v1 --to b --organization {TBD} --to-organization {OTHER}");
    (sandbox, copy)
}

/// Checks that the image in a repository is identical to the pushed image.
fn assert_pulled_unchanged(sandbox: &Sandbox, image: &str, organization: &str) {
    sandbox.printed(&format!("--pull {image} --to oci:pulled --organization {organization}"));
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("image"));
}

#[test]
fn copy_within_an_organization_mounts_blobs() {
    let (sandbox, image) = sandbox();
    let copy = format!("--copy a:v1 --to b:stable --organization {TBD}");
    let copied = object(&sandbox, &copy);
    let url = format!("127.0.0.1:5050/prod/{TBD}/b@{}", image.digest());
    assert_eq!((&copied["url"], &copied["tag"]), (&json!(url), &json!("stable")));
    assert_eq!((&copied["blobs_sent"], &copied["bytes_sent"]), (&json!(0), &json!(0)));
    assert!(copied["blobs_mounted"].as_u64().unwrap() > 3, "{copied}");
    assert_pulled_unchanged(&sandbox, "b:stable", TBD);
    let again = object(&sandbox, &copy);
    assert_eq!(again["blobs_skipped"], copied["blobs_mounted"]);
}

#[test]
fn copy_between_organizations_transfers_blobs() {
    let (sandbox, image) = sandbox();
    let copy = format!("--copy a:v1 --to b --organization {TBD} --to-organization {OTHER}");
    let copied = object(&sandbox, &copy);
    let url = format!("127.0.0.1:5050/prod/{OTHER}/b@{}", image.digest());
    assert_eq!((&copied["url"], &copied["tag"]), (&json!(url), &json!("v1")));
    assert_eq!(copied["blobs_mounted"], 0);
    assert!(copied["bytes_sent"].as_u64().unwrap() > 300_000, "{copied}");
    assert_pulled_unchanged(&sandbox, "b:v1", OTHER);
}

#[test]
fn copy_takes_a_digest_and_a_platform() {
    let (sandbox, image) = sandbox();
    let copy = format!("--copy a@{} --to b --organization {TBD}", image.digest());
    let copied = object(&sandbox, &format!("{copy} --platform linux/arm64"));
    let digest = image.children()[1].digest().to_string();
    assert!(copied["url"].as_str().unwrap().ends_with(&digest), "{copied}");
    assert_eq!(copied["tag"], "latest");
}

#[test]
fn copy_names_the_missing_side() {
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
fn copy_checks_both_organizations() {
    let sandbox = Sandbox::with_memberships();
    for (from, to) in [(TBD, OTHER), (OTHER, TBD)] {
        let copy = format!("--copy a:v1 --to b --organization {from} --to-organization {to}");
        let run = sandbox.run_as("user:alice", &copy);
        assert_eq!(run.code, 4, "{run:?}");
        assert!(run.stderr.contains(OTHER), "{run:?}");
    }
}

#[test]
fn interrupted_copy_leaves_no_tag() {
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
fn copy_takes_little_memory() {
    let (sandbox, copy) = with_large_layer(256 * MIB);
    let (peak, ended) = watched(sandbox.command(&format!("--quiet {copy}")).spawn().unwrap());
    assert!(ended, "the copy failed");
    assert!(0 < peak && peak < 64 * MIB, "{} MiB", peak / MIB);
}

#[test]
fn pulled_image_is_unchanged() {
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
fn pull_resumes_a_partial_blob() {
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
    // The partial file does not match the blob, so the whole blob is fetched.
    fs::remove_dir_all(sandbox.path("pulled/blobs")).unwrap();
    sandbox.write(&partial, vec![b'x'; received]);
    sandbox.printed(&pull);
    assert_same(&blobs("pulled"), &blobs("image"));
}

#[test]
fn pull_of_one_platform_omits_the_index() {
    let (sandbox, image) = sandbox();
    let pull = format!("--pull a@{} --to oci:pulled --organization {TBD}", image.digest());
    sandbox.printed(&format!("{pull} --platform linux/arm64"));
    let (entry, manifest) = listed_manifest(&sandbox.path("pulled"), 0);
    assert_eq!(entry["digest"], json!(image.children()[1].digest()));
    assert!(manifest["layers"].is_array(), "{manifest}");
    let run = sandbox.run(&format!("{pull} --platform linux/s390x"));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("it has: linux/amd64, linux/arm64"), "{}", run.stderr);
}

#[test]
fn failed_pull_suggests_a_command() {
    let (sandbox, _) = sandbox();
    let run = |line: &str| sandbox.run(&format!("{line} --organization {TBD}"));
    let missing = run("--pull a:v9 --to oci:pulled");
    assert_eq!(missing.code, 5, "{missing:?}");
    assert!(missing.stderr.contains("list the images: "), "{}", missing.stderr);
    assert!(missing.stderr.contains("--list-images a "), "{}", missing.stderr);
    assert_eq!(run("--pull b:v1 --to oci:pulled").code, 5);
    assert_eq!(run("--pull a:v1 --to pulled").code, 2);
    sandbox.write("letters/one", "dear");
    let full = run("--pull a:v1 --to oci:letters");
    assert_eq!(full.code, 2, "{full:?}");
    assert!(full.stderr.contains("letters is not empty and not an OCI layout"), "{}", full.stderr);
    assert_eq!(fs::read_dir(sandbox.path("letters")).unwrap().count(), 1);
}

#[test]
fn pull_from_foreign_organization_is_denied() {
    let sandbox = Sandbox::with_memberships();
    let pull = format!("--pull a:v1 --to oci:pulled --organization {OTHER}");
    let run = sandbox.run_as("user:alice", &pull);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn interrupted_pull_is_resumed() {
    let sandbox = Sandbox::new();
    let image = SampleImage::builder().with_random_layer(100_000_000).build();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    sandbox.printed(&format!("--push a:v1 --from oci:image --create --organization {TBD}"));
    let pull = format!("--pull a:v1 --to oci:pulled --organization {TBD}");
    interrupt(&sandbox, &pull);
    assert!(!sandbox.path("pulled/index.json").exists());
    let bytes = || -> u64 {
        let files = files_below(&sandbox.path("pulled"));
        files.values().map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    let kept = bytes();
    let pulled = object(&sandbox, &pull);
    let fetched = pulled["bytes_fetched"].as_u64().unwrap();
    assert!(fetched <= bytes() - kept, "{fetched} bytes were fetched, and {kept} existed");
    let blobs = |folder: &str| contents(&sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("image"));
}
