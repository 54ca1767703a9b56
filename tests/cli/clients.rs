//! docker, podman, skopeo and buildah against a served registry.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ark_container_core::distribution::Manifest;
use ark_container_core::model::Digest;
use ark_container_core::testing::SampleImage;
use serde_json::{Value, json};

use crate::sandbox::{Run, Served, TBD};
use crate::tools::{Daemon, Tools, component};

/// Command that copies layers unchanged: by default skopeo compresses them.
pub(crate) const COPY_UNCHANGED: &str = "skopeo copy -q --all --preserve-digests";

/// Returns the files of a folder that a client wrote, and checks the digests in their names.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let content = fs::read(folder.join(&name)).unwrap();
        if let Some(hex) = name.get(..64) {
            assert_eq!(sha256(&content), format!("sha256:{hex}"), "{name}");
        }
        files.insert(name, content);
    }
    files
}

/// Compares the files of two folders. A failure prints the names of the files, not the contents.
#[track_caller]
pub(crate) fn assert_same(left: &BTreeMap<String, Vec<u8>>, right: &BTreeMap<String, Vec<u8>>) {
    assert!(left.keys().eq(right.keys()), "{:?} and {:?}", left.keys(), right.keys());
    for (name, content) in left {
        assert!(*content == right[name], "{name}");
    }
}

type Blob<'a> = (Digest, &'a [u8]);

/// Returns the configuration and the layers of an image.
fn config_and_layers(image: &SampleImage) -> (Blob<'_>, Vec<Blob<'_>>) {
    let mut blobs: Vec<_> = image.blobs().collect();
    (blobs.pop().unwrap(), blobs)
}

fn sha256(content: &[u8]) -> String {
    Manifest::new("", content.to_vec()).digest.to_string()
}

const TOOLS: [&str; 4] = ["docker", "podman", "skopeo", "buildah"];

#[test]
fn printed_password_logs_in_every_tool() {
    let served = Served::with_repositories(&["catalog/extract-video"]);
    let tools = served.tools(&[]);
    for tool in TOOLS {
        let login = served.login_command("catalog/extract-video");
        let run = tools.log_in(tool, served.server.host(), login);
        assert_eq!(run.code, 0, "{tool}: {run:?}");
        assert!(run.stdout.starts_with("Login Succeeded"), "{tool}: {run:?}");
    }
}

#[test]
fn wrong_password_is_rejected_with_a_message() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&[]);
    let good = served.password("a", "push");
    for wrong in ["wrong\n".to_owned(), format!("{good}x\n")] {
        let wrong = served.sandbox.write("wrong", wrong);
        for tool in TOOLS {
            let mut printer = component("cat");
            printer.arg(&wrong);
            let Run { code, stderr, .. } = tools.log_in(tool, served.server.host(), printer);
            assert_ne!(code, 0, "{tool}");
            // Each tool has a different message for the registry's 401.
            let reported = stderr.contains("invalid username/password") || stderr.contains("401");
            assert!(reported, "{tool}: {stderr}");
            assert!(!stderr.contains(&good), "{tool}");
        }
    }
}

#[test]
fn oci_and_docker_formats_come_back_unchanged() {
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
        tools.printed(&format!("{COPY_UNCHANGED} dir:{first} {again}"));
        tools.printed(&format!("{COPY_UNCHANGED} {again} dir:{second}"));
        assert_same(&contents(&served.sandbox.path(&second)), &pulled);
        let by_digest =
            format!("docker://{}", served.image(&format!("a/b@{}", sha256(raw.as_bytes()))));
        assert_eq!(tools.printed(&format!("skopeo inspect --raw {by_digest}")), raw);
    }
}

#[test]
fn concurrent_pushes_share_layers() {
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
            let copy = format!("{COPY_UNCHANGED} oci:sample docker://{remote}");
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
        tools.printed(&format!("{COPY_UNCHANGED} docker://{remote} oci:pulled-{index}"));
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

#[test]
fn podman_image_comes_back() {
    image_comes_back("podman");
}

#[test]
fn buildah_image_comes_back() {
    image_comes_back("buildah");
}

#[test]
fn podman_index_comes_back() {
    index_comes_back("podman");
}

#[test]
fn buildah_index_comes_back() {
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
        assert_pulled_files(&served, &tools, tool, &remote, "", format);
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
        assert_pulled_files(&served, &tools, tool, &remote, &format!("--arch {arch}"), arch);
    }
}

/// Checks that a tool pulls the configuration and the layers of `expected`, a folder that skopeo wrote.
fn assert_pulled_files(
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
    // The copied folder has the layers as the tool unpacked them, named by their digests.
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

/// Writes a build context with two files, each of which becomes a layer.
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

#[test]
fn docker_images_and_archives_are_pushed_and_pulled() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    let daemon = Daemon::start();
    let tool = format!("docker --host {}", daemon.host());
    let docker = |line: &str| tools.printed(&format!("{tool} {line}"));
    let login = tools.log_in(&tool, served.server.host(), served.login_command("a/b"));
    assert_eq!(login.code, 0, "{login:?}");

    let image = SampleImage::builder().with_layer([("x", "y")]).with_random_layer(300_000);
    let image = image.build();
    image.write_docker_archive(&served.sandbox.path("image.tar"), &["sample:1"]).unwrap();
    docker("load -q -i image.tar");
    let id = docker("images -q --no-trunc sample:1");
    let ((config, _), layers) = config_and_layers(&image);
    assert_eq!(id, config.to_string());

    let remote = served.image("a/b:pushed");
    docker(&format!("tag sample:1 {remote}"));
    docker(&format!("push -q {remote}"));
    assert_skopeo_pulls(&served, &tools, "a/b:pushed", &image);

    docker("save -o saved.tar sample:1");
    served
        .sandbox
        .printed(&format!("--push a/b:saved --from docker-archive:saved.tar --organization {TBD}"));
    assert_skopeo_pulls(&served, &tools, "a/b:saved", &image);

    docker(&format!("rmi -f sample:1 {remote}"));
    for tag in ["pushed", "saved"] {
        let remote = served.image(&format!("a/b:{tag}"));
        docker(&format!("pull -q {remote}"));
        assert_eq!(docker(&format!("images -q --no-trunc {remote}")), id);
        let inspected: Value = serde_json::from_str(&docker(&format!("inspect {remote}"))).unwrap();
        let digests: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
        assert_eq!(inspected[0]["RootFS"]["Layers"], json!(digests));
        docker(&format!("rmi -f {remote}"));
    }
    // docker prints the error of the registry.
    docker("load -q -i image.tar");
    docker(&format!("tag sample:1 {}", served.image("none:v1")));
    let refused = tools.run(&format!("{tool} push {}", served.image("none:v1")));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("denied"), "{refused:?}");
}

/// Checks that skopeo pulls the configuration of the sample, which has the digests of the unpacked layers.
fn assert_skopeo_pulls(served: &Served, tools: &Tools<'_>, name: &str, image: &SampleImage) {
    let folder = name.rsplit_once(':').unwrap().1;
    tools.printed(&format!("skopeo copy -q docker://{} dir:{folder}", served.image(name)));
    let pulled = contents(&served.sandbox.path(folder));
    let ((config, content), _) = config_and_layers(image);
    assert_eq!(pulled[config.hex()], content, "{name}");
}

#[test]
fn pushed_layout_is_pulled_unchanged() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&served.sandbox.path("sample"), None).unwrap();
    let push = format!("--push a/b:v1 --from oci:sample --all-platforms --organization {TBD}");
    let url = served.sandbox.printed(&push);
    assert_eq!(url.trim_end(), served.image(&format!("a/b@{}", image.digest())));

    let remote = served.image("a/b:v1");
    tools.printed(&format!("{COPY_UNCHANGED} docker://{remote} oci:pulled"));
    let blobs = |folder: &str| contents(&served.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
    for arch in ["amd64", "arm64"] {
        tools.printed(&format!("podman pull -q --arch {arch} {remote}"));
    }
}

#[test]
fn docker_archive_keeps_configuration_and_files() {
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
    // podman unpacks the layers, and rejects layers that are not in the configuration.
    tools.printed(&format!("podman pull -q {remote}"));
    tools.printed(&format!("podman push -q {remote} dir:unpacked"));
    let unpacked = contents(&served.sandbox.path("unpacked"));
    for (layer, content) in layers {
        assert!(unpacked[layer.hex()] == content, "{layer}");
    }
}

#[test]
fn podman_pulls_its_own_saved_image() {
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

#[test]
fn push_by_tools_to_missing_repository_suggests_create() {
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
        assert!(start.elapsed() < Duration::from_secs(5), "{push} retried");
    }
    served.sandbox.printed(&format!("--create-repository test/repo --organization {TBD}"));
    tools.printed(&format!("skopeo copy -q oci:sample {target}"));
}
