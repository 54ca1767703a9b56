//! docker's configuration file, as commands find and read it.

use std::path::{Path, PathBuf};

use ark_container_core::Error;
use ark_container_core::credentials::DockerConfig;

use crate::failure::{Failure, Kind};
use crate::hint::quoted;

/// The environment variable that names the folder.
pub(crate) const FOLDER_VARIABLE: &str = "DOCKER_CONFIG";

/// The folder that docker uses: `$DOCKER_CONFIG`, or `~/.docker`.
pub(crate) fn user_folder() -> Result<PathBuf, Failure> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    let home = etcetera::home_dir().map_err(|_| {
        Failure::new(Kind::Other, "there is no home folder, so no docker configuration in it")
            .with_help(format!("name the folder: export {FOLDER_VARIABLE}=DIR"))
    })?;
    Ok(home.join(".docker"))
}

/// Reads the file in a folder.
pub(crate) fn read(folder: &Path) -> Result<DockerConfig, Failure> {
    DockerConfig::read(folder).map_err(|error| failure(folder, error))
}

/// The failure of a change to the file, with what to do about an invalid one.
pub(crate) fn failure(folder: &Path, error: Error) -> Failure {
    match error {
        Error::InvalidInput { message, .. } => {
            let path = folder.join("config.json").display().to_string();
            let (from, to) = (quoted(&path), quoted(&format!("{path}.bad")));
            Failure::new(Kind::Other, message)
                .with_help(format!("correct it, or move it away: mv {from} {to}"))
        }
        error @ Error::Conflict { .. } => Failure::from(error)
            .with_help("name another folder, such as one that is yet to be made"),
        error => error.into(),
    }
}
