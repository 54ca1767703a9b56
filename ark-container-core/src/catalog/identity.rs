//! [`ChosenIdentity`]: the identity that the settings select, and the setting that selects it.

use std::path::{Path, PathBuf};

use super::settings::{Origin, PRINCIPAL_VARIABLE, Settings};
use crate::error::{Error, Result};
use crate::files::has_name;
use crate::model::RegistryLocation;

/// The help for a token without a role.
const TOKEN_ROLE_HINT: &str = "set the role to assume with your token: role_arn in the table \
    [ecr] of the configuration file, or ARK_ROLE_ARN";

/// The identity that the settings select, without reading a token or calling AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChosenIdentity {
    /// The principal of the token in a file.
    Token {
        /// The file.
        file: PathBuf,
        /// The origin of the setting.
        origin: Origin,
        /// Whether the settings name the file. If not, it is the default file of `ark-auth-tool`.
        is_named: bool,
    },
    /// The owner of the AWS credentials.
    AwsCaller {
        /// The origin of the credentials.
        origin: Origin,
    },
    /// The user of this process, or a principal from the settings.
    LocalUser {
        /// The principal from the settings, as it was written.
        named: Option<String>,
        /// The origin of the setting.
        origin: Origin,
    },
    /// The principal from the program's identity source.
    Program,
}

impl ChosenIdentity {
    /// Selects the identity from the settings and the default token file of `ark-auth-tool`. Reads no token.
    ///
    /// The order on AWS: AWS credentials from an option or the program, a token file from the settings, AWS
    /// credentials from the environment or a file, the default token file if a role is set.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if the settings conflict with the registry.
    pub(super) fn choose(settings: &Settings) -> Result<Self> {
        // The user's default file applies only together with the user's settings.
        let default_token = settings.reads_environment.then(default_token_file).flatten();
        Self::choose_with(settings, default_token.as_deref())
    }

    /// Selects the identity as [`choose`](Self::choose), with this default token file.
    fn choose_with(settings: &Settings, default_token: Option<&Path>) -> Result<Self> {
        match settings.registry() {
            RegistryLocation::Local { .. } => Self::choose_local(settings, default_token),
            RegistryLocation::Ecr { .. } => Self::choose_in_aws(settings, default_token),
        }
    }

    /// Returns the origin of the setting that selected the identity.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Token { origin, .. }
            | Self::AwsCaller { origin }
            | Self::LocalUser { origin, .. } => origin,
            Self::Program => &Origin::Program,
        }
    }

    fn choose_local(settings: &Settings, default_token: Option<&Path>) -> Result<Self> {
        let identity = &settings.identity;
        // The program takes precedence over the environment.
        let is_set_by_program = identity.token_file_origin == Origin::Program;
        if let Some(name) = identity.principal.as_ref().filter(|_| !is_set_by_program) {
            // With keys to verify tokens, a name without proof must not be accepted.
            if let Some(verification) = &identity.verification {
                let origin = &verification.origin;
                return Err(Error::invalid(format!(
                    "a principal cannot be set together with the key set of {origin}"
                ))
                .within(PRINCIPAL_VARIABLE)
                .with_help(format!(
                    "unset {PRINCIPAL_VARIABLE}: the token determines the principal"
                )));
            }
            let origin = Origin::Environment(PRINCIPAL_VARIABLE);
            return Ok(Self::LocalUser { named: Some(name.clone()), origin });
        }
        if let Some(file) = &identity.token_file {
            let origin = identity.token_file_origin.clone();
            return Ok(Self::Token { file: file.clone(), origin, is_named: true });
        }
        if let Some(verification) = &identity.verification {
            let file = default_token.ok_or_else(no_home)?.to_owned();
            let origin = verification.origin.clone();
            return Ok(Self::Token { file, origin, is_named: false });
        }
        Ok(Self::LocalUser { named: None, origin: Origin::Default })
    }

    fn choose_in_aws(settings: &Settings, default_token: Option<&Path>) -> Result<Self> {
        let Settings { identity, ecr, .. } = settings;
        // A name without proof is not accepted on AWS. The name may have been set to restrict permissions,
        // so it must not be ignored.
        if identity.principal.is_some() {
            return Err(Error::invalid("supported for local registries only")
                .within(PRINCIPAL_VARIABLE)
                .with_help(format!(
                    "unset {PRINCIPAL_VARIABLE}; on ecr: AWS determines the principal"
                )));
        }
        let credentials = ecr.credentials_origin.clone();
        match (&credentials, &identity.token_file, default_token) {
            // If the program sets credentials and a token file, the token file takes precedence.
            (Origin::Program, Some(file), _)
                if identity.token_file_origin == Origin::Program && ecr.role_arn.is_some() =>
            {
                Ok(Self::Token { file: file.clone(), origin: Origin::Program, is_named: true })
            }
            (Origin::Flag(_) | Origin::Program, _, _) => {
                Ok(Self::AwsCaller { origin: credentials })
            }
            (_, Some(_), _) if ecr.role_arn.is_none() => {
                Err(Error::invalid("a token needs a role to access AWS, and no role is set")
                    .within(&identity.token_file_origin)
                    .with_help(TOKEN_ROLE_HINT))
            }
            (_, Some(file), _) => {
                let origin = identity.token_file_origin.clone();
                Ok(Self::Token { file: file.clone(), origin, is_named: true })
            }
            // A broken link is an error of the token file, not a reason to use another identity.
            (Origin::Default, None, Some(file)) if ecr.role_arn.is_some() && has_name(file) => {
                Ok(Self::Token { file: file.to_owned(), origin: Origin::Default, is_named: false })
            }
            _ => Ok(Self::AwsCaller { origin: credentials }),
        }
    }
}

/// Returns the path of the default token file of `ark-auth-tool`.
fn default_token_file() -> Option<PathBuf> {
    #[cfg(feature = "token")]
    return crate::identity::TokenFile::default_path();
    #[cfg(not(feature = "token"))]
    None
}

/// Returns the error for a default token file without a home folder.
fn no_home() -> Error {
    Error::invalid("no token file is set, and there is no home folder with one").with_help(
        "set the token file: ARK_JWT_FILE, or token_file in the table [identity] of the \
         configuration file",
    )
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::settings::ProgramSettings;
    use super::*;

    const ECR: &str = "ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod";
    const ROLE: &str = "arn:aws:iam::095412845506:role/ark";

    /// Returns the identity with these variables and a default token file.
    fn chosen(variables: &[(&str, &str)], profile: Option<&str>) -> Result<ChosenIdentity> {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("jwt.json");
        std::fs::write(&token, "").unwrap();
        let environment = |name: &str| {
            let variable = variables.iter().find(|(known, _)| *known == name);
            let value = variable.map(|(_, value)| OsString::from(value));
            value.or_else(|| (name == "XDG_CONFIG_HOME").then(|| folder.path().into()))
        };
        let profile = profile.map(|name| (name.to_owned(), Origin::Flag("--profile")));
        let given = ProgramSettings { profile, ..ProgramSettings::default() };
        let settings = Settings::read(&given, &environment).unwrap();
        let chosen = ChosenIdentity::choose_with(&settings, Some(&token));
        chosen.map(|identity| match identity {
            ChosenIdentity::Token { file, origin, is_named } if file == token => {
                ChosenIdentity::Token { file: "default".into(), origin, is_named }
            }
            other => other,
        })
    }

    fn token(file: &str, origin: Origin) -> ChosenIdentity {
        ChosenIdentity::Token { file: file.into(), origin, is_named: file != "default" }
    }

    #[test]
    fn local_registry_uses_configured_token() {
        let chosen = |variables: &[_]| chosen(variables, None).unwrap();
        let nobody = ChosenIdentity::LocalUser { named: None, origin: Origin::Default };
        assert_eq!(chosen(&[]), nobody);
        let file = ("ARK_JWT_FILE", "/t");
        assert_eq!(chosen(&[file]), token("/t", Origin::Environment("ARK_JWT_FILE")));
        let keys = [("ARK_KEY_SET", "/k"), ("ARK_JWT_AUDIENCE", "ark")];
        assert_eq!(chosen(&keys), token("default", Origin::Environment("ARK_KEY_SET")));
        let named = ChosenIdentity::LocalUser {
            named: Some("robot:a".to_owned()),
            origin: Origin::Environment("ARK_PRINCIPAL"),
        };
        assert_eq!(chosen(&[file, ("ARK_PRINCIPAL", "robot:a")]), named);
    }

    #[test]
    fn program_token_file_precedes_environment() {
        let folder = tempfile::tempdir().unwrap();
        let environment = |name: &str| match name {
            "ARK_PRINCIPAL" => Some(OsString::from("user:root")),
            _ => Some(folder.path().into()).filter(|_| name == "XDG_CONFIG_HOME"),
        };
        let given = ProgramSettings { token_file: Some("/t".into()), ..ProgramSettings::default() };
        let settings = Settings::read(&given, &environment).unwrap();
        let chosen = ChosenIdentity::choose_with(&settings, None).unwrap();
        assert_eq!(chosen, token("/t", Origin::Program));
    }

    #[test]
    fn principal_conflicts_with_key_set() {
        let keys = [("ARK_KEY_SET", "/k"), ("ARK_JWT_AUDIENCE", "ark")];
        let named = [keys.as_slice(), &[("ARK_PRINCIPAL", "user:root")]].concat();
        assert_eq!(
            chosen(&named, None).unwrap_err().to_string(),
            "ARK_PRINCIPAL: a principal cannot be set together with the key set of ARK_KEY_SET; \
             unset ARK_PRINCIPAL: the token determines the principal"
        );
    }

    #[test]
    fn explicit_aws_identity_precedes_default_token() {
        let (registry, role) = (("ARK_REGISTRY", ECR), ("ARK_ROLE_ARN", ROLE));
        let (file, keys) = (("ARK_JWT_FILE", "/t"), ("AWS_ACCESS_KEY_ID", "AKIA"));
        let caller = |origin| ChosenIdentity::AwsCaller { origin };
        let chosen_by = |variables: &[_]| chosen(variables, None).unwrap();
        assert_eq!(chosen_by(&[registry]), caller(Origin::Default));
        assert_eq!(chosen_by(&[registry, role]), token("default", Origin::Default));
        let by_keys = caller(Origin::Environment("AWS_ACCESS_KEY_ID"));
        assert_eq!(chosen_by(&[registry, role, keys]), by_keys);
        let by_file = token("/t", Origin::Environment("ARK_JWT_FILE"));
        assert_eq!(chosen_by(&[registry, role, keys, file]), by_file);
        let typed = chosen(&[registry, role, file], Some("admin")).unwrap();
        assert_eq!(typed, caller(Origin::Flag("--profile")));
    }

    #[test]
    fn aws_token_needs_role_and_principal_is_rejected() {
        let refused =
            |variable| chosen(&[("ARK_REGISTRY", ECR), variable], None).unwrap_err().to_string();
        assert_eq!(
            refused(("ARK_JWT_FILE", "/t")),
            format!(
                "ARK_JWT_FILE: a token needs a role to access AWS, and no role is set; \
                 {TOKEN_ROLE_HINT}"
            )
        );
        assert_eq!(
            refused(("ARK_PRINCIPAL", "user:alice")),
            "ARK_PRINCIPAL: supported for local registries only; unset ARK_PRINCIPAL; on ecr: AWS \
             determines the principal"
        );
    }
}
