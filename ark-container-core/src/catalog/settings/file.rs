//! The configuration file.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::Deserialize;

use super::{Environment, ecr, identity};
use crate::error::{Error, Result};
use crate::model::{OrganizationId, RegistryLocation};

/// Where it is, below `$XDG_CONFIG_HOME`.
pub(super) const FILE: &str = "ark/container.toml";

/// What it says; every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) registry: Option<RegistryLocation>,
    #[serde(default)]
    pub(super) registries: Vec<RegistryLocation>,
    pub(super) organization: Option<OrganizationId>,
    pub(super) output: Option<String>,
    pub(super) memberships: Option<PathBuf>,
    pub(super) audit_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) identity: identity::Table,
    #[serde(default)]
    pub(super) ecr: ecr::Table,
}

impl File {
    /// Reads it, if there is one, and says where it is or would be.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with line and column if it is not as it should be; [`Error::Failed`] if it
    /// cannot be read.
    pub(super) fn read(environment: Environment<'_>) -> Result<(Self, PathBuf)> {
        let Some(path) = path(environment) else {
            return Ok((Self::default(), PathBuf::new()));
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Self::default(), path));
            }
            Err(error) => {
                return Err(
                    Error::failed(format!("cannot read {}", path.display())).with_source(error)
                );
            }
        };
        let file: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let (line, column) = line_and_column(&text, start);
            let place = format!("{}:{line}:{column}", path.display());
            Error::invalid(error.message()).within(place)
        })?;
        Ok((file.relative_to(&path), path))
    }

    /// Relative paths in the file are relative to the file, not to wherever the program is run.
    fn relative_to(mut self, path: &Path) -> Self {
        let folder = path.parent().unwrap_or(path);
        for registry in self.registry.iter_mut().chain(&mut self.registries) {
            if let RegistryLocation::Local { directory: Some(directory) } = registry {
                *directory = folder.join(&*directory);
            }
        }
        self.memberships = self.memberships.map(|memberships| folder.join(memberships));
        self.audit_file = self.audit_file.map(|audit| folder.join(audit));
        self.identity = self.identity.relative_to(folder);
        self.ecr = self.ecr.relative_to(folder);
        self
    }
}

fn path(environment: Environment<'_>) -> Option<PathBuf> {
    // By the XDG specification a relative path is to be ignored.
    let configured = environment("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = configured
        .filter(|path| path.is_absolute())
        .or_else(|| Some(etcetera::base_strategy::Xdg::new().ok()?.config_dir()));
    folder.map(|folder| folder.join(FILE))
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        assert_eq!(line_and_column("a\né = x", "a\né = ".len()), (2, 5));
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("a", 9), (1, 2));
    }
}
