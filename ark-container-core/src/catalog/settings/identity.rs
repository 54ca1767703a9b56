//! Settings of the caller's identity: the principal, the token, and the keys that verify it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::home::{expand_home, in_folder};
use super::{Environment, Origin, ProgramSettings, path_variable, variable};
use crate::error::{Error, Result};

/// The variable with the principal of a local registry.
pub(in crate::catalog) const PRINCIPAL_VARIABLE: &str = "ARK_PRINCIPAL";
const TOKEN_FILE_VARIABLE: &str = "ARK_JWT_FILE";
const KEY_SET_VARIABLE: &str = "ARK_KEY_SET";
const AUDIENCE_VARIABLE: &str = "ARK_JWT_AUDIENCE";

/// The settings of the caller's identity.
#[cfg_attr(not(feature = "token"), expect(dead_code, reason = "only tokens have claims"))]
#[derive(Debug, Clone)]
pub(in crate::catalog) struct IdentitySettings {
    /// The principal, as it was written.
    pub(in crate::catalog) principal: Option<String>,
    /// The token file; `None` for the default file of `ark-auth-tool`.
    pub(in crate::catalog) token_file: Option<PathBuf>,
    /// The origin of the token file.
    pub(in crate::catalog) token_file_origin: Origin,
    /// The settings for verifying a token's signature; `None` if the signature is not verified here.
    pub(in crate::catalog) verification: Option<Verification>,
    /// The names of claims that differ from the defaults.
    pub(in crate::catalog) claims: Claims,
}

/// The requirements of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::catalog) struct Verification {
    /// The keys of the identity provider.
    pub(in crate::catalog) key_set: KeySetLocation,
    /// The audience that tokens must have.
    pub(in crate::catalog) audience: String,
    /// The issuer that tokens must have; `None` for any issuer with a key in the set.
    pub(in crate::catalog) issuer: Option<String>,
    /// The origin of the key set.
    pub(in crate::catalog) origin: Origin,
}

/// The location of a key set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(in crate::catalog) enum KeySetLocation {
    /// A file of this machine.
    File(PathBuf),
    /// The URL of a server.
    Url(String),
}

impl From<String> for KeySetLocation {
    fn from(text: String) -> Self {
        if text.contains("://") { Self::Url(text) } else { Self::File(text.into()) }
    }
}

impl KeySetLocation {
    /// Returns the location with its file expanded by `expand`.
    fn map_path(self, expand: impl FnOnce(PathBuf) -> Result<PathBuf>) -> Result<Self> {
        match self {
            Self::File(path) => expand(path).map(Self::File),
            url @ Self::Url(_) => Ok(url),
        }
    }
}

impl fmt::Display for KeySetLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// The names of the claims of a token; `None` for the default name.
#[cfg_attr(not(feature = "token"), expect(dead_code, reason = "only tokens have claims"))]
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::catalog) struct Claims {
    /// The claim with the id of the principal.
    pub(in crate::catalog) subject: Option<String>,
    /// The claim with the kind of the principal.
    pub(in crate::catalog) kind: Option<String>,
    /// The claim with the organizations of which the principal is a member.
    pub(in crate::catalog) organizations: Option<String>,
    /// The claim with the organizations that the principal administers.
    pub(in crate::catalog) administers: Option<String>,
}

/// The table `[identity]` of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    token_file: Option<PathBuf>,
    key_set: Option<KeySetLocation>,
    audience: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    claims: Claims,
}

impl Table {
    pub(super) fn relative_to(self, folder: &Path) -> Result<Self> {
        Ok(Self {
            token_file: self.token_file.map(|file| in_folder(folder, file)).transpose()?,
            key_set: self
                .key_set
                .map(|location| location.map_path(|path| in_folder(folder, path)))
                .transpose()?,
            ..self
        })
    }
}

impl IdentitySettings {
    /// Collects the settings. `table` is the table of the configuration file at `path`.
    pub(super) fn resolve(
        given: &ProgramSettings,
        environment: Environment<'_>,
        table: Table,
        path: &Path,
    ) -> Result<Self> {
        let file = || Origin::File(path.to_owned());
        let (token_file, token_file_origin) =
            match (&given.token_file, path_variable(TOKEN_FILE_VARIABLE, environment)?) {
                (Some(file), _) => (Some(expand_home(file.clone())?), Origin::Program),
                (None, Some(file)) => (Some(file), Origin::Environment(TOKEN_FILE_VARIABLE)),
                (None, None) => match table.token_file {
                    Some(named) => (Some(named), file()),
                    None => (None, Origin::Default),
                },
            };
        let key_set = match (variable(KEY_SET_VARIABLE, environment)?, table.key_set) {
            (Some(text), _) => {
                let origin = Origin::Environment(KEY_SET_VARIABLE);
                let location = KeySetLocation::from(text).map_path(expand_home);
                Some((location.map_err(|error| error.within(&origin))?, origin))
            }
            (None, Some(location)) => Some((location, file())),
            (None, None) => None,
        };
        let audience = variable(AUDIENCE_VARIABLE, environment)?.or(table.audience);
        Ok(Self {
            principal: variable(PRINCIPAL_VARIABLE, environment)?,
            token_file,
            token_file_origin,
            verification: verification(key_set, audience, table.issuer)?,
            claims: table.claims,
        })
    }
}

/// Returns all requirements of a valid token, or none. A part of them would verify nothing.
fn verification(
    key_set: Option<(KeySetLocation, Origin)>,
    audience: Option<String>,
    issuer: Option<String>,
) -> Result<Option<Verification>> {
    match (key_set, audience) {
        (Some((key_set, origin)), Some(audience)) => {
            Ok(Some(Verification { key_set, audience, issuer, origin }))
        }
        (Some((_, origin)), None) => Err(Error::invalid(
            "a key set without an audience would accept tokens that were issued for other services",
        )
        .within(origin)
        .with_help(format!(
            "set the audience of the tokens: audience in the table [identity] of the configuration \
             file, or {AUDIENCE_VARIABLE}"
        ))),
        (None, None) if issuer.is_none() => Ok(None),
        (None, _) => Err(Error::invalid(
            "an audience or issuer is set, but no key set to verify tokens with",
        )
        .with_help(format!(
            "set the keys of the identity provider: key_set in the table [identity] of the \
             configuration file, or {KEY_SET_VARIABLE}"
        ))),
    }
}
