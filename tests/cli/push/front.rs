//! The options of a push, and how it is interrupted.

use ark_container_core::testing::SampleImage;

use super::{interrupt, listed_manifest, object};
use crate::sandbox::{Sandbox, TBD};

#[test]
fn a_missing_repository_is_told_with_the_command_that_creates_it() {
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    let push = format!("--push a/b:v1 --from oci:image --organization {TBD}");
    let run = sandbox.run(&push);
    assert_eq!(run.code, 5, "{run:?}");
    let help = format!(
        "help: create it: ark-catalog-container-tool --create-repository a/b --organization {TBD}"
    );
    assert!(run.stderr.contains(&help), "{}", run.stderr);
    let run = sandbox.run(&format!("{push} --create"));
    assert_eq!(run.code, 0, "{run:?}");
    let note = format!("note: created 127.0.0.1:5050/prod/{TBD}/a/b\n");
    assert!(run.stderr.contains(&note), "{}", run.stderr);
    let again = sandbox.run(&format!("{push} --create"));
    assert_eq!((again.code, again.stdout), (0, run.stdout));
    assert!(!again.stderr.contains("created"), "{}", again.stderr);
}

#[test]
fn who_may_not_create_is_told_so_and_creates_nothing() {
    let sandbox = Sandbox::with_memberships();
    sandbox.write_image("image", "hello");
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --create");
    let denied = sandbox.run_as("robot:nightly", &push);
    assert_eq!(denied.code, 4, "{denied:?}");
    assert!(denied.stderr.contains("may not create"), "{}", denied.stderr);
    assert_eq!(
        sandbox.run_as("user:alice", "--list-repositories --quiet").stdout.lines().count(),
        1
    );
    assert_eq!(sandbox.run_as("user:alice", &push).code, 0);
}

#[test]
fn layers_are_compressed_as_asked() {
    let sandbox = Sandbox::new();
    let image = SampleImage::builder().with_layer([("zeros", vec![0; 1_000_000])]).build();
    image.write_docker_archive(&sandbox.path("image.tar"), &["a:v1"]).unwrap();
    for (option, ending) in
        [("", "gzip"), ("--compression gzip", "gzip"), ("--compression zstd", "zstd")]
    {
        let push = format!("--push {ending}:v1 --from docker-archive:image.tar --create {option}");
        let pushed = object(&sandbox, &format!("{push} --organization {TBD}"));
        if option != "--compression gzip" {
            assert!(pushed["bytes_saved"].as_u64().unwrap() > 900_000, "{pushed}");
        }
        let pull = format!("--pull {ending}:v1 --to oci:{ending} --organization {TBD}");
        sandbox.printed(&pull);
        let (_, manifest) = listed_manifest(&sandbox.path(ending), 0);
        let media_type = manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert!(media_type.ends_with(&format!("+{ending}")), "{media_type}");
    }
    let run = sandbox.run(&format!(
        "--push gzip:v2 --from docker-archive:image.tar --organization {TBD} --compression lzma"
    ));
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn of_several_platforms_one_or_all_are_pushed() {
    let sandbox = Sandbox::new();
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --create");
    let all = sandbox.printed(&format!("{push} --all-platforms"));
    assert!(all.ends_with(&format!("@{}\n", image.digest())), "{all}");
    for (platform, child) in ["linux/amd64", "linux/arm64"].iter().zip(image.children()) {
        let one = sandbox.printed(&format!("{push} --platform {platform}"));
        assert!(one.ends_with(&format!("@{}\n", child.digest())), "{platform}: {one}");
    }
    let undecided = sandbox.run(&push);
    assert_eq!(undecided.code, 2, "{undecided:?}");
    assert!(undecided.stderr.contains("linux/amd64, linux/arm64"), "{}", undecided.stderr);
    let both = sandbox.run(&format!("{push} --platform linux/amd64 --all-platforms"));
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn the_number_of_blobs_at_once_is_one_at_least() {
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --create --concurrency");
    assert_eq!(object(&sandbox, &format!("{push} 1"))["blobs_sent"], 2);
    assert_eq!(sandbox.run(&format!("{push} 0")).code, 2);
}

#[test]
fn an_interrupted_push_leaves_no_tag_and_the_next_one_ends_it() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let image = SampleImage::builder().with_random_layer(100_000_000).build();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    let push = format!("--push a:v1 --from oci:image --organization {TBD}");
    interrupt(&sandbox, &push);
    let listed = sandbox.printed(&format!("--list-images a --organization {TBD} --output json"));
    assert_eq!(listed, "");
    let pushed = object(&sandbox, &push);
    assert!(pushed["url"].as_str().unwrap().ends_with(&image.digest().to_string()));
}
