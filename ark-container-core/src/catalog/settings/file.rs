//! The configuration file and its parser.

use std::fmt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::home::{in_folder, with_directory};
use super::{Environment, ecr, identity};
use crate::encoding::{BYTE_ORDER_MARK, decode};
use crate::error::Error;
use crate::files::has_name;
use crate::files::trusted::read_trusted;
use crate::model::{EcrHost, OrganizationId, RegistryLocation};

/// The path of the file below `$XDG_CONFIG_HOME`.
pub(super) const FILE: &str = "ark/container.toml";

/// The maximum size of the configuration file.
const MAX_BYTES: usize = 1024 * 1024;

/// The content of the file. Every key is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) registry: Option<RegistryLocation>,
    #[serde(default)]
    pub(super) registries: Vec<FurtherRegistry>,
    pub(super) organization: Option<OrganizationId>,
    pub(super) output: Option<String>,
    pub(super) memberships: Option<PathBuf>,
    pub(super) audit_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) identity: identity::Table,
    #[serde(default)]
    pub(super) ecr: ecr::Table,
}

/// A registry in `registries`: a location, or a table with the location and other settings.
#[derive(Debug, Clone)]
pub(super) struct FurtherRegistry {
    pub(super) location: RegistryLocation,
    /// Replaces the table `[ecr]`.
    pub(super) ecr: Option<ecr::Table>,
}

impl<'de> Deserialize<'de> for FurtherRegistry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            location: RegistryLocation,
            ecr: Option<ecr::Table>,
        }

        struct LocationOrTable;

        impl<'de> Visitor<'de> for LocationOrTable {
            type Value = FurtherRegistry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a registry location, or a table with a location")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let location = text.parse().map_err(E::custom)?;
                Ok(FurtherRegistry { location, ecr: None })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                let Table { location, ecr } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FurtherRegistry { location, ecr })
            }
        }

        deserializer.deserialize_any(LocationOrTable)
    }
}

impl File {
    /// Returns the registry's table, if there is one. Clients identify a registry by its host alone.
    pub(super) fn table_of(&self, registry: &RegistryLocation) -> Option<ecr::Table> {
        let RegistryLocation::Ecr { host, .. } = registry else { return None };
        let is_it = |further: &&FurtherRegistry| matches!(&further.location, RegistryLocation::Ecr { host: other, .. } if other == host);
        self.registries.iter().find(is_it)?.ecr.clone()
    }

    /// Returns a host with several entries of which one has settings. Clients identify a registry by its host alone.
    fn ambiguous_host(&self) -> Option<&EcrHost> {
        fn host(registry: &FurtherRegistry) -> Option<&EcrHost> {
            match &registry.location {
                RegistryLocation::Ecr { host, .. } => Some(host),
                _ => None,
            }
        }
        let entries = |wanted| self.registries.iter().filter(|it| host(it) == Some(wanted)).count();
        let with_settings = self.registries.iter().filter(|registry| registry.ecr.is_some());
        with_settings.filter_map(host).find(|host| entries(host) > 1)
    }

    /// Reads the file, if it exists, and returns its path.
    ///
    /// # Errors
    /// - [`Error::InvalidInput`] with line and column if the file is invalid, or if another user can write to it
    /// - [`Error::Failed`] if the file cannot be read
    pub(super) fn read(environment: Environment<'_>) -> crate::Result<(Self, PathBuf)> {
        let Some(path) = path(environment) else {
            return Ok((Self::default(), PathBuf::new()));
        };
        let Some(text) = read(&path)? else { return Ok((Self::default(), path)) };
        let file: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let (line, column) = line_and_column(&text, start);
            let place = format!("{}:{line}:{column}", path.display());
            Error::invalid(error.message()).within(place)
        })?;
        if let Some(host) = file.ambiguous_host() {
            let problem = format!("registries has several entries for {host}, one with settings");
            let error = Error::invalid(problem).within(path.display().to_string());
            return Err(error.with_help("write one entry for each host"));
        }
        let folder = path.parent().unwrap_or(&path);
        let file = file.relative_to(folder).map_err(|error| error.within(path.display()))?;
        Ok((file, path))
    }

    /// Resolves relative paths against the folder of the file, not the working directory.
    fn relative_to(mut self, folder: &Path) -> crate::Result<Self> {
        let below = |path| in_folder(folder, path);
        self.registry =
            self.registry.map(|registry| with_directory(registry, below)).transpose()?;
        for further in &mut self.registries {
            further.location = with_directory(further.location.clone(), below)?;
            further.ecr = further.ecr.take().map(|table| table.relative_to(folder)).transpose()?;
        }
        self.memberships = self.memberships.map(below).transpose()?;
        self.audit_file = self.audit_file.map(below).transpose()?;
        self.identity = self.identity.relative_to(folder)?;
        self.ecr = self.ecr.relative_to(folder)?;
        Ok(self)
    }
}

/// Returns the output format from the configuration file of the environment, even if other settings in the
/// file are invalid. The format is needed to print the errors of the file.
pub fn configured_output() -> Option<String> {
    let text = read(&path(&|name| std::env::var_os(name))?).ok()??;
    let table: toml::Table = match toml::from_str(&text) {
        Ok(table) => table,
        // Only the lines before the invalid one are parsed.
        Err(error) => {
            let before = text.get(..error.span()?.start)?;
            toml::from_str(&before[..before.rfind('\n')?]).ok()?
        }
    };
    Some(table.get("output")?.as_str()?.to_owned())
}

/// Reads the file at `path`, if there is one.
fn read(path: &Path) -> crate::Result<Option<String>> {
    // If the file does not exist, the owner of the folder does not matter.
    if !has_name(path) {
        return Ok(None);
    }
    let content = read_trusted(path, "configuration file", MAX_BYTES)?;
    // A TOML file may start with a byte order mark.
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
    let text = decode(content).map_err(|problem| {
        Error::invalid(format!("the configuration file is not TOML: {problem}"))
            .within(path.display())
    });
    Ok(Some(text?.to_owned()))
}

fn path(environment: Environment<'_>) -> Option<PathBuf> {
    // The XDG specification requires that a relative path is ignored.
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
