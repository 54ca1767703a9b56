//! skopeo copies images in and out, byte for byte.

use std::process::{Child, Stdio};

use ark_container_core::testing::SampleImage;

use super::{COPY_ALL_AS_IT_IS, assert_same, contents, sha256};
use crate::served::Served;

#[test]
fn an_oci_index_of_two_platforms_comes_back_byte_for_byte() {
    let served = Served::with_repositories(&["a", "a/b"]);
    let tools = served.tools(&["a", "a/b"]);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&served.sandbox.path("sample"), Some("v1")).unwrap();
    for (name, pulled) in [("a:v1", "pulled-1"), ("a/b:v1", "pulled-2")] {
        let remote = format!("docker://{}", served.image(name));
        tools.printed(&format!("{COPY_ALL_AS_IT_IS} oci:sample {remote}"));
        let raw = tools.printed(&format!("skopeo inspect --raw {remote}"));
        assert_eq!(raw.as_bytes(), image.root().bytes);
        tools.printed(&format!("{COPY_ALL_AS_IT_IS} {remote} oci:{pulled}"));
        let blobs = |folder: &str| contents(&served.sandbox.path(folder).join("blobs/sha256"));
        assert_same(&blobs(pulled), &blobs("sample"));
    }
}

#[test]
fn both_formats_come_back_byte_for_byte() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    let index = SampleImage::for_two_platforms();
    index.write_oci_layout(&served.sandbox.path("index"), None).unwrap();
    let layers = SampleImage::builder().with_layer([("one", "1")]).with_random_layer(100_000);
    layers.build().write_oci_layout(&served.sandbox.path("single"), None).unwrap();
    for (source, format, media_type) in [
        ("single", "oci", "application/vnd.oci.image.manifest.v1+json"),
        ("single", "v2s2", "application/vnd.docker.distribution.manifest.v2+json"),
        ("index", "oci", "application/vnd.oci.image.index.v1+json"),
        ("index", "v2s2", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ] {
        let remote = format!("docker://{}", served.image(&format!("a/b:{source}-{format}")));
        tools.printed(&format!("skopeo copy -q --all --format {format} oci:{source} {remote}"));
        let raw = tools.printed(&format!("skopeo inspect --raw {remote}"));
        assert!(raw.contains(&format!("\"mediaType\":\"{media_type}\"")), "{raw}");

        let (first, second) = (format!("{source}-{format}-1"), format!("{source}-{format}-2"));
        tools.printed(&format!("skopeo copy -q --all {remote} dir:{first}"));
        let pulled = contents(&served.sandbox.path(&first));
        assert_eq!(pulled["manifest.json"], raw.as_bytes());
        let again = format!("{remote}-again");
        tools.printed(&format!("{COPY_ALL_AS_IT_IS} dir:{first} {again}"));
        tools.printed(&format!("{COPY_ALL_AS_IT_IS} {again} dir:{second}"));
        assert_same(&contents(&served.sandbox.path(&second)), &pulled);
        let by_digest =
            format!("docker://{}", served.image(&format!("a/b@{}", sha256(raw.as_bytes()))));
        assert_eq!(tools.printed(&format!("skopeo inspect --raw {by_digest}")), raw);
    }
}

#[test]
fn several_push_the_same_layers_at_once() {
    let served = Served::with_repositories(&["a", "a/b"]);
    let tools = served.tools(&["a", "a/b"]);
    let image = SampleImage::builder().with_random_layer(8_000_000).with_random_layer(8_000_000);
    let image = image.build();
    image.write_oci_layout(&served.sandbox.path("sample"), None).unwrap();
    let targets = ["a:1", "a:2", "a/b:1", "a/b:2"];
    let pushes: Vec<Child> = targets
        .iter()
        .map(|target| {
            let remote = served.image(target);
            let copy = format!("{COPY_ALL_AS_IT_IS} oci:sample docker://{remote}");
            tools.command(&copy).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for push in pushes {
        let output = push.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let sample = contents(&served.sandbox.path("sample/blobs/sha256"));
    for (index, target) in targets.iter().enumerate() {
        let remote = served.image(target);
        tools.printed(&format!("{COPY_ALL_AS_IT_IS} docker://{remote} oci:pulled-{index}"));
        let pulled = served.sandbox.path(format!("pulled-{index}/blobs/sha256"));
        assert_same(&contents(&pulled), &sample);
    }
}

#[test]
fn tags_are_listed_and_deleted() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    for (tag, content) in [("v1", "one"), ("v2", "two")] {
        served.sandbox.write_image(tag, content);
        tools.printed(&format!("skopeo copy -q oci:{tag} docker://{}:{tag}", served.image("a/b")));
    }
    let list = format!("skopeo list-tags docker://{}", served.image("a/b"));
    let tags = || {
        let listed: serde_json::Value = serde_json::from_str(&tools.printed(&list)).unwrap();
        listed["Tags"].clone()
    };
    assert_eq!(tags(), serde_json::json!(["v1", "v2"]));

    let delete = format!("skopeo delete docker://{}", served.image("a/b:v1"));
    let denied = tools.run(&delete);
    assert_eq!(denied.code, 1);
    assert!(denied.stderr.contains("these credentials may not delete from"), "{denied:?}");
    assert_eq!(tags(), serde_json::json!(["v1", "v2"]));

    let password = served.password("a/b", "delete");
    tools.printed(&delete.replace("delete ", &format!("delete --creds AWS:{password} ")));
    assert_eq!(tags(), serde_json::json!(["v2"]));
}
