//! The packages: the crates, the Debian package, and the workflows that build them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::tempdir;
use toml::{Table, Value};

use crate::python_component::python_component;
use crate::sandbox::BINARY;

/// Returns the root folder of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the paths of the files in a crate.
fn packaged(name: &str) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["package", "--offline", "--allow-dirty", "--list", "-p", name]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reported = String::from_utf8_lossy(&output.stderr);
    assert!(!reported.contains("manifest has no"), "{reported}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn crate_contains_all_its_sources() {
    for name in ["ark-container-core", "ark-container-cli"] {
        let packaged = packaged(name);
        let has = |file: &str| packaged.iter().any(|packaged| packaged == file);
        assert!(has("LICENSE") && has("README.md"), "{packaged:?}");
        // The crate has the files that the sources include and that CMake reads.
        for folder in ["src", "man", "cmake", "schemas"] {
            for file in files_below(&root().join(name).join(folder)) {
                let file =
                    file.strip_prefix(root().join(name)).unwrap().to_str().unwrap().to_owned();
                assert!(has(&file), "{name} lacks {file}");
            }
        }
        assert!(!packaged.iter().any(|file| file.ends_with(".svg") || file == "Dockerfile"));
    }
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Returns the source and the target of each file of the Debian package.
fn assets(manifest: &Table) -> Vec<(String, String)> {
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assets.iter().map(|asset| (text(&asset[0]), text(&asset[1]))).collect()
}

fn manifest() -> Table {
    fs::read_to_string(root().join("ark-container-cli/Cargo.toml")).unwrap().parse().unwrap()
}

#[test]
fn debian_package_has_every_program() {
    let manifest = manifest();
    let assets = assets(&manifest);
    for program in manifest["bin"].as_array().unwrap() {
        let from = format!("target/release/{}", program["name"].as_str().unwrap());
        assert!(assets.contains(&(from.clone(), "usr/bin/".to_owned())), "{from}");
    }
}

#[test]
fn debian_package_has_completions_and_manual() {
    let made = tempdir().unwrap();
    let script = root().join("ark-container-cli/package/shell-files.sh");
    let run = Command::new(script).arg(BINARY).arg(made.path()).output().unwrap();
    assert!(run.status.success() && run.stdout.is_empty() && run.stderr.is_empty(), "{run:?}");
    let mut expected: Vec<String> = fs::read_dir(made.path().join("completions"))
        .unwrap()
        .map(|file| format!("completions/{}", file.unwrap().file_name().to_str().unwrap()))
        // Debian has no PowerShell.
        .filter(|file| !file.ends_with(".ps1"))
        .chain(["man/*.1".to_owned()])
        .collect();
    let assets = assets(&manifest());
    let made_assets = assets.iter().filter_map(|(from, _)| from.strip_prefix("../target/package/"));
    let mut packaged: Vec<String> = made_assets.map(str::to_owned).collect();
    expected.sort();
    packaged.sort();
    assert_eq!(packaged, expected);
}

#[test]
fn debian_package_has_the_documentation() {
    let assets = assets(&manifest());
    // The links between the documents need the folders of the repository.
    for (from, to) in
        [("../README.md", ""), ("../docs/*.md", "docs/"), ("README.md", "ark-container-cli/")]
    {
        let to = format!("usr/share/doc/ark-catalog-container-tool/{to}");
        assert!(assets.contains(&(from.to_owned(), to)), "{from}");
    }
}

#[test]
fn cmake_finds_its_module_where_the_package_puts_it() {
    // One of the folders that find_package searches below a prefix, for any processor:
    // https://cmake.org/cmake/help/v3.22/command/find_package.html#config-mode-search-procedure
    let asset = ("cmake/*".to_owned(), "usr/share/cmake/ArkDocker/".to_owned());
    assert!(assets(&manifest()).contains(&asset));
    let config = root().join("ark-container-cli/cmake/ArkDockerConfig.cmake");
    assert!(config.is_file(), "{} is missing", config.display());
}

/// Returns the workflow files below a folder, except in build folders.
fn workflows(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = paths.filter(|path| !path.is_symlink() && !path.ends_with("target"));
    let in_workflows = folder.ends_with(".github/workflows");
    sources
        .flat_map(|path| match path.extension() {
            _ if path.is_dir() => workflows(&path),
            Some(extension) if in_workflows && (extension == "yml" || extension == "yaml") => {
                vec![path]
            }
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn workflows_are_valid_and_restricted() {
    let workflows = workflows(&root());
    assert!(workflows.iter().any(|path| path.ends_with(".github/workflows/release.yml")));
    let check = python_component("check-jsonschema")
        .args(["--builtin-schema", "vendor.github-workflows"])
        .args(&workflows)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    for path in workflows {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.display();
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{file}: no permissions");
        for line in text.lines().map(|line| line.trim().trim_start_matches("- ")) {
            if let Some(action) = line.strip_prefix("uses: ") {
                let known = action.starts_with("actions/") && has_digest(action, "@", 40);
                assert!(known || action.starts_with("./"), "{file}: {action}");
            }
            if let Some(image) = line.strip_prefix("container: ") {
                assert!(has_digest(image, "@sha256:", 64), "{file}: {image}");
            }
        }
    }
    let dockerfile = fs::read_to_string(root().join("ark-container-cli/Dockerfile")).unwrap();
    let images = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    for image in images.filter(|image| *image != "scratch") {
        assert!(has_digest(image, "@sha256:", 64), "{image}");
    }
}

/// Returns whether an action or image is named by a digest: a tag could change without a commit here.
fn has_digest(name: &str, separator: &str, length: usize) -> bool {
    let digest = name.split_once(separator).and_then(|(_, digest)| digest.get(..length));
    digest.is_some_and(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
