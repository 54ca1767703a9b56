//! The library in a new program.
//!
//! `fresh-crate/` uses only the library's documentation, and is not a member of the workspace.

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
/// The path of the library from the crate.
const LIBRARY: &str = "../../../../ark-container-core";

/// The profile of the workspace, so that common dependencies are built once.
const PROFILE: [&str; 6] = [
    "profile.dev.debug='line-tables-only'",
    "profile.dev.package.'*'.debug=false",
    // Here it is a dependency.
    "profile.dev.package.ark-container-core.debug='line-tables-only'",
    "profile.dev.package.libdeflate-sys.opt-level=3",
    "profile.dev.package.zstd-sys.opt-level=1",
    // The crate is built only once.
    "profile.dev.incremental=false",
];

/// A copy of the crate outside of the workspace.
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

    /// Runs cargo on the crate offline, and returns its standard output.
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

/// Returns the target folder of this test, so that cargo reuses its dependencies.
fn target_folder() -> PathBuf {
    // The test is in `deps`, in the folder of the profile.
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
    // The program is idempotent: a second run prints the same.
    assert_eq!(run(&fresh.path("registry")), printed);
}
