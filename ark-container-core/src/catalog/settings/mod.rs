//! The settings of a catalog, from the program, the environment, the configuration file and the defaults,
//! in this order of precedence.

mod ecr;
mod file;
mod home;
mod identity;
#[cfg(any(feature = "ecr", feature = "push"))]
mod notes;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::identity::ChosenIdentity;
use crate::error::{Error, Result};
use crate::model::{AdditionalAction, OrganizationId, ParseError, RegistryLocation, RoleArn};

pub(super) use ecr::EcrSettings;
use file::File;
pub use file::configured_output;
pub use home::expand_home;
use home::with_directory;
#[cfg(feature = "token")]
pub(super) use identity::{Claims, KeySetLocation, Verification};
pub(super) use identity::{IdentitySettings, PRINCIPAL_VARIABLE};
#[cfg(any(feature = "ecr", feature = "push"))]
pub use notes::print_once;

const REGISTRY_VARIABLE: &str = "ARK_REGISTRY";
const ORGANIZATION_VARIABLE: &str = "ARK_ORGANIZATION";
const MEMBERSHIPS_VARIABLE: &str = "ARK_MEMBERSHIPS";
const AUDIT_FILE_VARIABLE: &str = "ARK_AUDIT_FILE";

/// The origin of a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The program, in its code.
    #[default]
    Program,
    /// A command-line option of the program, such as `--registry`.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("the program"),
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The environment, or a replacement in tests.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The settings of the program, which take precedence over all others.
#[derive(Debug, Clone, Default)]
pub(super) struct ProgramSettings {
    /// The origin of the next setting of the program.
    pub(in crate::catalog) origin: Origin,
    /// The registry location and its origin.
    pub(in crate::catalog) registry: Option<(RegistryLocation, Origin)>,
    /// The organization of names without an organization.
    pub(in crate::catalog) organization: Option<OrganizationId>,
    /// The memberships file.
    pub(in crate::catalog) memberships: Option<PathBuf>,
    /// The audit file.
    pub(in crate::catalog) audit_file: Option<PathBuf>,
    /// The file with the token of the caller.
    pub(in crate::catalog) token_file: Option<PathBuf>,
    /// The profile of the AWS configuration and its origin.
    pub(in crate::catalog) profile: Option<(String, Origin)>,
    /// The role for narrowed AWS credentials.
    pub(in crate::catalog) role_arn: Option<RoleArn>,
    /// The role in which a caller with a token administers.
    pub(in crate::catalog) administrator_role_arn: Option<RoleArn>,
    /// Whether a request for credentials fails if they cannot be narrowed.
    pub(in crate::catalog) require_scoped: Option<bool>,
    /// Whether the program provides AWS credentials, in a configuration of the AWS SDK.
    pub(in crate::catalog) brings_aws_credentials: bool,
}

/// The effective settings of a [`CatalogBuilder`](super::CatalogBuilder), and their origins.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether the environment and the configuration file were read.
    pub(in crate::catalog) reads_environment: bool,
    /// The registry location.
    registry: RegistryLocation,
    /// The origin of the registry location.
    registry_origin: Origin,
    /// Additional registries to which clients log in automatically.
    further_registries: Vec<RegistryLocation>,
    /// The path of the configuration file; empty if there is no folder for one.
    configuration_file: PathBuf,
    /// The output format of the command line and its origin.
    output: Option<(String, Origin)>,
    /// The memberships file; `None` for the one in the registry's folder, if it exists.
    memberships: Option<PathBuf>,
    /// The audit file, if one is set.
    audit_file: Option<PathBuf>,
    /// The settings of the caller's identity.
    pub(in crate::catalog) identity: IdentitySettings,
    /// The settings of calls to AWS.
    pub(in crate::catalog) ecr: EcrSettings,
    organization: Option<OrganizationId>,
    organization_variable: Option<String>,
}

impl Settings {
    /// Collects the settings of the program, of `environment`, and of the configuration file that it
    /// selects, `$XDG_CONFIG_HOME/ark/container.toml`.
    ///
    /// # Errors
    /// [`Error::Setting`] with the variable or the file if a setting is invalid.
    pub(super) fn read(given: &ProgramSettings, environment: Environment<'_>) -> Result<Self> {
        let (file, path) = File::read(environment)?;
        Ok(Self { reads_environment: true, ..Self::gather(given, environment, file, path)? })
    }

    /// Collects the settings of the program and the defaults. Reads neither the environment nor a file.
    pub(super) fn without_environment(given: &ProgramSettings) -> Result<Self> {
        Self::gather(given, &|_| None, File::default(), PathBuf::new())
    }

    fn gather(
        given: &ProgramSettings,
        environment: Environment<'_>,
        file: File,
        path: PathBuf,
    ) -> Result<Self> {
        let variable = |name| variable(name, environment);
        let chosen = match &given.registry {
            Some(given) => Some(given.clone()),
            None => registry_in(variable(REGISTRY_VARIABLE)?)?,
        };
        let (registry, registry_origin) = match (chosen, &file.registry) {
            (Some(chosen), _) => chosen,
            (None, Some(registry)) => (registry.clone(), Origin::File(path.clone())),
            (None, None) => (RegistryLocation::Local { directory: None }, Origin::Default),
        };
        let registry = with_directory(registry, expand_home)
            .map_err(|error| error.within(&registry_origin))?;
        let own = file.table_of(&registry);
        let ecr = EcrSettings::resolve(given, environment, file.ecr, own, &path)?;
        let identity = IdentitySettings::resolve(given, environment, file.identity, &path)?;
        let chosen = |given: &Option<PathBuf>, name, in_file: Option<PathBuf>| match given {
            Some(path) => expand_home(path.clone()).map(Some),
            None => Ok(path_variable(name, environment)?.or(in_file)),
        };
        Ok(Self {
            reads_environment: false,
            registry,
            registry_origin,
            further_registries: { file.registries.into_iter() }
                .map(|further| further.location)
                .collect(),
            output: file.output.map(|text| (text, Origin::File(path.clone()))),
            configuration_file: path,
            memberships: chosen(&given.memberships, MEMBERSHIPS_VARIABLE, file.memberships)?,
            audit_file: chosen(&given.audit_file, AUDIT_FILE_VARIABLE, file.audit_file)?,
            identity,
            ecr,
            organization_variable: match given.organization {
                Some(_) => None,
                None => variable(ORGANIZATION_VARIABLE)?,
            },
            organization: given.organization.or(file.organization),
        })
    }

    /// Returns the registry location.
    pub fn registry(&self) -> &RegistryLocation {
        &self.registry
    }

    /// Returns the origin of the registry location.
    pub fn registry_origin(&self) -> &Origin {
        &self.registry_origin
    }

    /// Returns the registries to which clients log in automatically.
    pub fn registries(&self) -> impl Iterator<Item = &RegistryLocation> {
        std::iter::once(&self.registry).chain(&self.further_registries)
    }

    /// Returns the path of the configuration file, which may not exist.
    pub fn configuration_file(&self) -> &Path {
        &self.configuration_file
    }

    /// Returns the output format of the configuration file, and its origin.
    pub fn output(&self) -> Option<(&str, &Origin)> {
        self.output.as_ref().map(|(format, origin)| (format.as_str(), origin))
    }

    /// Returns the memberships file of the settings. The default of a local registry is the file in its folder.
    pub fn memberships(&self) -> Option<&Path> {
        self.memberships.as_deref()
    }

    /// Returns the audit file.
    pub fn audit_file(&self) -> Option<&Path> {
        self.audit_file.as_deref()
    }

    /// Returns the role for narrowed AWS credentials.
    pub fn role_arn(&self) -> Option<&RoleArn> {
        self.ecr.role_arn.as_ref()
    }

    /// Returns the file with the policy of new repositories on AWS.
    pub fn repository_policy(&self) -> Option<&Path> {
        self.ecr.repository_policy.as_deref()
    }

    /// Returns the actions that a push on AWS needs in addition to ECR actions.
    pub fn additional_actions(&self) -> &[AdditionalAction] {
        &self.ecr.additional_actions
    }

    /// Returns the issuer that tokens must have.
    pub fn token_issuer(&self) -> Option<&str> {
        self.identity.verification.as_ref()?.issuer.as_deref()
    }

    /// Returns the audience that tokens must have.
    pub fn token_audience(&self) -> Option<&str> {
        Some(&self.identity.verification.as_ref()?.audience)
    }

    /// Returns the identity that the settings select. Reads no token.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting conflicts with the registry.
    pub fn identity(&self) -> Result<ChosenIdentity> {
        ChosenIdentity::choose(self)
    }

    /// Returns the organization of names without an organization, if one is set.
    ///
    /// # Errors
    /// [`Error::Setting`] with the variable if its value is not a GUID.
    pub fn organization(&self) -> Result<Option<OrganizationId>> {
        match &self.organization_variable {
            Some(text) => parsed(text, &Origin::Environment(ORGANIZATION_VARIABLE)).map(Some),
            None => Ok(self.organization),
        }
    }
}

fn registry_in(variable: Option<String>) -> Result<Option<(RegistryLocation, Origin)>> {
    let origin = Origin::Environment(REGISTRY_VARIABLE);
    let registry = variable.map(|text| parsed(&text, &origin)).transpose()?;
    Ok(registry.map(|registry| (registry, origin)))
}

/// Returns an environment variable. An empty variable is ignored, because many build systems cannot unset one.
fn variable(name: &str, environment: Environment<'_>) -> Result<Option<String>> {
    match environment(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Error::invalid(format!("{name} is not UTF-8"))),
    }
}

/// Returns an environment variable with a path, which may be other than UTF-8.
fn path_variable(name: &str, environment: Environment<'_>) -> Result<Option<PathBuf>> {
    let path = environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path.map(expand_home).transpose().map_err(|error| error.within(name))
}

fn parsed<T: FromStr<Err = ParseError>>(text: &str, origin: &Origin) -> Result<T> {
    text.parse().map_err(|error| Error::from(error).within(origin))
}

#[cfg(test)]
mod tests {
    use super::file::FILE;
    use super::*;

    #[test]
    fn setting_origins_have_precedence() {
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
        let flag = Origin::Flag("--registry");
        let typed = ProgramSettings {
            registry: Some(("local:/flag".parse().unwrap(), flag.clone())),
            ..ProgramSettings::default()
        };
        let registry = |given: &ProgramSettings, with| {
            let settings = Settings::read(given, &environment(with)).unwrap();
            (settings.registry.to_string(), settings.registry_origin)
        };
        assert_eq!(registry(&typed, true), ("local:/flag".into(), flag));
        let environment_wins = ("local:/env".into(), Origin::Environment("ARK_REGISTRY"));
        assert_eq!(registry(&ProgramSettings::default(), true), environment_wins);
        let from_file = format!("local:{}", home.path().join("ark/file").display());
        assert_eq!(
            registry(&ProgramSettings::default(), false),
            (from_file, Origin::File(path.clone()))
        );
        let settings = Settings::read(&ProgramSettings::default(), &environment(false)).unwrap();
        assert_eq!(settings.memberships, Some(home.path().join("ark/m.toml")));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            registry(&ProgramSettings::default(), false),
            ("local:".into(), Origin::Default)
        );
    }

    #[test]
    fn registry_table_replaces_ecr_table() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("ark")).unwrap();
        let text = "[ecr]\nprofile = 'a'\nrequire_scoped = true\nexternal_id = 'a'\n\
             [[registries]]\nlocation = 'ecr://111122223333.dkr.ecr.us-east-1.amazonaws.com/dev'\n\
             ecr.profile = 'b'\necr.repository_policy = 'b.json'\n";
        std::fs::write(home.path().join(FILE), text).unwrap();
        let environment = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some(home.path().as_os_str().to_owned()),
            "ARK_ROLE_ARN" => Some("arn:aws:iam::095412845506:role/a".into()),
            _ => None,
        };
        let ecr = |account: &str| {
            let location = format!("ecr://{account}.dkr.ecr.us-east-1.amazonaws.com/prod");
            let registry = Some((location.parse().unwrap(), Origin::Program));
            Settings::read(
                &ProgramSettings { registry, ..ProgramSettings::default() },
                &environment,
            )
            .unwrap()
            .ecr
        };
        let (all, own) = (ecr("095412845506"), ecr("111122223333"));
        assert_eq!((all.profile.as_deref(), own.profile.as_deref()), (Some("a"), Some("b")));
        assert_eq!((all.role_arn.is_some(), own.role_arn), (true, None));
        assert_eq!((all.external_id.as_deref(), own.external_id), (Some("a"), None));
        assert!(all.require_scoped && own.require_scoped);
        assert_eq!(own.repository_policy, Some(home.path().join("ark/b.json")));
    }

    #[test]
    fn setting_error_is_one_sentence_or_its_parts() {
        let environment = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some("/nowhere".into()),
            "ARK_KEY_SET" => Some("/keys".into()),
            _ => None,
        };
        let refused = || Settings::read(&ProgramSettings::default(), &environment).unwrap_err();
        let Error::Setting(invalid) = refused() else { panic!("{}", refused()) };
        assert_eq!(invalid.origin(), Some("ARK_KEY_SET"));
        let (error, help) = (invalid.error(), invalid.help().unwrap());
        assert_eq!(refused().to_string(), format!("ARK_KEY_SET: {error}; {help}"));
        assert!(help.contains("ARK_JWT_AUDIENCE"), "{help}");
    }
}
