//! What the registry refuses, and what the tools' users get to read.

use std::time::{Duration, Instant};

use ark_container_core::testing::SampleImage;

use crate::sandbox::TBD;
use crate::served::Served;

#[test]
fn a_repository_that_is_missing_comes_with_the_command_that_creates_it() {
    let served = Served::with_repositories(&["test/repo"]);
    let tools = served.tools(&["test/repo"]);
    served.sandbox.printed(&format!("--delete-repository test/repo --organization {TBD}"));
    served.sandbox.write_image("sample", "hello");
    tools.printed("podman pull -q oci:sample");
    let image = tools.printed("podman images -q");
    let target = format!("docker://{}", served.image("test/repo:v1"));
    for push in [
        format!("skopeo copy -q oci:sample {target}"),
        format!("podman push -q {image} {target}"),
        format!("buildah push -q {image} {target}"),
    ] {
        let start = Instant::now();
        let run = tools.run(&push);
        assert_ne!(run.code, 0, "{push}");
        let command = format!(
            "ark-catalog-container-tool --create-repository test/repo --organization {TBD}"
        );
        assert!(run.stderr.contains(&command), "{push}: {run:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{push} tried again and again");
    }
    served.sandbox.printed(&format!("--create-repository test/repo --organization {TBD}"));
    tools.printed(&format!("skopeo copy -q oci:sample {target}"));
}

#[test]
fn a_password_opens_no_other_repository() {
    let served = Served::with_repositories(&["a", "a/b"]);
    let tools = served.tools(&[]);
    let login = tools.log_in("podman", served.server.host(), served.login_command("a"));
    assert_eq!(login.code, 0, "{login:?}");
    served.sandbox.write_image("sample", "hello");
    for name in ["a/b", "a/c"] {
        let target = served.image(name);
        let run = tools.run(&format!("skopeo copy -q oci:sample docker://{target}:v1"));
        assert_ne!(run.code, 0, "{name}");
        // It asks with HEAD, whose answer has no body to quote.
        assert!(run.stderr.contains("403 (Forbidden)"), "{run:?}");
        let run = tools.run(&format!("podman pull -q {target}:v1"));
        assert_ne!(run.code, 0, "{name}");
        assert!(run.stderr.contains("these credentials may not pull from"), "{run:?}");
    }
}

#[test]
fn an_immutable_tag_keeps_its_image() {
    let served = Served::with_repositories(&[]);
    let create = format!("--create-repository a --immutable-tags --organization {TBD}");
    served.sandbox.printed(&create);
    let tools = served.tools(&["a"]);
    for content in ["first", "second"] {
        let image = SampleImage::builder().with_layer([("file", content)]).build();
        image.write_oci_layout(&served.sandbox.path(content), None).unwrap();
    }
    let target = format!("docker://{}", served.image("a:v1"));
    let push = |content: &str| tools.run(&format!("skopeo copy -q oci:{content} {target}"));
    assert_eq!(push("first").code, 0);
    let raw = tools.printed(&format!("skopeo inspect --raw {target}"));
    let refused = push("second");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("a:v1 is immutable and holds sha256:"), "{refused:?}");
    assert_eq!(tools.printed(&format!("skopeo inspect --raw {target}")), raw);
    assert_eq!(push("first").code, 0, "the same image again changes nothing");
}
