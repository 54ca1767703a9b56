//! What `cargo install` builds from, and what a registry of crates would hold.

use std::fs;
use std::process::Command;

use super::root;

/// The files of the crate, by their paths in it.
fn packaged(name: &str) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["package", "--offline", "--allow-dirty", "--list", "-p", name]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("manifest has no"), "{told}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_crate_has_all_that_it_is_built_from() {
    for name in ["ark-container-core", "ark-container-cli"] {
        let packaged = packaged(name);
        let has = |file: &str| packaged.iter().any(|packaged| packaged == file);
        assert!(has("LICENSE") && has("README.md"), "{packaged:?}");
        // What the sources include, and what CMake reads, is beside them.
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
