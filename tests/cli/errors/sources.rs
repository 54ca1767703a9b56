//! Images that cannot be read.

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;

use super::told;
use crate::sandbox::{Sandbox, TBD};

fn push(sandbox: &Sandbox, source: &str) -> String {
    told(&sandbox.run(&format!("--quiet --push a:v1 --from {source} --organization {TBD}")))
}

fn with_repository() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox
}

#[test]
fn missing_source() {
    let sandbox = with_repository();
    assert_snapshot!(push(&sandbox, "oci:absent"), @"
    exit 5
    error: file absent does not exist
      help: --from takes oci:DIR[:REF] (a folder in the OCI image layout) or docker-archive:FILE[:REF] (what docker save writes)
    ");
    assert_snapshot!(push(&sandbox, "docker-archive:absent.tar"), @"
    exit 5
    error: file absent.tar does not exist
      help: --from takes oci:DIR[:REF] (a folder in the OCI image layout) or docker-archive:FILE[:REF] (what docker save writes)
    ");
    assert_snapshot!(push(&sandbox, "absent"), @r#"
    exit 2
    error: "absent" is no image source: there is neither an OCI layout nor an archive; write oci:DIR[:REF] or docker-archive:FILE[:REF]
    "#);
    assert_snapshot!(push(&sandbox, "oci:"), @r#"
    exit 2
    error: image source "oci:" names no path
    "#);
}

#[test]
fn what_is_no_image() {
    let sandbox = with_repository();
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    assert_snapshot!(push(&sandbox, "oci:empty"), @"
    exit 1
    error: ~/empty: it is no OCI layout, for it has no file oci-layout
    ");
    sandbox.write("text.tar", "hello");
    assert_snapshot!(push(&sandbox, "docker-archive:text.tar"), @"
    exit 1
    error: ~/text.tar is no whole archive: failed to read entire block
    ");
    sandbox.write_image("damaged", "hello");
    sandbox.write("damaged/index.json", "{");
    assert_snapshot!(push(&sandbox, "oci:damaged"), @"
    exit 1
    error: ~/damaged/index.json makes no sense: EOF while parsing an object at line 1 column 1
    ");
}

#[test]
fn ambiguous_source() {
    let sandbox = with_repository();
    for name in ["v1", "v2"] {
        let image = SampleImage::new(name);
        image.write_oci_layout(&sandbox.path("two"), Some(name)).unwrap();
    }
    assert_snapshot!(push(&sandbox, "oci:two"), @"
    exit 2
    error: ~/two has several images; name one of: v1, v2
    ");
    assert_snapshot!(push(&sandbox, "oci:two:v3"), @"
    exit 2
    error: ~/two has no image v3; name one of: v1, v2
    ");
}
