//! The lists of what the Debian package holds, held against what there is.

use std::fs;
use std::process::Command;

use tempfile::tempdir;
use toml::{Table, Value};

use super::root;
use crate::sandbox::BINARY;

/// The package's files: where each is from, and where it goes.
fn assets(manifest: &Table) -> Vec<(String, String)> {
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assets.iter().map(|asset| (text(&asset[0]), text(&asset[1]))).collect()
}

fn manifest() -> Table {
    fs::read_to_string(root().join("ark-container-cli/Cargo.toml")).unwrap().parse().unwrap()
}

#[test]
fn it_has_every_program() {
    let manifest = manifest();
    let assets = assets(&manifest);
    for program in manifest["bin"].as_array().unwrap() {
        let from = format!("target/release/{}", program["name"].as_str().unwrap());
        assert!(assets.contains(&(from.clone(), "usr/bin/".to_owned())), "{from}");
    }
}

#[test]
fn it_has_all_that_goes_beside_them() {
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
fn cmake_finds_its_module_where_the_package_puts_it() {
    // One of the folders that find_package searches below a prefix, whatever the processor:
    // https://cmake.org/cmake/help/v3.22/command/find_package.html#config-mode-search-procedure
    let asset = ("cmake/*".to_owned(), "usr/share/cmake/ArkDocker/".to_owned());
    assert!(assets(&manifest()).contains(&asset));
    let config = root().join("ark-container-cli/cmake/ArkDockerConfig.cmake");
    assert!(config.is_file(), "{} is missing", config.display());
}
