//! What the program is to do it with: flag, then environment, then configuration file, then default.

mod ecr;
mod file;
mod identity;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ark_container_core::Error;
use ark_container_core::model::{OrganizationId, ParseError, RegistryLocation};
use clap::ValueEnum as _;

use crate::args::{GlobalOptions, PROGRAM};
use crate::failure::{Failure, Kind};
use crate::output::Format;

pub(crate) use ecr::EcrSettings;
use file::File;
pub(crate) use identity::{
    Claims, IdentitySettings, KeySetLocation, PRINCIPAL_VARIABLE, Verification,
};

const REGISTRY_VARIABLE: &str = "ARK_REGISTRY";
const ORGANIZATION_VARIABLE: &str = "ARK_ORGANIZATION";
const OUTPUT_VARIABLE: &str = "ARK_OUTPUT";
const MEMBERSHIPS_VARIABLE: &str = "ARK_MEMBERSHIPS";
const AUDIT_FILE_VARIABLE: &str = "ARK_AUDIT_FILE";

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
    /// The registries that clients log in to by themselves, besides `registry`.
    pub(crate) further_registries: Vec<RegistryLocation>,
    pub(crate) format: Format,
    /// `None` for the one of the registry's folder, if it has one.
    pub(crate) memberships: Option<PathBuf>,
    /// Where decisions and changes are recorded, if anywhere.
    pub(crate) audit_file: Option<PathBuf>,
    pub(crate) identity: IdentitySettings,
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
        let ecr = EcrSettings::resolve(options, environment, file.ecr, &path)?;
        let identity = IdentitySettings::resolve(environment, file.identity, &path)?;
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
        Ok(Self {
            registry,
            registry_origin,
            further_registries: file.registries,
            format: options.output.or(output.transpose()?).or(file.output).unwrap_or_default(),
            memberships: options
                .memberships
                .clone()
                .or_else(|| path_variable(MEMBERSHIPS_VARIABLE, environment))
                .or(file.memberships),
            audit_file: path_variable(AUDIT_FILE_VARIABLE, environment).or(file.audit_file),
            identity,
            ecr,
            organization_variable: variable(ORGANIZATION_VARIABLE, environment)?,
            organization_in_file: file.organization,
        })
    }

    /// The same settings for another registry.
    pub(crate) fn for_registry(self, registry: RegistryLocation) -> Self {
        Self { registry, ..self }
    }

    /// The registries that clients log in to by themselves.
    pub(crate) fn registries(&self) -> impl Iterator<Item = &RegistryLocation> {
        std::iter::once(&self.registry).chain(&self.further_registries)
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

/// The same for a path, which need not be text.
fn path_variable(name: &str, environment: Environment<'_>) -> Option<PathBuf> {
    environment(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn parsed<T: FromStr<Err = ParseError>>(text: &str, origin: &Origin) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::from(Error::Parse(error)).within(origin))
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
    use super::file::FILE;
    use super::*;

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
        let flag =
            GlobalOptions { registry: Some("local:/flag".to_owned()), ..GlobalOptions::default() };
        let registry = |options: &GlobalOptions, with| {
            let settings = Settings::resolve(options, &environment(with)).unwrap();
            (settings.registry.to_string(), settings.registry_origin)
        };
        assert_eq!(registry(&flag, true), ("local:/flag".into(), Origin::Flag("--registry")));
        let environment_wins = ("local:/env".into(), Origin::Environment("ARK_REGISTRY"));
        assert_eq!(registry(&GlobalOptions::default(), true), environment_wins);
        let from_file = format!("local:{}", home.path().join("ark/file").display());
        assert_eq!(
            registry(&GlobalOptions::default(), false),
            (from_file, Origin::File(path.clone()))
        );
        let settings = Settings::resolve(&GlobalOptions::default(), &environment(false)).unwrap();
        assert_eq!(settings.memberships, Some(home.path().join("ark/m.toml")));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(registry(&GlobalOptions::default(), false), ("local:".into(), Origin::Default));
    }
}
