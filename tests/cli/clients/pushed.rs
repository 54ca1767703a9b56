//! What `--push` put there is what every tool pulls.

use ark_container_core::testing::SampleImage;

use super::{COPY_ALL_AS_IT_IS, assert_same, config_and_layers, contents};
use crate::sandbox::TBD;
use crate::served::Served;

#[test]
fn a_layout_is_pulled_by_skopeo_byte_for_byte_and_by_podman() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&served.sandbox.path("sample"), None).unwrap();
    let push = format!("--push a/b:v1 --from oci:sample --all-platforms --organization {TBD}");
    let url = served.sandbox.printed(&push);
    assert_eq!(url.trim_end(), served.image(&format!("a/b@{}", image.digest())));

    let remote = served.image("a/b:v1");
    tools.printed(&format!("{COPY_ALL_AS_IT_IS} docker://{remote} oci:pulled"));
    let blobs = |folder: &str| contents(&served.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
    for arch in ["amd64", "arm64"] {
        tools.printed(&format!("podman pull -q --arch {arch} {remote}"));
    }
}

#[test]
fn a_docker_archive_keeps_its_configuration_and_its_files() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    let image = SampleImage::builder().with_layer([("x", "y")]).with_random_layer(100_000);
    let image = image.build();
    image.write_docker_archive(&served.sandbox.path("image.tar"), &["x:y"]).unwrap();
    served
        .sandbox
        .printed(&format!("--push a:v1 --from docker-archive:image.tar --organization {TBD}"));
    let remote = served.image("a:v1");
    tools.printed(&format!("skopeo copy -q docker://{remote} dir:pulled"));
    let pulled = contents(&served.sandbox.path("pulled"));
    let ((config, content), layers) = config_and_layers(&image);
    assert_eq!(pulled[config.hex()], content);
    // podman unpacks the layers, and refuses those that the configuration does not name.
    tools.printed(&format!("podman pull -q {remote}"));
    tools.printed(&format!("podman push -q {remote} dir:unpacked"));
    let unpacked = contents(&served.sandbox.path("unpacked"));
    for (layer, content) in layers {
        assert!(unpacked[layer.hex()] == content, "{layer}");
    }
}

#[test]
fn what_podman_saved_is_what_podman_pulls() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    let image = SampleImage::builder().with_layer([("x", "y")]).with_random_layer(100_000);
    image.build().write_oci_layout(&served.sandbox.path("sample"), None).unwrap();
    tools.printed("podman pull -q oci:sample");
    let id = tools.printed("podman images -q --no-trunc");
    for (format, tag, source) in [
        ("docker-archive", "docker", "docker-archive:saved-docker-archive"),
        ("oci-dir", "oci", "oci:saved-oci-dir"),
    ] {
        tools.printed(&format!("podman save -q --format {format} -o saved-{format} {id}"));
        let push = format!("--push a:{tag} --from {source} --organization {TBD}");
        served.sandbox.printed(&push);
        tools.printed("podman rmi -a -f");
        let remote = served.image(&format!("a:{tag}"));
        tools.printed(&format!("podman pull -q {remote}"));
        assert_eq!(tools.printed("podman images -q --no-trunc"), id, "{format}");
    }
}
