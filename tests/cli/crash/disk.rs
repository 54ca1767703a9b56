//! The folder of the registry: all visible content is complete, also on a full disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::testing::SampleImage;
use serde_json::Value;

use crate::sandbox::{BINARY, Sandbox, TBD};
use crate::small_disk::SmallDisk;

/// Folder of the sandbox's registry.
pub(super) const REGISTRY: &str = "data/ark/registry";

/// Entries of the registry's folder.
const ENTRIES: [&str; 9] = [
    "_tmp",
    "_trash",
    "address",
    "address.lock",
    "key",
    "key.lock",
    "prod",
    "serve.lock",
    "version",
];

/// Mount options of a small disk.
const LIMITS: &str = "size=8m,mode=0700";

/// Age after which uploads, temporary files, reservations and blobs without a manifest are swept.
const SWEEP_AGE: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Returns the files below a folder by their relative paths.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), path);
            }
        }
    }
    files
}

/// Checks that each visible file matches its name, and that everything it refers to exists.
pub(super) fn check(sandbox: &Sandbox) {
    let registry = sandbox.path(REGISTRY);
    for entry in fs::read_dir(&registry).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(ENTRIES.contains(&name.as_str()), "unexpected {name}");
    }
    let files = files_below(&registry.join("prod"));
    let mut blobs = Vec::new();
    for (name, path) in &files {
        let Some((repository, below)) = name.split_once("/_repository/") else {
            assert!(
                name.ends_with("/_lock") || name.ends_with("/_reservations"),
                "unexpected {name}"
            );
            continue;
        };
        let has = |kind: &str, digest: &str| {
            let path = digest.replace(':', "/");
            files.contains_key(&format!("{repository}/_repository/{kind}/{path}"))
        };
        let below: Vec<&str> = below.split('/').collect();
        match below.as_slice() {
            ["repository.json"] => {
                let record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                assert!(record["created_at"].is_string(), "{name}: {record}");
            }
            ["blobs", "sha256", hex] => blobs.push((*hex, path)),
            ["tags", _] => {
                let digest = fs::read_to_string(path).unwrap();
                assert!(has("manifests", &digest), "{name} names {digest:?}");
            }
            ["manifests", "sha256", _] => {
                let file = fs::read_to_string(path).unwrap();
                let (header, manifest) = file.split_once('\n').unwrap();
                let header: Value = serde_json::from_str(header).unwrap();
                assert_eq!(header["length"].as_u64(), Some(manifest.len() as u64), "{name}");
                let manifest: Value = serde_json::from_str(manifest).unwrap();
                let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
                for blob in list("layers").iter().chain(manifest.get("config")) {
                    assert!(has("blobs", blob["digest"].as_str().unwrap()), "{name}: {blob}");
                }
                for child in list("manifests") {
                    assert!(has("manifests", child["digest"].as_str().unwrap()), "{name}: {child}");
                }
            }
            ["uploads" | "imports", _] | ["reservations", "sha256", _] => {}
            _ => panic!("unexpected {name}"),
        }
    }
    check_sums(&blobs);
}

/// Compares files with the digests in their names, computed by sha256sum.
fn check_sums(blobs: &[(&str, &PathBuf)]) {
    for some in blobs.chunks(500) {
        let paths = some.iter().map(|(_, path)| path);
        let output = Command::new("sha256sum").args(paths).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let sums = String::from_utf8(output.stdout).unwrap();
        for ((hex, path), sum) in some.iter().zip(sums.lines()) {
            assert!(sum.starts_with(hex), "{} has {sum}", path.display());
        }
    }
}

/// Returns invisible files of killed processes: temporary files, deleted repositories and uploads.
pub(super) fn leftovers(sandbox: &Sandbox) -> Vec<PathBuf> {
    let registry = sandbox.path(REGISTRY);
    let hidden = ["_tmp", "_trash"].map(|name| fs::read_dir(registry.join(name)).unwrap());
    let hidden = hidden.into_iter().flatten().map(|entry| entry.unwrap().path());
    let uploads = files_below(&registry.join("prod")).into_iter();
    let uploads = uploads.filter(|(name, _)| name.contains("/_repository/uploads/"));
    hidden.chain(uploads.map(|(_, path)| path)).collect()
}

/// Returns the blobs of repositories that no manifest of the repository names.
pub(super) fn unreferenced_blobs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let files = files_below(&sandbox.path(REGISTRY).join("prod"));
    let mut referenced = BTreeSet::new();
    let parts = |name: &str, kind: &str| {
        let (repository, below) = name.split_once("/_repository/")?;
        let hex = below.strip_prefix(kind)?.strip_prefix("/sha256/")?;
        Some((repository.to_owned(), hex.to_owned()))
    };
    for (name, path) in &files {
        let Some((repository, _)) = parts(name, "manifests") else { continue };
        let file = fs::read_to_string(path).unwrap();
        let manifest: Value = serde_json::from_str(file.split_once('\n').unwrap().1).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(manifest.get("config")) {
            let hex = blob["digest"].as_str().unwrap().trim_start_matches("sha256:");
            referenced.insert((repository.clone(), hex.to_owned()));
        }
    }
    let is_unreferenced =
        |name: &str| parts(name, "blobs").is_some_and(|it| !referenced.contains(&it));
    files.into_iter().filter(|(name, _)| is_unreferenced(name)).map(|(_, path)| path).collect()
}

/// Sets the files of repositories whose path contains `part` to the age at which they are swept.
pub(super) fn age(sandbox: &Sandbox, part: &str) {
    let long_ago = SystemTime::now() - SWEEP_AGE;
    for (name, path) in files_below(&sandbox.path(REGISTRY).join("prod")) {
        if name.contains(part) {
            File::open(path).unwrap().set_modified(long_ago).unwrap();
        }
    }
}

/// Checks that a server that starts much later removes the files of killed processes.
pub(super) fn check_sweep(sandbox: &Sandbox) {
    let long_ago = SystemTime::now() - SWEEP_AGE;
    for path in leftovers(sandbox) {
        File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    age(sandbox, "/_repository/blobs/");
    age(sandbox, "/_repository/reservations/");
    let _server = sandbox.serve();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = [leftovers(sandbox), unreferenced_blobs(sandbox)].concat();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "not swept: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes the layout of an image with a layer of this length, and returns the line that pushes it to `a`.
fn push_line(sandbox: &Sandbox, tag: &str, len: usize) -> String {
    let image = SampleImage::builder().with_seed(len as u64).with_random_layer(len);
    image.build().write_oci_layout(&sandbox.path(tag), None).unwrap();
    format!("--quiet --push a:{tag} --from oci:{tag} --organization {TBD}")
}

fn tags(sandbox: &Sandbox) -> Vec<String> {
    let tags = fs::read_dir(sandbox.path(REGISTRY).join(format!("prod/{TBD}/a/_repository/tags")));
    let mut tags: Vec<_> =
        tags.unwrap().map(|tag| tag.unwrap().file_name().into_string().unwrap()).collect();
    tags.sort();
    tags
}

#[test]
fn full_disk_rejects_a_push_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let disk = SmallDisk::mount(&sandbox.path("data"), LIMITS);
    let create = |name: &str| format!("--quiet --create-repository {name} --organization {TBD}");
    let listing = format!("--quiet --list-images a --organization {TBD}");
    sandbox.printed(&create("a"));
    sandbox.printed(&push_line(&sandbox, "v1", 100_000));
    let listed = sandbox.printed(&listing);

    // The disk is full in the middle of a layer, at its start, and before the push.
    let large = push_line(&sandbox, "v2", 1_000_000);
    for room in [400_000, 8192, 0] {
        disk.fill(room);
        let run = sandbox.run(&large);
        assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{room}: {run:?}");
        assert!(run.stderr.contains("the registry's disk is full"), "{room}: {}", run.stderr);
        assert_eq!(sandbox.printed(&listing), listed);
        assert_eq!(leftovers(&sandbox), Vec::<PathBuf>::new(), "no files remain");
        check(&sandbox);
        disk.free();
    }
    disk.fill(0);
    let run = sandbox.run(&create("b"));
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
    let listed = sandbox.printed("--quiet --list-repositories");
    assert_eq!(listed.lines().count(), 2, "the header and a: {listed}");
    disk.free();

    sandbox.printed(&large);
    sandbox.printed(&create("b"));
    assert_eq!(tags(&sandbox), ["v1", "v2"]);
    check(&sandbox);
}

#[test]
fn piped_archive_needs_temporary_space() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--quiet --create-repository a --organization {TBD}"));
    let image = SampleImage::builder().with_random_layer(10_000_000).build();
    let archive = sandbox.path("image.tar");
    image.write_docker_archive(&archive, &["a:1"]).unwrap();
    let script = "#!/bin/sh\ncase $1 in image) printf '%064d' 0;; save) cat \"$ARCHIVE\";; esac\n";
    let docker = sandbox.write("bin/docker", script);
    fs::set_permissions(docker, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let push = |source: &str, folder: &Path| {
        let pipe = if source == "-" { "cat image.tar |" } else { "" };
        let push = format!("--push a:v1 --from {source} --organization {TBD}");
        let line = format!("{pipe} {BINARY} --quiet {push}");
        let mut push = sandbox.shell(&line);
        push.env("TMPDIR", folder).env("PATH", &path).env("ARCHIVE", &archive);
        sandbox.finish(&mut push)
    };
    let small = sandbox.path("small");
    let disk = SmallDisk::mount(&small, LIMITS);
    for (source, name) in [("-", "standard input"), ("docker-daemon:a:1", "docker-daemon:a:1")] {
        let run = push(source, &small);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        let expected =
            format!("not enough disk space for {name} in ~/small; free some, or set TMPDIR to");
        assert!(run.stderr.contains(&expected), "{run:?}");
        assert_eq!(fs::read_dir(&small).unwrap().count(), 0, "nothing is left");
        assert_eq!(push(source, &sandbox.path("")).code, 0);
    }
    drop(disk);
    assert_ne!(push("-", &sandbox.path("absent")).code, 0);
}

#[test]
fn truncated_blob_is_rejected_and_pushed_again() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--quiet --create-repository a --organization {TBD}"));
    sandbox.printed(&push_line(&sandbox, "v1", 10_000));
    let large = push_line(&sandbox, "v2", 1_000_000);
    // The limit is in blocks of 512 or 1024 bytes. A write beyond the limit fails as on a full disk.
    let mut limited = Command::new("sh");
    let limits = "trap '' XFSZ; ulimit -f 400; exec \"$@\"";
    let tool = sandbox.command(&large);
    limited.args(["-c", limits, "sh"]).arg(tool.get_program()).args(tool.get_args());
    limited.current_dir(sandbox.path("")).env_clear();
    for (name, value) in tool.get_envs() {
        limited.env(name, value.unwrap());
    }
    limited.env("PATH", std::env::var_os("PATH").unwrap());
    let run = sandbox.finish(&mut limited);
    assert_ne!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("File too large"), "{}", run.stderr);
    assert_eq!(tags(&sandbox), ["v1"]);
    check(&sandbox);
    sandbox.printed(&large);
    assert_eq!(tags(&sandbox), ["v1", "v2"]);
    check(&sandbox);
}
