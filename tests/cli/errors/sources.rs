//! Image sources that cannot be read.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

fn push(sandbox: &Sandbox, source: &str) -> String {
    let line = format!("--quiet --push a:v1 --from {source} --organization {TBD}");
    // The PATH has neither docker nor podman.
    reported(&sandbox.finish(sandbox.command(&line).env("PATH", "/nowhere")))
}

fn with_repository() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox
}

#[test]
fn missing_source_is_reported() {
    let sandbox = with_repository();
    assert_snapshot!(push(&sandbox, "oci:absent"), @"
    exit 5
    error: file absent does not exist
      help: --from takes docker-daemon:REF, podman:REF, docker-archive:FILE[:REF] (an archive of docker save), oci:DIR[:REF] (a folder in the OCI image layout), oci-archive:FILE[:REF] or -
    ");
    assert_snapshot!(push(&sandbox, "docker-archive:absent.tar"), @"
    exit 5
    error: file absent.tar does not exist
      help: --from takes docker-daemon:REF, podman:REF, docker-archive:FILE[:REF] (an archive of docker save), oci:DIR[:REF] (a folder in the OCI image layout), oci-archive:FILE[:REF] or -
    ");
    assert_snapshot!(push(&sandbox, "absent"), @r#"
    exit 2
    error: "absent" is not an image source: the file does not exist, docker is not installed, podman is not installed; write docker-daemon:REF, podman:REF, docker-archive:FILE[:REF], oci:DIR[:REF], oci-archive:FILE[:REF], or - for an archive on standard input
    "#);
    assert_snapshot!(push(&sandbox, "oci:"), @r#"
    exit 2
    error: image source "oci:" names no path
    "#);
}

#[test]
fn invalid_image_is_reported() {
    let sandbox = with_repository();
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    assert_snapshot!(push(&sandbox, "oci:empty"), @"
    exit 1
    error: ~/empty: it is not an OCI layout: the file oci-layout is missing
    ");
    sandbox.write("text.tar", "hello");
    assert_snapshot!(push(&sandbox, "docker-archive:text.tar"), @"
    exit 1
    error: text.tar is not a tar archive: it looks like text
    ");
    assert_snapshot!(push(&sandbox, "empty"), @r#"
    exit 2
    error: "empty" is not an image source: the folder has no file oci-layout, docker is not installed, podman is not installed; write docker-daemon:REF, podman:REF, docker-archive:FILE[:REF], oci:DIR[:REF], oci-archive:FILE[:REF], or - for an archive on standard input
    "#);
    sandbox.write_image("damaged", "hello");
    sandbox.write("damaged/index.json", "{");
    assert_snapshot!(push(&sandbox, "oci:damaged"), @"
    exit 1
    error: ~/damaged/index.json is invalid: EOF while parsing an object at line 1 column 1
    ");
}

#[test]
fn ambiguous_source_is_rejected() {
    let sandbox = with_repository();
    for name in ["v1", "v2"] {
        let image = SampleImage::new(name);
        image.write_oci_layout(&sandbox.path("two"), Some(name)).unwrap();
    }
    let platforms = SampleImage::for_two_platforms();
    platforms.write_oci_layout(&sandbox.path("platforms"), None).unwrap();
    assert_snapshot!(push(&sandbox, "oci:platforms --platform linux/s390x"), @"
    exit 2
    error: ~/platforms has no image for linux/s390x; it has: linux/amd64, linux/arm64
    ");
    assert_snapshot!(push(&sandbox, "oci:two"), @"
    exit 2
    error: ~/two has several images; name one of: v1, v2
    ");
    assert_snapshot!(push(&sandbox, "oci:two:v3"), @"
    exit 2
    error: ~/two has no image v3; name one of: v1, v2
    ");
}
