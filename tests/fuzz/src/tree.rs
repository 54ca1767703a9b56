//! Checks of the folder of a local registry, from outside.

use std::fs;
use std::path::{Path, PathBuf};

use ark_container_core::model::OrganizationId;
use aws_lc_rs::digest::{SHA256, SHA512};
use serde_json::Value;

/// The entries that are allowed at the top of a registry's folder.
const TOP: [&str; 10] = [
    "_tmp",
    "_trash",
    "address",
    "had-memberships",
    "key",
    "key.lock",
    "memberships.toml",
    "prod",
    "serve.lock",
    "version",
];

/// A registry's folder, the only entry of its parent folder.
pub(crate) struct Tree {
    outside: PathBuf,
    pub(crate) root: PathBuf,
}

impl Tree {
    pub(crate) fn new(outside: &Path) -> Self {
        Self { outside: outside.to_owned(), root: outside.join("registry") }
    }

    /// Checks that nothing is beside the folder, and that its top has only allowed entries.
    pub(crate) fn check_entries(&self) {
        assert_eq!(names(&self.outside), ["registry"]);
        let strange: Vec<String> =
            names(&self.root).into_iter().filter(|name| !TOP.contains(&name.as_str())).collect();
        assert!(strange.is_empty(), "{strange:?}");
        let organizations = names(&self.root.join("prod"));
        assert!(
            organizations.iter().all(|name| name.parse::<OrganizationId>().is_ok()),
            "{organizations:?}"
        );
    }

    /// Returns all files of an organization with their content.
    pub(crate) fn snapshot(&self, organization: OrganizationId) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.join("prod").join(organization.to_string())];
        while let Some(folder) = folders.pop() {
            for path in names(&folder).into_iter().map(|name| folder.join(name)) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push((path.clone(), fs::read(path).expect("a file"))),
                }
            }
        }
        files.sort();
        files
    }

    /// Checks that blobs and manifests have their digests, that the content of manifests exists unless it was
    /// `deleted`, and that the manifests of tags exist.
    pub(crate) fn check_content(
        &self,
        organization: OrganizationId,
        repositories: &[&str],
        deleted: &[String],
    ) {
        for name in repositories {
            let folder = self
                .root
                .join("prod")
                .join(organization.to_string())
                .join(name)
                .join("_repository");
            for (digest, path) in by_digest(&folder.join("blobs")) {
                let content = fs::read(path).expect("a blob");
                assert_eq!(digest_like(&digest, &content), digest);
            }
            for (digest, path) in by_digest(&folder.join("manifests")) {
                let file = fs::read(path).expect("a manifest");
                let end =
                    file.iter().position(|byte| *byte == b'\n').expect("a line on the manifest");
                let manifest = &file[end + 1..];
                assert_eq!(digest_like(&digest, manifest), digest);
                for named in named_by(manifest) {
                    let file = named.replacen(':', "/", 1);
                    let exists = ["blobs", "manifests"]
                        .iter()
                        .any(|kind| folder.join(kind).join(&file).is_file());
                    let exists = exists || deleted.iter().any(|target| target.ends_with(&named));
                    assert!(exists, "{digest} refers to {named}, which is missing");
                }
            }
            for tag in names(&folder.join("tags")) {
                let digest = fs::read_to_string(folder.join("tags").join(&tag)).expect("a tag");
                let file = digest.trim().replacen(':', "/", 1);
                assert!(
                    folder.join("manifests").join(file).is_file(),
                    "{tag} refers to {digest}, which is missing"
                );
            }
        }
    }
}

/// Returns the SHA-256 of some content in hexadecimal digits.
pub(crate) fn hex(content: &[u8]) -> String {
    let found = aws_lc_rs::digest::digest(&SHA256, content);
    found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_like(digest: &str, content: &[u8]) -> String {
    let Some(("sha512", _)) = digest.split_once(':') else {
        return format!("sha256:{}", hex(content));
    };
    let found = aws_lc_rs::digest::digest(&SHA512, content);
    let digits: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{digits}")
}

/// Returns the digests that a manifest refers to: the configuration, layers without URLs, and the children of an index.
fn named_by(manifest: &[u8]) -> Vec<String> {
    let json: Value = serde_json::from_slice(manifest).expect("a manifest is JSON");
    let lists =
        [&json["layers"], &json["manifests"]].into_iter().filter_map(Value::as_array).flatten();
    let is_elsewhere =
        |found: &&Value| found["urls"].as_array().is_some_and(|urls| !urls.is_empty());
    let found = lists.filter(|found| !is_elsewhere(found)).chain([&json["config"]]);
    found.filter_map(|found| found["digest"].as_str().map(str::to_owned)).collect()
}

fn by_digest(folder: &Path) -> Vec<(String, PathBuf)> {
    let of = |algorithm: String| {
        let folder = folder.join(&algorithm);
        let files = names(&folder).into_iter();
        files.map(move |hex| (format!("{algorithm}:{hex}"), folder.join(&hex))).collect::<Vec<_>>()
    };
    names(folder).into_iter().flat_map(of).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
