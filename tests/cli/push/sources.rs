//! Sources of a push: each format from each tool, and rejected sources.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use ark_container_core::distribution::Manifest;
use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;
use serde_json::Value;

use crate::clients::contents;
use crate::ecr::Cloud;
use crate::sandbox::{Sandbox, Served, TBD};
use crate::tools::{Daemon, Tools, component};

/// Writes a build context.
fn write_context(served: &Served) {
    let dockerfile = "FROM scratch\nCOPY greeting /etc/greeting\nCOPY data /srv/data\nLABEL a=b\n";
    served.sandbox.write("context/Dockerfile", dockerfile);
    served.sandbox.write("context/greeting", "hello\n");
    let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    served.sandbox.write("context/data", data);
}

/// Returns a push of a source, with `docker` and `podman` in PATH.
fn push(served: &Served, source: &str) -> Command {
    let line = format!("--push a:v1 --from={source} --organization {TBD}");
    let mut push = served.sandbox.command(&line);
    let bin = served.sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
    push.env("PATH", path);
    push
}

/// Runs a push, which must succeed, and returns the printed URL.
fn pushed(served: &Served, push: &mut Command) -> String {
    let run = served.sandbox.finish(push);
    assert_eq!(run.code, 0, "{push:?}: {run:?}");
    run.stdout.trim_end().to_owned()
}

/// Checks that skopeo pulls the pushed image, and that the configuration is that of the builder.
fn assert_pulled(served: &Served, tools: &Tools<'_>, id: &str) {
    let folder = served.sandbox.path("pulled");
    let _ = fs::remove_dir_all(&folder);
    tools.printed(&format!("skopeo copy -q docker://{} dir:pulled", served.image("a:v1")));
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    assert!(contents(&folder).contains_key(hex), "{id}");
}

#[test]
fn docker_image_has_one_digest_from_each_source() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    let daemon = Daemon::start();
    let docker = |line: &str| tools.printed(&format!("docker --host {} {line}", daemon.host()));
    write_context(&served);
    let mut build =
        tools.command(&format!("docker --host {} build -q -t sample:1 context", daemon.host()));
    let built = served.sandbox.finish(build.env("DOCKER_BUILDKIT", "0"));
    assert_eq!(built.code, 0, "{built:?}");
    docker("tag sample:1 sample:latest");
    docker("tag sample:1 sample:other");
    let id = docker("images -q --no-trunc sample:1");
    docker("save -o saved.tar sample:1");
    docker("save -o all.tar sample");
    for (tool, name) in [("gzip", "saved.tar.gz"), ("zstd", "saved.tar.zst")] {
        let line = format!("{tool} -c saved.tar > {name}");
        let packed = served.sandbox.finish(&mut served.sandbox.shell(&line));
        assert_eq!(packed.code, 0, "{packed:?}");
    }
    let mut urls = BTreeSet::new();
    for source in [
        "docker-daemon:sample:1",
        "docker-daemon:sample",
        &format!("docker-daemon:{id}"),
        &format!("docker-daemon:{}", &id["sha256:".len()..][..12]),
        "sample:1",
        "docker-archive:saved.tar",
        "docker-archive:saved.tar.gz",
        "saved.tar.zst",
        "docker-archive:all.tar:sample:other",
        "docker-daemon:sample:1",
    ] {
        let mut push = push(&served, source);
        urls.insert(pushed(&served, push.env("DOCKER_HOST", daemon.host())));
    }
    // Standard input from a pipe, and from a file.
    let mut save = tools.command(&format!("docker --host {} save sample:1", daemon.host()));
    let mut saving = save.stdout(Stdio::piped()).spawn().unwrap();
    let mut piped = push(&served, "-");
    urls.insert(pushed(&served, piped.stdin(saving.stdout.take().unwrap())));
    assert!(saving.wait().unwrap().success());
    for name in ["saved.tar", "saved.tar.gz"] {
        let file = File::open(served.sandbox.path(name)).unwrap();
        urls.insert(pushed(&served, push(&served, "-:sample:1").stdin(file)));
    }
    assert_eq!(urls.len(), 1, "{urls:?}");
    assert_pulled(&served, &tools, &id);

    let mut unknown = push(&served, "docker-daemon:unknown:1");
    let run = served.sandbox.finish(unknown.env("DOCKER_HOST", daemon.host()));
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("image docker-daemon:unknown:1 does not exist"), "{run:?}");
}

#[test]
fn podman_image_has_one_digest_on_each_push() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    write_context(&served);
    // podman needs options to find the images of the sandbox.
    let podman = tools.command("podman");
    let words: Vec<String> = std::iter::once(podman.get_program())
        .chain(podman.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let variables = podman.get_envs().filter_map(|(name, value)| {
        Some(format!("export {}='{}'\n", name.to_str()?, value?.to_str()?))
    });
    let script =
        format!("#!/bin/sh\n{}exec {} \"$@\"\n", variables.collect::<String>(), words.join(" "));
    let script = served.sandbox.write("bin/podman", script);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(script, executable).unwrap();

    tools.printed("buildah bud -q --isolation chroot -t localhost/sample:1 context");
    tools.printed("podman tag localhost/sample:1 localhost/sample:latest");
    let id = tools.printed("podman images -q --no-trunc localhost/sample:1");
    tools.printed("podman save -q -o saved.tar localhost/sample:1");
    tools.printed("podman save -q --format oci-archive -o oci.tar localhost/sample:1");
    let mut urls = BTreeSet::new();
    for source in [
        "podman:localhost/sample:1",
        "podman:localhost/sample",
        &format!("podman:{id}"),
        "localhost/sample:1",
        "docker-archive:saved.tar",
        "podman:localhost/sample:1",
    ] {
        urls.insert(pushed(&served, &mut push(&served, source)));
    }
    assert_eq!(urls.len(), 1, "{urls:?}");
    assert_pulled(&served, &tools, &id);
    // The layers of this archive are compressed, so the same image has another manifest.
    let mut urls = BTreeSet::new();
    for source in ["oci-archive:oci.tar", "oci.tar", "oci-archive:oci.tar:localhost/sample:1"] {
        urls.insert(pushed(&served, &mut push(&served, source)));
    }
    let file = File::open(served.sandbox.path("oci.tar")).unwrap();
    urls.insert(pushed(&served, push(&served, "-").stdin(file)));
    assert_eq!(urls.len(), 1, "{urls:?}");
    assert_pulled(&served, &tools, &id);

    let run = served.sandbox.finish(&mut push(&served, "podman:localhost/unknown:1"));
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("image podman:localhost/unknown:1 does not exist"), "{run:?}");

    // A file with the same name makes the source ambiguous.
    served.sandbox.write("localhost/sample:1", fs::read(served.sandbox.path("saved.tar")).unwrap());
    let run = served.sandbox.finish(&mut push(&served, "localhost/sample:1"));
    assert_eq!(run.code, 2, "{run:?}");
    let expected = "\"localhost/sample:1\" is ambiguous; write ./localhost/sample:1 or \
        podman:localhost/sample:1";
    assert!(run.stderr.contains(expected), "{run:?}");
    let from_file = pushed(&served, &mut push(&served, "./localhost/sample:1"));
    let from_podman = pushed(&served, &mut push(&served, "podman:localhost/sample:1"));
    assert_eq!(from_file, from_podman);
}

fn with_repository() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    fs::create_dir(sandbox.path("bin")).unwrap();
    sandbox
}

/// Writes a script as the only command of this name in PATH.
fn write_stub(sandbox: &Sandbox, name: &str, script: &str) {
    let path = sandbox.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn push_with_stubs(sandbox: &Sandbox, source: &str) -> Command {
    let line = format!("--quiet --push a:v1 --from {source} --organization {TBD}");
    let mut push = sandbox.command(&line);
    push.env("PATH", sandbox.path("bin"));
    push
}

fn reported(sandbox: &Sandbox, source: &str) -> String {
    let run = sandbox.finish(&mut push_with_stubs(sandbox, source));
    assert_eq!(run.stdout, "", "{run:?}");
    format!("exit {}\n{}", run.code, run.stderr)
}

#[test]
fn missing_command_suggests_its_package() {
    let sandbox = with_repository();
    assert_snapshot!(reported(&sandbox, "docker-daemon:alpine:3"), @"
    exit 1
    error: docker is not installed, or not on the PATH; on Debian: apt-get install docker.io
    ");
    assert_snapshot!(reported(&sandbox, "podman:alpine"), @"
    exit 1
    error: podman is not installed, or not on the PATH; on Debian: apt-get install podman
    ");
    assert_snapshot!(reported(&sandbox, "alpine:3"), @r#"
    exit 2
    error: "alpine:3" is not an image source: the file does not exist, docker is not installed, podman is not installed; write docker-daemon:REF, podman:REF, docker-archive:FILE[:REF], oci:DIR[:REF], oci-archive:FILE[:REF], or - for an archive on standard input
    "#);
    assert_snapshot!(reported(&sandbox, "podman:-q"), @r#"
    exit 2
    error: image source "podman:-q" names an option, not an image
    "#);
}

#[test]
fn stopped_daemon_is_reported() {
    let sandbox = with_repository();
    // The real docker client, without a daemon.
    let path = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join(component("docker").get_program()))
        .find(|path| path.is_file());
    std::os::unix::fs::symlink(path.unwrap(), sandbox.path("bin/docker")).unwrap();
    let mut push = push_with_stubs(&sandbox, "docker-daemon:alpine:3");
    let run = sandbox.finish(push.env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("docker cannot save the image alpine:3"), "{run:?}");
    assert!(
        run.stderr.contains("Cannot connect to the Docker daemon at unix:///nowhere"),
        "{run:?}"
    );
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn failed_save_is_reported() {
    let sandbox = with_repository();
    let save = |script: &str| {
        write_stub(
            &sandbox,
            "docker",
            &format!("case $1 in image) echo sha256:{ID};; save) {script};; esac"),
        );
        reported(&sandbox, "docker-daemon:a:1")
    };
    assert_snapshot!(save("echo part; echo 'unexpected EOF' >&2; exit 1"), @"
    exit 1
    error: docker cannot save the image a:1: unexpected EOF
    ");
    assert_snapshot!(save("echo no archive"), @"
    exit 1
    error: docker-daemon:a:1 is not a tar archive: it looks like text
    ");
    assert_snapshot!(save("kill -9 $$"), @"
    exit 1
    error: docker cannot save the image a:1: signal: 9 (SIGKILL)
    ");
    write_stub(&sandbox, "docker", "echo nonsense");
    assert_snapshot!(reported(&sandbox, "docker-daemon:a:1"), @r#"
    exit 1
    error: docker cannot save the image a:1: "nonsense" is not an image ID
    "#);
}

/// Pushes a source with stub commands, and returns the exit code and the error.
fn push_platform(sandbox: &Sandbox, source: &str, options: &str) -> (i32, String) {
    let run = sandbox.finish(&mut push_with_stubs(sandbox, &format!("{source} {options}")));
    (run.code, run.stderr)
}

#[test]
fn docker_saves_the_chosen_platform_if_supported() {
    let sandbox = with_repository();
    SampleImage::new("x").write_docker_archive(&sandbox.path("x.tar"), &["a:1"]).unwrap();
    let tar = sandbox.path("x.tar");
    let docker = |save: &str| {
        let save = save.replace("TAR", tar.to_str().unwrap());
        let script = format!("case \"$*\" in 'image inspect'*) echo sha256:{ID};; {save} esac");
        write_stub(&sandbox, "docker", &script);
    };
    // A new docker, which has only the image for linux/amd64.
    docker("'save --platform linux/amd64 sha256:'*) /bin/cat TAR;; *) echo none >&2; exit 1;;");
    assert_eq!(push_platform(&sandbox, "docker-daemon:a:1", "--platform linux/amd64").0, 0);
    let other = push_platform(&sandbox, "docker-daemon:a:1", "--platform linux/arm64");
    assert_eq!(other.0, 1, "{other:?}");
    // An old docker does not know the option --platform.
    docker("*--platform*) echo 'unknown flag: --platform' >&2; exit 125;; *) /bin/cat TAR;;");
    assert_eq!(push_platform(&sandbox, "docker-daemon:a:1", "--platform linux/amd64").0, 0);
    let (code, error) = push_platform(&sandbox, "docker-daemon:a:1", "--platform linux/arm64");
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("has no image for linux/arm64; it has: linux/amd64"), "{error}");
}

#[test]
fn podman_manifest_list_is_saved_with_all_platforms() {
    let sandbox = with_repository();
    let layout = sandbox.path("layout");
    SampleImage::for_two_platforms().write_oci_layout(&layout, None).unwrap();
    let tar = sandbox.path("l.tar");
    let mut pack = Command::new("tar");
    pack.arg("-C").arg(&layout).arg("-cf").arg(&tar).arg(".");
    assert!(pack.status().unwrap().success());
    let push = format!("/bin/cp {} \"${{6#oci-archive:}}\"", tar.display());
    let script = format!(
        "case \"$1 $2\" in 'manifest exists');; 'manifest push') {push};; *) exit 9;; esac"
    );
    write_stub(&sandbox, "podman", &script);
    assert_eq!(push_platform(&sandbox, "podman:app", "--all-platforms").0, 0);
    assert_eq!(push_platform(&sandbox, "podman:app", "--platform linux/arm64").0, 0);
    assert_eq!(push_platform(&sandbox, "podman:app", "").0, 0);
}

#[test]
fn image_on_standard_input_is_selected() {
    let sandbox = with_repository();
    SampleImage::new("x").write_docker_archive(&sandbox.path("x.tar"), &["a:1"]).unwrap();
    for source in ["-:a:1", "-:@0", "docker-archive:/dev/stdin:a:1", "/dev/stdin", "-"] {
        for prefix in ["--from ", "--from="] {
            let line = format!("--quiet --push a:v1 {prefix}{source} --organization {TBD}");
            let file = File::open(sandbox.path("x.tar")).unwrap();
            let run = sandbox.finish(sandbox.command(&line).stdin(file));
            assert_eq!(run.code, 0, "{line}: {run:?}");
        }
    }
}

#[test]
fn ambiguous_image_name_is_rejected() {
    let sandbox = with_repository();
    for name in ["docker", "podman"] {
        write_stub(&sandbox, name, &format!("echo {ID}"));
    }
    assert_snapshot!(reported(&sandbox, "alpine:3"), @r#"
    exit 2
    error: "alpine:3" is ambiguous; write docker-daemon:alpine:3 or podman:alpine:3
    "#);
}

#[test]
fn empty_standard_input_is_reported() {
    let sandbox = with_repository();
    assert_snapshot!(reported(&sandbox, "-"), @"
    exit 1
    error: standard input: it is empty
    ");
}

const NAME: &str = "catalog/extract-video";

/// Builds an image with two layers in podman's storage, and returns its ID.
fn build(cloud: &Cloud, tools: &Tools<'_>) -> String {
    let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    cloud
        .sandbox
        .write("context/Dockerfile", "FROM scratch\nCOPY data /srv/data\nCOPY greeting /\n");
    cloud.sandbox.write("context/data", data);
    cloud.sandbox.write("context/greeting", "hello\n");
    let build = "buildah bud -q --layers --isolation chroot -t localhost/sample:1 context";
    tools.printed(build);
    tools.printed("podman images -q --no-trunc localhost/sample:1")
}

/// Checks that skopeo pulls the configuration `id` and its layers.
fn assert_pulled_unchanged(cloud: &Cloud, tools: &Tools<'_>, id: &str) {
    let folder = cloud.sandbox.path("pulled");
    let _ = fs::remove_dir_all(&folder);
    let image = cloud.image(&format!("{NAME}:v1"));
    tools.printed(&format!("skopeo copy -q --dest-decompress docker://{image} dir:pulled"));
    let files = contents(&folder);
    let config = &files[id.trim_start_matches("sha256:")];
    let config: Value = serde_json::from_slice(config).unwrap();
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers.iter().map(|layer| layer.as_str().unwrap()) {
        let content = &files[layer.trim_start_matches("sha256:")];
        assert_eq!(Manifest::new("", content.clone()).digest.to_string(), layer);
    }
    // podman verifies the unpacked layers.
    tools.printed("podman rmi -f -a");
    tools.printed(&format!("podman pull -q --tls-verify=false {image}"));
    assert_eq!(tools.printed(&format!("podman images -q --no-trunc {image}")), id);
}

#[test]
fn buildah_image_reaches_ecr_from_every_form() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.command(&format!("--login {NAME} --organization {TBD}"));
    assert_eq!(tools.log_in("skopeo", &cloud.host(), login).code, 0);
    let id = build(&cloud, &tools);
    tools.printed("podman save -q -o saved.tar localhost/sample:1");
    tools.printed("podman save -q --format oci-archive -o oci.tar localhost/sample:1");
    tools.printed("podman save -q --format oci-dir -o layout localhost/sample:1");
    for source in ["docker-archive:saved.tar", "oci-archive:oci.tar", "oci:layout"] {
        for compression in ["gzip", "zstd"] {
            let push = format!(
                "--push {NAME}:v1 --from {source} --organization {TBD} --compression {compression}"
            );
            let url = cloud.printed(&push);
            assert_eq!(cloud.printed(&push), url, "{source}: the digest is the same again");
            assert_pulled_unchanged(&cloud, &tools, &id);
        }
    }
}
