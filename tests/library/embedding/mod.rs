//! The library as a new program would link it.
//!
//! `fresh-crate/` is written from the library's docs alone, and is no part of the workspace.

mod budget;
mod catalog;
mod threads;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ark_container_core::model::OrganizationId;
use ark_container_core::testing::SampleImage;

use crate::architecture::workspace;

const CRATE: &str = "tests/library/embedding/fresh-crate";
/// The library, as the crate finds it where it is kept.
const LIBRARY: &str = "../../../../ark-container-core";

/// As the workspace builds what both use, so that it is built once.
const PROFILE: [&str; 6] = [
    "profile.dev.debug='line-tables-only'",
    "profile.dev.package.'*'.debug=false",
    // Here it is a dependency.
    "profile.dev.package.ark-container-core.debug='line-tables-only'",
    "profile.dev.package.libdeflate-sys.opt-level=3",
    "profile.dev.package.zstd-sys.opt-level=1",
    // What the crate is built for is seen once.
    "profile.dev.incremental=false",
];

/// A copy of the crate, outside of the workspace.
struct FreshCrate {
    folder: tempfile::TempDir,
}

impl FreshCrate {
    fn copy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = Self { folder };
        fs::create_dir(copy.path("src")).unwrap();
        let original = workspace().join(CRATE);
        for file in ["src/main.rs", "src/tests.rs"] {
            fs::copy(original.join(file), copy.path(file)).unwrap();
        }
        let manifest = fs::read_to_string(original.join("Cargo.toml")).unwrap();
        assert!(manifest.contains(LIBRARY), "{manifest}");
        let library = workspace().join("ark-container-core");
        let manifest = manifest.replace(LIBRARY, library.to_str().unwrap());
        fs::write(copy.path("Cargo.toml"), manifest).unwrap();
        fs::copy(workspace().join("Cargo.lock"), copy.path("Cargo.lock")).unwrap();
        copy
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Runs cargo on it, without the network, and gives what it prints on standard output.
    fn cargo(&self, subcommand: &str, arguments: &[&OsStr]) -> String {
        let mut command = Command::new(env!("CARGO"));
        command.args([subcommand, "--offline", "--quiet"]).args(arguments);
        for setting in PROFILE {
            command.args(["--config", setting]);
        }
        let finished = command
            .current_dir(self.folder.path())
            .env("CARGO_TARGET_DIR", target_folder())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&finished.stderr);
        assert!(finished.status.success(), "cargo {subcommand}: {stderr}");
        String::from_utf8(finished.stdout).unwrap()
    }
}

/// Where this test was built, so that cargo finds there what the crate has in common with it.
fn target_folder() -> PathBuf {
    // Below it are the profile's folder, `deps` and the test.
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

fn lines_of(file: &str) -> usize {
    fs::read_to_string(workspace().join(CRATE).join(file)).unwrap().lines().count()
}

#[test]
fn fresh_crate_uses_the_library_in_40_lines() {
    assert!(lines_of("src/main.rs") < 40);
    assert!(lines_of("src/tests.rs") < 20);
    let fresh = FreshCrate::copy();
    let tested = fresh.cargo("test", &[]);
    assert!(tested.contains("1 passed"), "{tested}");

    fresh.cargo("build", &[]);
    let image = SampleImage::new("fresh");
    image.write_oci_layout(&fresh.path("layout"), None).unwrap();
    let run = |folder: &Path| {
        let source = format!("oci:{}", fresh.path("layout").display());
        let run = Command::new(target_folder().join("debug/fresh-crate"))
            .args(["test/fresh:v1", &source])
            .env("ARK_REGISTRY", format!("local:{}", folder.display()))
            .env("ARK_ORGANIZATION", OrganizationId::TBD.to_string())
            .env("XDG_CONFIG_HOME", folder)
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
        String::from_utf8(run.stdout).unwrap()
    };
    let printed = run(&fresh.path("registry"));
    let url = format!("127.0.0.1:5050/prod/{}/test/fresh", OrganizationId::TBD);
    let resolved = format!("{url}@{} (", image.digest());
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], url);
    assert!(lines[1].starts_with(&resolved) && lines.len() == 2, "{printed}");
    // Everything that the program does may be done again.
    assert_eq!(run(&fresh.path("registry")), printed);
}
