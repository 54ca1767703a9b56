//! podman and buildah, which are one in how they build, push and pull.

use serde_json::Value;

use super::contents;
use crate::served::Served;
use crate::tools::Tools;

#[test]
fn podman_pushes_an_image_and_pulls_it_back() {
    image_comes_back("podman");
}

#[test]
fn buildah_pushes_an_image_and_pulls_it_back() {
    image_comes_back("buildah");
}

#[test]
fn podman_pushes_an_index_and_pulls_it_back() {
    index_comes_back("podman");
}

#[test]
fn buildah_pushes_an_index_and_pulls_it_back() {
    index_comes_back("buildah");
}

fn image_comes_back(tool: &str) {
    let served = Served::with_repositories(&["a", "a/b"]);
    let tools = served.tools(&["a", "a/b"]);
    write_context(&served);
    tools.printed(&format!("{tool} build -q --layers -t built context"));
    let pushes = [("a:v1", "oci"), ("a/b:v1", "v2s2")];
    for (remote, format) in pushes {
        let remote = served.image(remote);
        tools.printed(&format!("{tool} push -q --format {format} built docker://{remote}"));
    }
    for (remote, format) in pushes {
        let remote = served.image(remote);
        tools.printed(&format!("skopeo copy -q docker://{remote} dir:{format}"));
        pulls_what_is_there(&served, &tools, tool, &remote, "", format);
    }
}

fn index_comes_back(tool: &str) {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    write_context(&served);
    let platforms = "--platform linux/amd64,linux/arm64";
    let build = format!("{tool} build -q --layers --no-cache {platforms} --manifest list context");
    tools.printed(&build);
    let remote = served.image("a/b:v1");
    tools.printed(&format!("{tool} manifest push -q --all list docker://{remote}"));

    tools.printed(&format!("skopeo copy -q --all docker://{remote} dir:index"));
    let index = contents(&served.sandbox.path("index"));
    let manifests = json(&index["manifest.json"])["manifests"].as_array().unwrap().clone();
    assert_eq!(manifests.len(), 2);
    for entry in manifests {
        let digest = entry["digest"].as_str().unwrap();
        assert!(index.contains_key(&format!("{}.manifest.json", &digest["sha256:".len()..])));
        let arch = entry["platform"]["architecture"].as_str().unwrap();
        let child = served.image(&format!("a/b@{digest}"));
        tools.printed(&format!("skopeo copy -q docker://{child} dir:{arch}"));
        pulls_what_is_there(&served, &tools, tool, &remote, &format!("--arch {arch}"), arch);
    }
}

/// What a tool pulls has the configuration and the files of `expected`, a folder that skopeo wrote.
fn pulls_what_is_there(
    served: &Served,
    tools: &Tools<'_>,
    tool: &str,
    remote: &str,
    options: &str,
    expected: &str,
) {
    tools.printed(&format!("{tool} rmi -a -f"));
    tools.printed(&format!("{tool} pull -q {options} {remote}"));
    let pulled = format!("{expected}-pulled");
    // A folder gets layers as the tool has unpacked them, named by their digests.
    let storage = tools.storage();
    tools.printed(&format!("skopeo copy -q containers-storage:{storage}{remote} dir:{pulled}"));
    let (expected, pulled) =
        (contents(&served.sandbox.path(expected)), contents(&served.sandbox.path(pulled)));
    let manifest = json(&expected["manifest.json"]);
    let config = &manifest["config"]["digest"].as_str().unwrap()["sha256:".len()..];
    assert_eq!(pulled[config], expected[config]);
    let layers = json(&expected[config])["rootfs"]["diff_ids"].as_array().unwrap().clone();
    assert_eq!(layers.len(), 2, "{manifest}");
    for layer in layers {
        let hex = &layer.as_str().unwrap()["sha256:".len()..];
        assert!(pulled.contains_key(hex), "{layer} of {:?}", pulled.keys());
    }
}

/// Two files, which a build puts in a layer each.
fn write_context(served: &Served) {
    served.sandbox.write("context/small", "hello");
    let large: Vec<u8> = (0..75_000_u32).flat_map(u32::to_le_bytes).collect();
    served.sandbox.write("context/large", large);
    let steps = "FROM scratch\nCOPY small /etc/small\nCOPY large /srv/large\n";
    served.sandbox.write("context/Containerfile", steps);
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}
