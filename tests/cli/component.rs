//! The real tools that the suites start, and what to type where one is missing.

use std::env;
use std::process::Command;

/// Each tool with the Debian package that brings it.
const PACKAGES: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("cat", "coreutils"),
    ("cmake", "cmake"),
    ("curl", "curl"),
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("fish", "fish"),
    ("groff", "groff-base"),
    ("git", "git"),
    ("jq", "jq"),
    ("make", "make"),
    ("man", "man-db"),
    ("mandoc", "mandoc"),
    ("ninja", "ninja-build"),
    ("podman", "podman"),
    ("script", "bsdutils"),
    ("sha256sum", "coreutils"),
    ("skopeo", "skopeo"),
    ("tar", "tar"),
    ("zsh", "zsh"),
];

/// A command that starts the tool. A test whose tool is missing fails: skipped, it would show nothing.
pub(crate) fn component(name: &str) -> Command {
    let (_, package) = PACKAGES.iter().find(|(tool, _)| *tool == name).unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let is_here = env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(is_here, "{name} is missing; install it: apt-get install -y {package}");
    Command::new(name)
}
