//! [`Signer`]: signs and verifies the passwords of the local registry, which are tokens with a scope.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::store::REGISTRY_FOLDER;
use crate::credentials::Password;
use crate::error::{Error, ResourceKind, Result};
use crate::files::{Directory, FileVersion, cannot};
use crate::model::{Access, RepositoryPath, Scope, ScopeTarget, Stage};

const ISSUER: &str = "ark-container";

/// The length of the key in bytes. RFC 7518 requires at least the length of the hash for HS256.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc7518#section-3.2>
const KEY_LEN: usize = 32;

/// The file of the key, in the registry's folder.
const KEY_FILE: &str = "key";

/// The file that is locked during the creation of the key.
const KEY_LOCK: &str = "key.lock";

/// The claims of a token of this registry.
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

/// The reason why a password is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token was not issued by this registry, or was changed.
    #[error("the token is not valid for this registry")]
    Invalid,
    /// The token cannot be verified because the key of the registry cannot be read.
    #[error("the key of the registry cannot be read")]
    KeyUnreadable,
}

/// Signs and verifies tokens with the key of one registry folder.
///
/// A token is a JWT that is signed with HS256; other algorithms are rejected. The claim `access` follows the token
/// specification of the distribution project, with the wildcard `*` for all names of an organization.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Shared>);

struct Shared {
    root: PathBuf,
    keys: Mutex<Arc<Keys>>,
}

/// The key, and the version of the file that it was read from.
struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    file: FileVersion,
}

impl Signer {
    /// Opens the signer of the registry in the existing folder `root`, and creates the key on first use.
    ///
    /// Any number of processes may open the signer at once. All get the same key.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if another user can read the key or can replace the key or its folder;
    /// [`Error::Failed`] if the key is damaged or cannot be read or created.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let keys = match Keys::read(root)? {
            Some(keys) => keys,
            None => Keys::create(root)?,
        };
        let shared = Shared { root: root.to_owned(), keys: Mutex::new(Arc::new(keys)) };
        Ok(Self(Arc::new(shared)))
    }

    /// Returns a password for `scope` that is valid until `expires_at`, rounded down to whole seconds.
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
        jsonwebtoken::encode(&header, &claims, &self.keys().encoding)
            .map(Password::new)
            .map_err(|error| Error::failed("cannot sign the token").with_source(error))
    }

    /// Returns the scope of a password.
    ///
    /// The signature is verified before the expiry, so that a changed token is never reported as expired.
    pub(crate) fn verify(&self, password: &str) -> Result<Scope, TokenError> {
        let keys = self.current_keys()?;
        let token = jsonwebtoken::decode::<Claims>(password, &keys.decoding, &validation());
        let claims = match token {
            Ok(token) => token.claims,
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                return Err(TokenError::Expired);
            }
            Err(_) => return Err(TokenError::Invalid),
        };
        claimed_scope(&claims.access).ok_or(TokenError::Invalid)
    }

    fn keys(&self) -> Arc<Keys> {
        // A panic while the key was locked leaves it consistent.
        Arc::clone(&self.0.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the current key in the file. Without a file, no password is valid.
    fn current_keys(&self) -> Result<Arc<Keys>, TokenError> {
        let keys = self.keys();
        let version = FileVersion::of(&self.0.root.join(KEY_FILE)).ok_or(TokenError::Invalid)?;
        if version.is_unchanged_since(Some(&keys.file)) {
            return Ok(keys);
        }
        let read = Keys::read(&self.0.root).map_err(|error| {
            tracing::warn!(%error, "cannot verify passwords: the key of the registry cannot be used");
            TokenError::KeyUnreadable
        })?;
        let keys = Arc::new(read.ok_or(TokenError::Invalid)?);
        *self.0.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
        Ok(keys)
    }
}

impl Keys {
    /// Reads the key in the registry's folder; `None` if the file does not exist.
    fn read(root: &Path) -> Result<Option<Self>> {
        // The version is read before the key, so that a later change is detected.
        let path = root.join(KEY_FILE);
        let Some(file) = FileVersion::of(&path) else { return Ok(None) };
        let folder = Directory::open_trusted(root, REGISTRY_FOLDER)?;
        match folder.read_private(KEY_FILE, KEY_LEN) {
            Ok(key) if key.len() == KEY_LEN => Ok(Some(Self {
                encoding: EncodingKey::from_secret(&key),
                decoding: DecodingKey::from_secret(&key),
                file,
            })),
            Ok(_) => Err(Error::failed(format!("the key {} is damaged", path.display()))
                .with_help("delete the file and log in again")),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the key, or returns the key that another process has created meanwhile.
    fn create(root: &Path) -> Result<Self> {
        let folder = Directory::open_trusted(root, REGISTRY_FOLDER)?;
        let path = root.join(KEY_FILE);
        let lock = folder.open_lock(KEY_LOCK)?;
        lock.lock().map_err(|error| cannot("lock", &root.join(KEY_LOCK), error))?;
        if let Some(keys) = Self::read(root)? {
            return Ok(keys);
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        fill_random(key.as_mut())?;
        folder.replace(KEY_FILE, key.as_ref())?;
        Self::read(root)?.ok_or_else(|| Error::not_found(ResourceKind::File, path.display()))
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    // A token is invalid from the second of its expiry on. The default of the crate is one second later.
    // Source: <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4>
    validation.reject_tokens_expiring_in_less_than = 1;
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss"]);
    validation
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

/// Returns the scope of claims, the inverse of [`access_claims`]; `None` for claims that it never returns.
pub(super) fn claimed_scope(claims: &[AccessClaim]) -> Option<Scope> {
    // A GUID has several spellings, and a list several orders. Only one of each is valid.
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

/// Fills `bytes` with random bytes of the operating system.
///
/// `aws-lc-rs` would first gather its own entropy for 30 ms in each process, ten times as long as a whole run of the
/// command line.
fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::failed("cannot get random bytes of the operating system").with_source(error)
    })
}

/// Returns 128 random bits, for unique names that cannot be guessed.
pub(super) fn random_bits() -> Result<u128> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::OrganizationId;

    const PATH: &str = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video";

    fn signer() -> (tempfile::TempDir, Signer) {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open(folder.path()).unwrap();
        (folder, signer)
    }

    fn one_repository() -> Scope {
        Scope::repository(PATH.parse().unwrap(), Access::Push)
    }

    fn soon() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    fn key(folder: &tempfile::TempDir) -> EncodingKey {
        EncodingKey::from_secret(&fs::read(folder.path().join(KEY_FILE)).unwrap())
    }

    fn claims(access: Value) -> Value {
        json!({ "iss": ISSUER, "iat": 0, "exp": unix_seconds(soon()), "jti": "x", "access": access })
    }

    #[test]
    fn concurrent_openings_get_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let barrier = std::sync::Barrier::new(8);
        let signers: Vec<Signer> = std::thread::scope(|threads| {
            let open = || {
                barrier.wait();
                Signer::open(folder.path()).unwrap()
            };
            let running: Vec<_> = (0..8).map(|_| threads.spawn(open)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let password = signers[0].sign(&one_repository(), soon()).unwrap();
        for signer in &signers {
            assert_eq!(signer.verify(password.expose()), Ok(one_repository()));
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [KEY_FILE, KEY_LOCK], "no temporary file stays");
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn readable_key_is_rejected_with_hint() {
        let (folder, _) = signer();
        let path = folder.path().join(KEY_FILE);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let message = Signer::open(folder.path()).unwrap_err().to_string();
            assert!(message.ends_with(&format!("chmod 600 {}", path.display())), "{message}");
        }
    }

    #[test]
    fn deleted_key_revokes_passwords_of_running_server() {
        let (folder, server) = signer();
        let key = folder.path().join(KEY_FILE);
        let sign = || {
            let signer = Signer::open(folder.path()).unwrap();
            signer.sign(&one_repository(), soon()).unwrap()
        };
        let old = sign();
        assert_eq!(server.verify(old.expose()), Ok(one_repository()));
        fs::remove_file(&key).unwrap();
        assert_eq!(server.verify(old.expose()), Err(TokenError::Invalid));
        // The next login makes a key, which may have the inode of the old one.
        let new = sign();
        assert_eq!(server.verify(old.expose()), Err(TokenError::Invalid));
        assert_eq!(server.verify(new.expose()), Ok(one_repository()));
        // A key that other users can read is rejected too.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(server.verify(new.expose()), Err(TokenError::KeyUnreadable));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(server.verify(new.expose()), Ok(one_repository()));
    }

    #[test]
    fn symbolic_link_as_key_is_rejected() {
        let (folder, _) = signer();
        let (key, moved) = (folder.path().join(KEY_FILE), folder.path().join("moved"));
        fs::rename(&key, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &key).unwrap();
        let message = Signer::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("key is a symbolic link, not a file"), "{message}");
    }

    #[test]
    fn damaged_key_is_an_error() {
        let (folder, _) = signer();
        fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        let message = Signer::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is damaged"), "{message}");
    }

    #[test]
    fn expired_token_is_distinguished_from_invalid_one() {
        let (_folder, signer) = signer();
        let password = signer.sign(&one_repository(), SystemTime::now()).unwrap();
        assert_eq!(
            signer.verify(password.expose()),
            Err(TokenError::Expired),
            "in the second of the expiry"
        );
        let past = SystemTime::now() - Duration::from_secs(2);
        let password = signer.sign(&one_repository(), past).unwrap();
        assert_eq!(signer.verify(password.expose()), Err(TokenError::Expired));
        let mut tampered = password.expose().to_owned();
        let last = if tampered.ends_with('A') { 'E' } else { 'A' };
        tampered.pop();
        tampered.push(last);
        assert_eq!(signer.verify(&tampered), Err(TokenError::Invalid));
    }

    #[test]
    fn token_of_another_registry_is_invalid() {
        let ((_one, ours), (_other, theirs)) = (signer(), signer());
        let password = theirs.sign(&one_repository(), soon()).unwrap();
        assert_eq!(ours.verify(password.expose()), Err(TokenError::Invalid));
    }

    #[test]
    fn changed_byte_invalidates_token() {
        let (_folder, signer) = signer();
        let password = signer.sign(&one_repository(), soon()).unwrap();
        for index in 0..password.expose().len() {
            let mut bytes = password.expose().as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'Q' { b'g' } else { b'Q' };
            let tampered = String::from_utf8(bytes).unwrap();
            assert_eq!(signer.verify(&tampered), Err(TokenError::Invalid), "at {index}");
        }
    }

    #[test]
    fn other_algorithms_are_rejected() {
        let (folder, signer) = signer();
        let access = json!([{ "type": "repository", "name": PATH, "actions": ["pull"] }]);
        let token = |algorithm| {
            jsonwebtoken::encode(&Header::new(algorithm), &claims(access.clone()), &key(&folder))
                .unwrap()
        };
        assert!(signer.verify(&token(Algorithm::HS256)).is_ok());
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(signer.verify(&token(algorithm)), Err(TokenError::Invalid));
        }
        // {"alg":"none","typ":"JWT"} before the payload of a valid token, with and without a signature.
        let good = token(Algorithm::HS256);
        let (_, rest) = good.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        for token in [
            format!("{none}.{payload}."),
            format!("{none}.{payload}"),
            format!("{none}.{payload}.{signature}"),
        ] {
            assert_eq!(signer.verify(&token), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn claims_that_signer_never_creates_are_invalid() {
        let (folder, signer) = signer();
        let claim = |name: &str, actions: &[&str]| json!({ "type": "repository", "name": name, "actions": actions });
        let (one, two) = (OrganizationId::TBD, OrganizationId::GLOBAL);
        let all = |stage: &str, organization: OrganizationId| format!("{stage}/{organization}/*");
        for access in [
            json!([]),
            json!([claim(PATH, &[])]),
            json!([claim(PATH, &["push"])]),
            json!([claim(PATH, &["*"])]),
            json!([claim("*", &["pull"])]),
            json!([claim("prod/*", &["pull"])]),
            json!([claim("prod/*/*", &["pull"])]),
            json!([claim("not/a/path", &["pull"])]),
            json!([claim(PATH, &["pull"]), claim(PATH, &["pull"])]),
            json!([claim(&all("prod", one), &["pull"]), claim(&all("dev", two), &["pull"])]),
            json!([
                claim(&all("prod", one), &["pull"]),
                claim(&all("prod", two), &["pull", "push"])
            ]),
            json!([claim(PATH, &["pull,push"])]),
            json!([claim(&all("prod", one).replace("2ea2", "2EA2"), &["pull"])]),
            json!([claim(&all("prod", two), &["pull"]), claim(&all("prod", one), &["pull"])]),
            json!([claim(&all("prod", one), &["pull"]), claim(&all("prod", one), &["pull"])]),
            json!([{ "type": "registry", "name": PATH, "actions": ["pull"] }]),
        ] {
            let header = Header::new(Algorithm::HS256);
            let token =
                jsonwebtoken::encode(&header, &claims(access.clone()), &key(&folder)).unwrap();
            assert_eq!(signer.verify(&token), Err(TokenError::Invalid), "{access}");
        }
        let mut stranger = claims(json!([claim(PATH, &["pull"])]));
        for issuer in [json!("someone-else"), json!(null)] {
            stranger["iss"] = issuer;
            let header = Header::new(Algorithm::HS256);
            let token = jsonwebtoken::encode(&header, &stranger, &key(&folder)).unwrap();
            assert_eq!(signer.verify(&token), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn malformed_token_is_invalid() {
        let (_folder, signer) = signer();
        for garbage in
            ["", ".", "..", "...", "a.b.c", "é.é.é", &"x".repeat(10_000), &".".repeat(10_000)]
        {
            assert_eq!(signer.verify(garbage), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn scope_without_organizations_is_rejected() {
        let (_folder, signer) = signer();
        let scope = Scope::organizations(Stage::default(), [], Access::Pull);
        assert!(matches!(signer.sign(&scope, soon()), Err(Error::InvalidInput { .. })));
    }

    #[test]
    fn debug_output_hides_key() {
        let (_folder, signer) = signer();
        assert_eq!(format!("{signer:?}"), "Signer(…)");
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        let access = proptest::sample::select(vec![Access::Pull, Access::Push, Access::Delete]);
        let organizations = proptest::collection::vec(any::<u128>(), 1..20);
        (access, organizations, "[a-z]{1,8}", proptest::option::of("[a-z]{1,8}(/[a-z]{1,8}){0,3}"))
            .prop_map(|(access, organizations, stage, name)| {
                let stage: Stage = stage.parse().unwrap();
                let ids = organizations.into_iter().map(OrganizationId::from_u128);
                match name {
                    None => Scope::organizations(stage, ids, access),
                    Some(name) => {
                        let first = ids.into_iter().next().unwrap();
                        let path = RepositoryPath::new(stage, first, name.parse().unwrap());
                        Scope::repository(path.unwrap(), access)
                    }
                }
            })
    }

    proptest! {
        #[test]
        fn signing_and_verifying_are_inverse(scope in scopes()) {
            let (_folder, signer) = signer();
            let password = signer.sign(&scope, soon()).unwrap();
            prop_assert_eq!(signer.verify(password.expose()), Ok(scope));
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in "\\PC{0,200}") {
            let (_folder, signer) = signer();
            prop_assert_eq!(signer.verify(&text), Err(TokenError::Invalid));
        }
    }
}
