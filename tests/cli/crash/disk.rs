//! What is in the registry's folder: everything that is visible is whole, and nothing else is there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::sandbox::Sandbox;

/// Where the sandbox's registry is.
pub(super) const REGISTRY: &str = "data/ark/registry";

/// What may be in the registry's folder.
const ENTRIES: [&str; 8] =
    ["_tmp", "_trash", "address", "address.lock", "key", "prod", "serve.lock", "version"];

/// Longer than it takes until uploads and temporary files are swept.
const LONG_AGO: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// The files below a folder, and their paths from there.
pub(super) fn files_below(folder: &Path) -> BTreeMap<String, PathBuf> {
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

/// Makes sure that each file in sight is what its name says, and has what it refers to.
pub(super) fn check(sandbox: &Sandbox) {
    let registry = sandbox.path(REGISTRY);
    for entry in fs::read_dir(&registry).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(ENTRIES.contains(&name.as_str()), "what is {name}?");
    }
    let files = files_below(&registry.join("prod"));
    let mut blobs = Vec::new();
    for (name, path) in &files {
        let Some((repository, below)) = name.split_once("/_repository/") else {
            assert!(name.ends_with("/_lock"), "what is {name}?");
            continue;
        };
        let has = |kind: &str, digest: &str| {
            let place = digest.replace(':', "/");
            files.contains_key(&format!("{repository}/_repository/{kind}/{place}"))
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
                assert!(has("manifests", &digest), "{name} stands for {digest:?}");
            }
            ["manifests", "sha256", _] => {
                let file = fs::read_to_string(path).unwrap();
                let (header, manifest) = file.split_once('\n').unwrap();
                let header: Value = serde_json::from_str(header).unwrap();
                assert_eq!(header["length"].as_u64(), Some(manifest.len() as u64), "{name}");
                let manifest: Value = serde_json::from_str(manifest).unwrap();
                let parts = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
                for part in parts("layers").iter().chain(manifest.get("config")) {
                    assert!(has("blobs", part["digest"].as_str().unwrap()), "{name}: {part}");
                }
                for part in parts("manifests") {
                    assert!(has("manifests", part["digest"].as_str().unwrap()), "{name}: {part}");
                }
            }
            ["uploads", _] => {}
            _ => panic!("what is {name}?"),
        }
    }
    check_sums(&blobs);
}

/// Compares files with the digests that they are named by, as another program computes them.
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

/// What killed processes left behind, out of sight: temporary files, deleted repositories, and uploads.
pub(super) fn leftovers(sandbox: &Sandbox) -> Vec<PathBuf> {
    let registry = sandbox.path(REGISTRY);
    let hidden = ["_tmp", "_trash"].map(|name| fs::read_dir(registry.join(name)).unwrap());
    let hidden = hidden.into_iter().flatten().map(|entry| entry.unwrap().path());
    let uploads = files_below(&registry.join("prod")).into_iter();
    let uploads = uploads.filter(|(name, _)| name.contains("/_repository/uploads/"));
    hidden.chain(uploads.map(|(_, path)| path)).collect()
}

/// Makes sure that a server which starts long after removes what was left behind.
pub(super) fn check_sweep(sandbox: &Sandbox) {
    let long_ago = SystemTime::now() - LONG_AGO;
    for path in leftovers(sandbox) {
        File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let _server = sandbox.serve();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let leftovers = leftovers(sandbox);
        if leftovers.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "not swept: {leftovers:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
