//! What is installed, and what a package holds. The packages themselves take a release build:
//! `ark-container-cli/package/release.sh` makes them, and the release's workflow runs it.

mod crates;
mod debian;
mod workflows;

use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
