//! `--cmake-dir`: prints the folder of the CMake module ArkDocker, which is part of this program.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use ark_container_core::{OutputFile, create_trusted_folder};
use etcetera::BaseStrategy as _;

use crate::context::Context;
use crate::failure::{Failure, Kind, Stop};

const EXAMPLES: &str = "\
Examples:
  cmake -B build -DArkDocker_DIR=\"$(ark-catalog-container-tool --cmake-dir)\"

With find_package(ArkDocker REQUIRED) in CMakeLists.txt, ark_add_docker(…) then defines targets
that build an image and push it with this program.";

/// Files of the module. The file that find_package looks for is last: if it exists, so do the others.
const MODULE: [(&str, &str); 11] = [
    ("ArkDocker.cmake", include_str!("../../cmake/ArkDocker.cmake")),
    ("ArkDockerArguments.cmake", include_str!("../../cmake/ArkDockerArguments.cmake")),
    ("ArkDockerBuilders.cmake", include_str!("../../cmake/ArkDockerBuilders.cmake")),
    ("ArkDockerCommit.cmake", include_str!("../../cmake/ArkDockerCommit.cmake")),
    ("ArkDockerContext.cmake", include_str!("../../cmake/ArkDockerContext.cmake")),
    ("ArkDockerImage.cmake", include_str!("../../cmake/ArkDockerImage.cmake")),
    ("ArkDockerPush.cmake", include_str!("../../cmake/ArkDockerPush.cmake")),
    ("ArkDockerScript.cmake", include_str!("../../cmake/ArkDockerScript.cmake")),
    ("ArkDockerSurroundings.cmake", include_str!("../../cmake/ArkDockerSurroundings.cmake")),
    ("ArkDockerConfigVersion.cmake", include_str!("../../cmake/ArkDockerConfigVersion.cmake")),
    (CONFIG, include_str!("../../cmake/ArkDockerConfig.cmake")),
];

/// File that find_package looks for.
const CONFIG: &str = "ArkDockerConfig.cmake";

/// File with the path of the program that wrote the module.
const TOOL: &str = "ArkDockerTool.cmake";

/// Folders in which packages install modules, below the parent of `bin`.
const INSTALLED: [&str; 2] = ["lib/cmake/ArkDocker", "share/cmake/ArkDocker"];

/// Print the folder of the CMake module ArkDocker, for -DArkDocker_DIR
///
/// The module builds images and pushes them with this program. The program contains the module, and writes
/// the module below $XDG_DATA_HOME unless a package installed it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args, context: &Context) -> Result<(), Stop> {
    let program = env::current_exe()
        .map_err(|error| Failure::io("cannot find the path of this program", &error))?;
    let directory = match installed_beside(&program) {
        Some(directory) => directory,
        None => unpacked(&program)?,
    };
    let record = serde_json::json!({ "directory": directory });
    context.output.result(&directory.display().to_string(), &record)
}

/// Returns the folder of the module that was installed with the program.
fn installed_beside(program: &Path) -> Option<PathBuf> {
    let prefix = program.parent()?.parent()?;
    let mut folders = INSTALLED.iter().map(|folder| prefix.join(folder));
    folders.find(|folder| folder.join(CONFIG).is_file())
}

/// Writes the module to a folder of the user unless it exists, and returns the folder.
fn unpacked(program: &Path) -> Result<PathBuf, Failure> {
    let folders = etcetera::base_strategy::Xdg::new().map_err(|_| {
        Failure::new(
            Kind::Other,
            "there is no folder for the CMake module: the home folder is not set",
        )
        .with_help("set it: export HOME=DIR")
    })?;
    let tool = format!("set(_ark_docker_tool [=====[{}]=====])\n", program.display());
    let files = || std::iter::once((TOOL, tool.as_str())).chain(MODULE);
    // Build folders refer to this folder, so another module or program needs another folder.
    let mut hasher = DefaultHasher::new();
    files().for_each(|file| file.hash(&mut hasher));
    let name = format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish());
    let directory = folders.data_dir().join("ark/cmake").join(name);
    unpack(&directory, files()).map_err(|error| {
        Failure::from(error).or_help("choose a folder that you own: export XDG_DATA_HOME=DIR")
    })?;
    Ok(directory)
}

/// Writes the files to a folder that no other user can change: CMake runs them.
fn unpack<'a>(
    directory: &Path,
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> ark_container_core::Result<()> {
    create_trusted_folder(directory)?;
    for (name, content) in files {
        let path = directory.join(name);
        // A newer file would cause CMake to configure build folders again.
        if !fs::read(&path).is_ok_and(|there| there == content.as_bytes()) {
            OutputFile::create(&path)?.publish(content.as_bytes())?;
        }
    }
    Ok(())
}
