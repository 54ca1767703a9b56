//! [`Signer`]: makes and checks the passwords of the local registry, tokens that carry their scope.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::random::{self, random_bits};
use crate::credentials::Password;
use crate::error::{Error, Result};
use crate::model::{Access, RepositoryPath, Scope, ScopeTarget, Stage};

const ISSUER: &str = "ark-container";

/// As long as the output of the hash, which is what RFC 7518 asks of an HS256 key.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc7518#section-3.2>
const KEY_LEN: usize = 32;

/// The file of the key, in the registry's folder.
const KEY_FILE: &str = "key";

/// What every verified token of this registry says.
///
/// Source: <https://distribution.github.io/distribution/spec/auth/jwt/>
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
    exp: u64,
    jti: String,
    access: Vec<AccessClaim>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccessClaim {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Why a password does not open the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It is not a token of this registry, or was tampered with.
    #[error("the token is not valid for this registry")]
    Invalid,
}

/// Makes and checks tokens with the key of one registry folder.
///
/// A token is a JWT, signed with HS256 and no other algorithm, whose `access` claim is that of the
/// distribution project's token specification, with `*` for every name of an organization.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Keys>);

struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Signer {
    /// The signer of the registry in the folder `root`, which exists; its key is made on first use.
    ///
    /// Any number of processes may do this at once: all get the same key.
    ///
    /// # Errors
    /// [`Error::Failed`] if the key cannot be read or made, is damaged, or is open to other users.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let path = root.join(KEY_FILE);
        let key = match read_key(&path)? {
            Some(key) => key,
            None => create_key(root, &path)?,
        };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        // At the very second of its expiry a token is no longer good, which the crate would let pass.
        // Source: <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4>
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss"]);
        Ok(Self(Arc::new(Keys {
            encoding: EncodingKey::from_secret(key.as_ref()),
            decoding: DecodingKey::from_secret(key.as_ref()),
            validation,
        })))
    }

    /// A password that opens the registry to `scope` until `expires_at`, in whole seconds.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the scope names no organization.
    pub(crate) fn sign(&self, scope: &Scope, expires_at: SystemTime) -> Result<Password> {
        let access = access_claims(scope);
        if access.is_empty() {
            return Err(Error::invalid("credentials need at least one organization to reach"));
        }
        let claims = Claims {
            iss: ISSUER.to_owned(),
            iat: unix_seconds(SystemTime::now()),
            exp: unix_seconds(expires_at),
            jti: format!("{:032x}", random_bits()?),
            access,
        };
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &claims, &self.0.encoding)
            .map(Password::new)
            .map_err(|error| Error::failed("the token could not be signed").with_source(error))
    }

    /// The scope that a password carries.
    ///
    /// The signature is checked before anything that the token says, so that one which was tampered
    /// with is never told to be expired.
    pub(crate) fn verify(&self, password: &str) -> Result<Scope, TokenError> {
        let Keys { decoding, validation, .. } = &*self.0;
        let token = jsonwebtoken::decode::<Claims>(password, decoding, validation);
        let claims = match token {
            Ok(token) => token.claims,
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                return Err(TokenError::Expired);
            }
            Err(_) => return Err(TokenError::Invalid),
        };
        claimed_scope(&claims.access).ok_or(TokenError::Invalid)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(super) fn access_claims(scope: &Scope) -> Vec<AccessClaim> {
    let claim = |name: String| AccessClaim {
        kind: "repository".to_owned(),
        name,
        actions: scope.access().actions().split(',').map(str::to_owned).collect(),
    };
    match scope.target() {
        ScopeTarget::Repository(path) => vec![claim(path.to_string())],
        ScopeTarget::Organizations(stage, organizations) => organizations
            .iter()
            .map(|organization| claim(format!("{stage}/{organization}/*")))
            .collect(),
    }
}

/// The inverse of [`access_claims`]; `None` for what that never makes.
pub(super) fn claimed_scope(claims: &[AccessClaim]) -> Option<Scope> {
    // A GUID has several spellings, and a list several orders, of which only one is made.
    read_scope(claims).filter(|scope| access_claims(scope) == claims)
}

fn read_scope(claims: &[AccessClaim]) -> Option<Scope> {
    let actions = claims.first()?.actions.join(",");
    let access = [Access::Pull, Access::Push, Access::Delete]
        .into_iter()
        .find(|access| access.actions() == actions)?;
    if let [AccessClaim { name, .. }] = claims
        && let Ok(path) = name.parse::<RepositoryPath>()
    {
        return Some(Scope::repository(path, access));
    }
    let organizations = claims.iter().map(|claim| {
        let (stage, organization) = claim.name.strip_suffix("/*")?.split_once('/')?;
        Some((stage, organization.parse().ok()?))
    });
    let organizations: Vec<_> = organizations.collect::<Option<_>>()?;
    let (stage, _) = *organizations.first()?;
    let stage: Stage = stage.parse().ok()?;
    Some(Scope::organizations(stage, organizations.into_iter().map(|(_, id)| id), access))
}

type Key = Zeroizing<[u8; KEY_LEN]>;

/// The key in the file; `None` if there is no file.
fn read_key(path: &Path) -> Result<Option<Key>> {
    let failed =
        |error| Error::failed(format!("cannot read the key {}", path.display())).with_source(error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let shown = path.display();
    let problem = if metadata.mode() & 0o077 != 0 {
        format!("other users can read the key {shown}; close it to them: chmod 600 {shown}")
    } else if metadata.len() != KEY_LEN as u64 {
        format!("the key {shown} is damaged; delete it, and log in again with a new one")
    } else {
        let mut key = Key::default();
        file.read_exact(key.as_mut()).map_err(failed)?;
        return Ok(Some(key));
    };
    Err(Error::failed(problem))
}

/// Makes a key. Where another process was faster, the key is the other's.
fn create_key(root: &Path, path: &Path) -> Result<Key> {
    let mut key = Key::default();
    random::fill(key.as_mut())?;
    let temporary = root.join(format!(".{KEY_FILE}-{:032x}", random_bits()?));
    let written = publish_key(key.as_ref(), &temporary, path);
    // What is left of the temporary file is of no use; that it cannot be removed changes nothing.
    let _ = fs::remove_file(&temporary);
    match written.and_then(|()| File::open(root)?.sync_all()) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let missing = || Error::not_found(crate::ResourceKind::File, path.display());
            read_key(path)?.ok_or_else(missing)
        }
        Err(error) => {
            Err(Error::failed(format!("cannot write the key {}", path.display()))
                .with_source(error))
        }
    }
}

/// A hard link, unlike a rename, never replaces a key that is there already.
fn publish_key(key: &[u8], temporary: &Path, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::hard_link(temporary, path)
}

#[cfg(test)]
mod tests;
