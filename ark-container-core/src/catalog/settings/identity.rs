//! Which token says who asks, and what it is checked with.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::home::{expand_home, in_folder};
use super::{Environment, Given, Origin, path_variable, variable};
use crate::error::{Error, Result};

/// Who asks on a registry of this machine.
pub(in crate::catalog) const PRINCIPAL_VARIABLE: &str = "ARK_PRINCIPAL";
const TOKEN_FILE_VARIABLE: &str = "ARK_JWT_FILE";
const KEY_SET_VARIABLE: &str = "ARK_KEY_SET";
const AUDIENCE_VARIABLE: &str = "ARK_JWT_AUDIENCE";

/// How it is found out who asks, as far as that is a choice.
#[cfg_attr(not(feature = "token"), expect(dead_code, reason = "only tokens have claims"))]
#[derive(Debug, Clone)]
pub(in crate::catalog) struct IdentitySettings {
    /// Who was named as whoever asks, as it was typed.
    pub(in crate::catalog) principal: Option<String>,
    /// The token file that was named; `None` for the one that `ark-auth-tool` writes.
    pub(in crate::catalog) token_file: Option<PathBuf>,
    /// Who named the token file.
    pub(in crate::catalog) token_file_origin: Origin,
    /// What a token's signature is checked with, if it is to be checked here.
    pub(in crate::catalog) verification: Option<Verification>,
    /// The names of the claims that were changed.
    pub(in crate::catalog) claims: Claims,
}

/// What makes a token genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::catalog) struct Verification {
    /// The keys of the identity provider.
    pub(in crate::catalog) key_set: KeySetLocation,
    /// Whom its tokens have to be for.
    pub(in crate::catalog) audience: String,
    /// Who has to have issued them; `None` for whoever has the keys.
    pub(in crate::catalog) issuer: Option<String>,
    /// Who named the key set.
    pub(in crate::catalog) origin: Origin,
}

/// Where the keys of an identity provider are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(in crate::catalog) enum KeySetLocation {
    /// In a file of this machine.
    File(PathBuf),
    /// At a server.
    Url(String),
}

impl From<String> for KeySetLocation {
    fn from(text: String) -> Self {
        if text.contains("://") { Self::Url(text) } else { Self::File(text.into()) }
    }
}

impl KeySetLocation {
    /// Returns the location with its file as `expand` has it.
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

/// Which claims of a token say what; `None` for the name that they have by default.
#[cfg_attr(not(feature = "token"), expect(dead_code, reason = "only tokens have claims"))]
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::catalog) struct Claims {
    /// Who it is for.
    pub(in crate::catalog) subject: Option<String>,
    /// What kind of principal that is.
    pub(in crate::catalog) kind: Option<String>,
    /// Where they belong.
    pub(in crate::catalog) organizations: Option<String>,
    /// What they administer.
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
    /// Gathers them; `table` is of the configuration file, which is at `path`.
    pub(super) fn resolve(
        given: &Given,
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

/// All that makes a token genuine, or nothing of it: a part alone would look like a check and be none.
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
            "a key set without an audience would take tokens that were issued for others",
        )
        .within(origin)
        .with_help(format!(
            "say whom the tokens are for: audience in the table [identity] of the configuration \
             file, or {AUDIENCE_VARIABLE}"
        ))),
        (None, None) if issuer.is_none() => Ok(None),
        (None, _) => Err(Error::invalid(
            "an audience or issuer is given, but no key set: they are checked with the signature",
        )
        .with_help(format!(
            "name the keys of the identity provider: key_set in the table [identity] of the \
             configuration file, or {KEY_SET_VARIABLE}"
        ))),
    }
}
