//! How `make.sh` sets a build folder up.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::TARGET;
use super::checkout::Checkout;
use crate::component::component;
use crate::sandbox::{BINARY, Sandbox};

/// Stands in for cargo where it builds the tool, which takes minutes.
const CARGO: &str = r#"#!/bin/sh
echo "$@" >> "$HOME/cargo"
mkdir -p ../../target/release
ln -sf TOOL ../../target/release/ark-catalog-container-tool
"#;

/// All that a folder of programs has.
const PROGRAMS: [&str; 7] = ["bash", "cmake", "dirname", "git", "ln", "make", "mkdir"];

#[test]
fn without_the_tool_and_ninja_the_checkout_and_make_do() {
    let sandbox = Sandbox::new();
    let checkout = Checkout::new(&sandbox);
    let bin = sandbox.path("some");
    fs::create_dir(&bin).unwrap();
    component("make");
    for program in PROGRAMS {
        let path = env::var_os("PATH").unwrap();
        let mut found = env::split_paths(&path).map(|folder| folder.join(program));
        symlink(found.find(|path| path.is_file()).unwrap(), bin.join(program)).unwrap();
    }
    let cargo = sandbox.write("some/cargo", CARGO.replace("TOOL", BINARY));
    fs::set_permissions(cargo, Permissions::from_mode(0o755)).unwrap();

    let run = |target| checkout.succeeds(checkout.make(target).env("PATH", &bin)).stdout;
    let listed = run("help");
    assert!(listed.contains("Build files have been written"), "{listed}");
    for target in [TARGET, "ark-extract-catalog-video-docker-image", "ark-docker", "test"] {
        assert!(listed.contains(&format!("... {target}\n")), "{target}: {listed}");
    }
    assert!(checkout.example("build/Makefile").is_file());
    let built = fs::read_to_string(sandbox.path("cargo")).unwrap();
    assert!(built.starts_with("build ") && built.contains("-p ark-container-cli"), "{built}");

    let again = run("help");
    assert!(!again.contains("Build files have been written"), "{again}");
}
