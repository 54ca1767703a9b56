//! What the program is to do it with: flag, then environment, then configuration file, then default.

mod ecr;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ark_container_core::Error;
use ark_container_core::model::{OrganizationId, ParseError, RegistryLocation};
use clap::ValueEnum as _;
use etcetera::BaseStrategy as _;
use serde::Deserialize;

use crate::args::{GlobalOptions, PROGRAM};
use crate::failure::{Failure, Kind};
use crate::output::Format;

pub(crate) use ecr::EcrSettings;

/// The configuration file below `$XDG_CONFIG_HOME`.
const FILE: &str = "ark/container.toml";
const REGISTRY_VARIABLE: &str = "ARK_REGISTRY";
const ORGANIZATION_VARIABLE: &str = "ARK_ORGANIZATION";
const OUTPUT_VARIABLE: &str = "ARK_OUTPUT";
const MEMBERSHIPS_VARIABLE: &str = "ARK_MEMBERSHIPS";

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The environment, or what a test puts in its place.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) registry: RegistryLocation,
    pub(crate) registry_origin: Origin,
    pub(crate) format: Format,
    /// `None` for the one of the registry's folder, if it has one.
    pub(crate) memberships: Option<PathBuf>,
    pub(crate) ecr: EcrSettings,
    organization_variable: Option<String>,
    organization_in_file: Option<OrganizationId>,
}

impl Settings {
    /// Gathers the settings.
    ///
    /// # Errors
    /// A usage failure that names the variable or file if a setting is not valid.
    pub(crate) fn resolve(
        options: &GlobalOptions,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let (file, path) = File::read(environment)?;
        let flag = options.registry.clone().map(|text| (text, Origin::Flag("--registry")));
        let given = match flag {
            Some(flag) => Some(flag),
            None => variable(REGISTRY_VARIABLE, environment)?
                .map(|text| (text, Origin::Environment(REGISTRY_VARIABLE))),
        };
        let ecr = EcrSettings::resolve(options, environment, file.ecr)?;
        let (registry, registry_origin) = match (given, file.registry) {
            (Some((text, origin)), _) => (parsed(&text, &origin)?, origin),
            (None, Some(registry)) => (registry, Origin::File(path)),
            (None, None) => (RegistryLocation::Local { directory: None }, Origin::Default),
        };
        ecr::check_options(options, &registry)?;
        let output = variable(OUTPUT_VARIABLE, environment)?.map(|text| {
            Format::from_str(&text, false).map_err(|_| {
                let problem = format!("{text:?} is neither table nor json");
                Failure::usage(problem).within(OUTPUT_VARIABLE)
            })
        });
        let memberships = || environment(MEMBERSHIPS_VARIABLE).filter(|value| !value.is_empty());
        Ok(Self {
            registry,
            registry_origin,
            format: options.output.or(output.transpose()?).or(file.output).unwrap_or_default(),
            memberships: options
                .memberships
                .clone()
                .or_else(|| memberships().map(PathBuf::from))
                .or(file.memberships),
            ecr,
            organization_variable: variable(ORGANIZATION_VARIABLE, environment)?,
            organization_in_file: file.organization,
        })
    }

    /// The organization that the flag, the environment or the configuration file names.
    ///
    /// # Errors
    /// A usage failure that names the variable if it is not a GUID.
    pub(crate) fn organization(
        &self,
        flag: Option<&str>,
    ) -> Result<Option<OrganizationId>, Failure> {
        let variable = self.organization_variable.as_deref();
        match (flag, variable) {
            (Some(text), _) => parsed(text, &Origin::Flag("--organization")).map(Some),
            (None, Some(text)) => {
                parsed(text, &Origin::Environment(ORGANIZATION_VARIABLE)).map(Some)
            }
            (None, None) => Ok(self.organization_in_file),
        }
    }
}

/// The configuration file; every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    registry: Option<RegistryLocation>,
    organization: Option<OrganizationId>,
    output: Option<Format>,
    memberships: Option<PathBuf>,
    #[serde(default)]
    ecr: ecr::Table,
}

impl File {
    fn read(environment: Environment<'_>) -> Result<(Self, PathBuf), Failure> {
        let Some(path) = File::path(environment) else {
            return Ok((Self::default(), PathBuf::new()));
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Self::default(), path));
            }
            Err(error) => {
                return Err(Failure::io(format!("cannot read {}", path.display()), &error));
            }
        };
        let file: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let (line, column) = line_and_column(&text, start);
            let place = format!("{}:{line}:{column}", path.display());
            Failure::usage(format!("{place}: {}", error.message()))
        })?;
        Ok((file.relative_to(&path), path))
    }

    fn path(environment: Environment<'_>) -> Option<PathBuf> {
        // By the XDG specification a relative path is to be ignored.
        let configured = environment("XDG_CONFIG_HOME").map(PathBuf::from);
        let folder = configured
            .filter(|path| path.is_absolute())
            .or_else(|| Some(etcetera::base_strategy::Xdg::new().ok()?.config_dir()));
        folder.map(|folder| folder.join(FILE))
    }

    /// Relative paths in the file are relative to the file, not to wherever the program is run.
    fn relative_to(mut self, path: &Path) -> Self {
        let folder = path.parent().unwrap_or(path);
        if let Some(RegistryLocation::Local { directory: Some(directory) }) = &mut self.registry {
            *directory = folder.join(&*directory);
        }
        self.memberships = self.memberships.map(|memberships| folder.join(memberships));
        self
    }
}

/// An environment variable; an empty one is as good as none, since many build systems cannot unset.
pub(crate) fn variable(
    name: &str,
    environment: Environment<'_>,
) -> Result<Option<String>, Failure> {
    match environment(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Failure::usage(format!("{name} is not UTF-8"))),
    }
}

fn parsed<T: FromStr<Err = ParseError>>(text: &str, origin: &Origin) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::from(Error::Parse(error)).within(origin))
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// That an operation needs an organization and nothing names one.
pub(crate) fn missing_organization() -> Failure {
    Failure::new(Kind::Usage, "no organization is given").with_help(format!(
        "give --organization GUID, or set it once: export ARK_ORGANIZATION=GUID\n\
         {PROGRAM} --whoami shows your organizations"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> GlobalOptions {
        GlobalOptions {
            registry: None,
            output: None,
            quiet: false,
            verbose: false,
            memberships: None,
            profile: None,
            region: None,
        }
    }

    #[test]
    fn the_strongest_origin_wins() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("ark")).unwrap();
        let path = home.path().join(FILE);
        std::fs::write(&path, "registry = 'local:file'\nmemberships = 'm.toml'\n").unwrap();
        let environment = |with: bool| {
            let home = home.path().as_os_str().to_owned();
            move |name: &str| match name {
                "XDG_CONFIG_HOME" => Some(home.clone()),
                "ARK_REGISTRY" if with => Some("local:/env".into()),
                _ => Some(OsString::new()),
            }
        };
        let flag = GlobalOptions { registry: Some("local:/flag".to_owned()), ..options() };
        let registry = |options: &GlobalOptions, with| {
            let settings = Settings::resolve(options, &environment(with)).unwrap();
            (settings.registry.to_string(), settings.registry_origin)
        };
        assert_eq!(registry(&flag, true), ("local:/flag".into(), Origin::Flag("--registry")));
        let environment_wins = ("local:/env".into(), Origin::Environment("ARK_REGISTRY"));
        assert_eq!(registry(&options(), true), environment_wins);
        let from_file = format!("local:{}", home.path().join("ark/file").display());
        assert_eq!(registry(&options(), false), (from_file, Origin::File(path.clone())));
        let settings = Settings::resolve(&options(), &environment(false)).unwrap();
        assert_eq!(settings.memberships, Some(home.path().join("ark/m.toml")));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(registry(&options(), false), ("local:".into(), Origin::Default));
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(line_and_column("a\né = x", "a\né = ".len()), (2, 5));
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("a", 9), (1, 2));
    }
}
