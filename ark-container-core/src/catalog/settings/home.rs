//! [`expand_home`]: expands `~` in paths that no shell has expanded.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::RegistryLocation;

/// Replaces a leading `~` of the path by the home folder of the user.
///
/// Shells expand `~` at the start of a word only, and not in `--option=~/folder` or `local:~/folder`.
///
/// # Errors
/// [`Error::InvalidInput`] if the path starts with `~user`, or the user has no home folder.
///
/// ```
/// use std::path::PathBuf;
///
/// use ark_container_core::catalog::expand_home;
///
/// assert_eq!(expand_home("/srv/~".into())?, PathBuf::from("/srv/~"));
/// assert!(expand_home("~/registry".into())?.is_absolute());
/// assert!(expand_home("~alice/registry".into()).is_err());
/// # Ok::<(), ark_container_core::Error>(())
/// ```
pub fn expand_home(path: PathBuf) -> Result<PathBuf> {
    if !path.as_os_str().as_encoded_bytes().starts_with(b"~") {
        return Ok(path);
    }
    let shown = path.display();
    let Ok(below) = path.strip_prefix("~") else {
        return Err(Error::invalid(format!(
            "{shown}: only ~ and ~/… are expanded to your home folder"
        ))
        .with_help("use an absolute path; if ~ is part of the name, put ./ before it"));
    };
    let home = etcetera::home_dir();
    let home = home.map_err(|error| {
        Error::invalid(format!("{shown}: there is no home folder")).with_source(error)
    })?;
    Ok(home.components().chain(below.components()).collect())
}

/// Resolves a path of the configuration file against the folder of the file.
pub(super) fn in_folder(folder: &Path, path: PathBuf) -> Result<PathBuf> {
    Ok(folder.join(expand_home(path)?))
}

/// Returns the location with its folder expanded by `expand`.
pub(super) fn with_directory(
    location: RegistryLocation,
    expand: impl FnOnce(PathBuf) -> Result<PathBuf>,
) -> Result<RegistryLocation> {
    match location {
        RegistryLocation::Local { directory: Some(directory) } => {
            Ok(RegistryLocation::Local { directory: Some(expand(directory)?) })
        }
        elsewhere => Ok(elsewhere),
    }
}
