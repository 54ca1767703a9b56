//! [`ChosenIdentity`]: which identity counts, and why.

use std::path::{Path, PathBuf};

use super::settings::{Origin, PRINCIPAL_VARIABLE, Settings};
use crate::error::{Error, Result};
use crate::files::has_name;
use crate::model::RegistryLocation;

/// What lets a token into AWS.
const TO_USE_A_TOKEN: &str = "set the role that your tokens open: role_arn in the table [ecr] of the \
    configuration file, or ARK_ROLE_ARN";

/// Who asks, as far as it can be told without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChosenIdentity {
    /// Whom the token in a file is for.
    Token {
        /// The file.
        file: PathBuf,
        /// Who chose it.
        origin: Origin,
        /// Whether the file was named; if not, it is the one that `ark-auth-tool` writes.
        is_named: bool,
    },
    /// Whose AWS credentials are used.
    AwsCaller {
        /// Who chose them.
        origin: Origin,
    },
    /// The system's user, or whoever was named instead.
    LocalUser {
        /// Who was named, as it was written.
        named: Option<String>,
        /// Who named them.
        origin: Origin,
    },
    /// Who the program's own identity source says.
    Program,
}

impl ChosenIdentity {
    /// Chooses by what was set, and by where `ark-auth-tool` keeps a token. No token is read.
    ///
    /// On ecr: the AWS credentials that were typed come first, then a token that was named, then AWS
    /// credentials that were set, then the token of `ark-auth-tool` where it would be of use.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if what was set is of no use at this registry.
    pub(super) fn choose(settings: &Settings) -> Result<Self> {
        // A file of the user counts only where the user's settings do.
        let default_token = settings.reads_environment.then(default_token_file).flatten();
        Self::choose_with(settings, default_token.as_deref())
    }

    /// The same; `default_token` is where `ark-auth-tool` keeps a token.
    fn choose_with(settings: &Settings, default_token: Option<&Path>) -> Result<Self> {
        match settings.registry() {
            RegistryLocation::Local { .. } => Self::on_this_machine(settings, default_token),
            RegistryLocation::Ecr { .. } => Self::in_aws(settings, default_token),
        }
    }

    /// Who chose it.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Token { origin, .. }
            | Self::AwsCaller { origin }
            | Self::LocalUser { origin, .. } => origin,
            Self::Program => &Origin::Program,
        }
    }

    fn on_this_machine(settings: &Settings, default_token: Option<&Path>) -> Result<Self> {
        let identity = &settings.identity;
        // What the program names counts before the environment.
        let is_told = identity.token_file_origin == Origin::Program;
        if let Some(name) = identity.principal.as_ref().filter(|_| !is_told) {
            // Whoever has keys to check a token with wants nobody to be taken at their word.
            if let Some(verification) = &identity.verification {
                let origin = &verification.origin;
                return Err(Error::invalid(format!("{origin} names keys to check tokens with"))
                    .within(PRINCIPAL_VARIABLE)
                    .with_help(format!("unset {PRINCIPAL_VARIABLE}: the token says who asks")));
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

    fn in_aws(settings: &Settings, default_token: Option<&Path>) -> Result<Self> {
        let Settings { identity, ecr, .. } = settings;
        // Nobody is taken at their word there, and a name that was chosen to have fewer rights must
        // not be passed over in silence.
        if identity.principal.is_some() {
            return Err(Error::invalid("it is for registries of this machine only")
                .within(PRINCIPAL_VARIABLE)
                .with_help(format!("unset {PRINCIPAL_VARIABLE}; on ecr: AWS knows who asks")));
        }
        let credentials = ecr.credentials_origin.clone();
        match (&credentials, &identity.token_file, default_token) {
            // Between two that the program itself named, the token file is the one to use.
            (Origin::Program, Some(file), _)
                if identity.token_file_origin == Origin::Program && ecr.role_arn.is_some() =>
            {
                Ok(Self::Token { file: file.clone(), origin: Origin::Program, is_named: true })
            }
            (Origin::Flag(_) | Origin::Program, _, _) => {
                Ok(Self::AwsCaller { origin: credentials })
            }
            (_, Some(_), _) if ecr.role_arn.is_none() => {
                Err(Error::invalid("a token opens AWS under a role only, and no role is set")
                    .within(&identity.token_file_origin)
                    .with_help(TO_USE_A_TOKEN))
            }
            (_, Some(file), _) => {
                let origin = identity.token_file_origin.clone();
                Ok(Self::Token { file: file.clone(), origin, is_named: true })
            }
            // A name that leads nowhere is an error of the token file, not a reason to use another identity.
            (Origin::Default, None, Some(file)) if ecr.role_arn.is_some() && has_name(file) => {
                Ok(Self::Token { file: file.to_owned(), origin: Origin::Default, is_named: false })
            }
            _ => Ok(Self::AwsCaller { origin: credentials }),
        }
    }
}

/// Where `ark-auth-tool` keeps a token.
fn default_token_file() -> Option<PathBuf> {
    #[cfg(feature = "token")]
    return crate::identity::TokenFile::default_path();
    #[cfg(not(feature = "token"))]
    None
}

/// That there is no home folder in which a token could be.
fn no_home() -> Error {
    Error::invalid("there is no home folder, so no token in it").with_help(
        "name the token file: ARK_JWT_FILE, or token_file in the table [identity] of the \
         configuration file",
    )
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::settings::Given;
    use super::*;

    const ECR: &str = "ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod";
    const ROLE: &str = "arn:aws:iam::095412845506:role/ark";

    /// What is chosen with these variables, where `ark-auth-tool` has left a token.
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
        let given = Given { profile, ..Given::default() };
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
    fn on_this_machine_a_token_counts_where_one_is_asked_for() {
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
    fn token_file_of_the_program_counts_before_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let environment = |name: &str| match name {
            "ARK_PRINCIPAL" => Some(OsString::from("user:root")),
            _ => Some(folder.path().into()).filter(|_| name == "XDG_CONFIG_HOME"),
        };
        let given = Given { token_file: Some("/t".into()), ..Given::default() };
        let settings = Settings::read(&given, &environment).unwrap();
        let chosen = ChosenIdentity::choose_with(&settings, None).unwrap();
        assert_eq!(chosen, token("/t", Origin::Program));
    }

    #[test]
    fn where_there_are_keys_nobody_is_taken_at_their_word() {
        let keys = [("ARK_KEY_SET", "/k"), ("ARK_JWT_AUDIENCE", "ark")];
        let named = [keys.as_slice(), &[("ARK_PRINCIPAL", "user:root")]].concat();
        assert_eq!(
            chosen(&named, None).unwrap_err().to_string(),
            "ARK_PRINCIPAL: ARK_KEY_SET names keys to check tokens with; unset ARK_PRINCIPAL: the token \
             says who asks"
        );
    }

    #[test]
    fn in_aws_what_was_typed_or_named_counts_before_what_lies_there() {
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
    fn aws_token_needs_role_and_names_are_refused() {
        let refused =
            |variable| chosen(&[("ARK_REGISTRY", ECR), variable], None).unwrap_err().to_string();
        assert_eq!(
            refused(("ARK_JWT_FILE", "/t")),
            format!(
                "ARK_JWT_FILE: a token opens AWS under a role only, and no role is set; {TO_USE_A_TOKEN}"
            )
        );
        assert_eq!(
            refused(("ARK_PRINCIPAL", "user:alice")),
            "ARK_PRINCIPAL: it is for registries of this machine only; unset ARK_PRINCIPAL; on ecr: AWS \
             knows who asks"
        );
    }
}
