//! Users, roles and sessions of the fake's accounts.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ark_container_core::model::EcrHost;
use ark_container_core::{Error, Result};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::aws::iam::{Context, Grants};
use crate::aws::identity_provider::KnownProvider;
use crate::aws::policy::{Policy, PolicyError};

/// The characters of the identifiers of principals.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The default of `MaxSessionDuration` of a role.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>
const DEFAULT_MAX_SESSION_DURATION: Duration = Duration::from_secs(60 * 60);

/// A key to sign requests with. Only a fake with a user of this key accepts it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The value for `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// The value for `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
}

impl AccessKey {
    /// Creates a key.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into() }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A user of an account, with one access key.
#[derive(Debug, Clone)]
pub struct User {
    pub(super) name: String,
    pub(super) account: Option<String>,
    pub(super) key: AccessKey,
    pub(super) policies: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
}

impl User {
    /// Creates a user of the fake's own account without permissions. The access key is derived from the name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let secret = STANDARD.encode(&digest(&SHA256, name.as_bytes()).as_ref()[..30]);
        let key = AccessKey::new(identifier("AKIA", &name), secret);
        Self { name, account: None, key, policies: Vec::new(), tags: BTreeMap::new() }
    }

    /// Creates a user with all permissions.
    pub fn administrator(name: impl Into<String>) -> Self {
        Self::new(name).with_policy(
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        )
    }

    /// Returns the user's access key.
    pub fn access_key(&self) -> &AccessKey {
        &self.key
    }

    /// Moves the user to another account, of 12 digits, which has no repositories at first.
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Sets the access key.
    pub fn with_access_key(mut self, key: AccessKey) -> Self {
        self.key = key;
        self
    }

    /// Adds an identity-based policy, a JSON document.
    pub fn with_policy(mut self, policy: impl Display) -> Self {
        self.policies.push(policy.to_string());
        self
    }

    /// Adds a tag. Its condition key in policies is `aws:PrincipalTag/<key>`.
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
}

/// A role of the fake's own account.
#[derive(Debug, Clone)]
pub struct Role {
    pub(super) name: String,
    pub(super) trust: Vec<String>,
    pub(super) policies: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) max_session: Duration,
}

impl Role {
    /// Creates a role without trust policies and permissions, for sessions of at most one hour.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            trust: Vec::new(),
            policies: Vec::new(),
            tags: BTreeMap::new(),
            max_session: DEFAULT_MAX_SESSION_DURATION,
        }
    }

    /// Adds a trust policy, a JSON document whose statements have a `Principal`.
    ///
    /// Session tags need `sts:TagSession` in addition to `sts:AssumeRole` or `sts:AssumeRoleWithWebIdentity`.
    pub fn with_trust_policy(mut self, policy: impl Display) -> Self {
        self.trust.push(policy.to_string());
        self
    }

    /// Adds an identity-based policy, a JSON document.
    pub fn with_policy(mut self, policy: impl Display) -> Self {
        self.policies.push(policy.to_string());
        self
    }

    /// Adds a tag. A session tag with the same key overrides it.
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Sets `MaxSessionDuration`. The default is one hour.
    pub fn with_max_session(mut self, max_session: Duration) -> Self {
        self.max_session = max_session;
        self
    }
}

/// Returns an identifier in the form of AWS: the prefix of the kind, and 16 characters that are derived from `seed`.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
pub(super) fn identifier(prefix: &str, seed: &str) -> String {
    let hash = digest(&SHA256, seed.as_bytes());
    let characters = hash.as_ref().iter().take(16);
    let characters = characters.map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    prefix.chars().chain(characters).collect()
}

/// The principal that signed a request, with its policies.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) account: String,
    pub(super) arn: String,
    pub(super) user_id: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) grants: Grants,
    /// The role, if the caller is a session of a role.
    pub(super) role_arn: Option<String>,
    /// The end of the session, if the caller is a session.
    pub(super) expires_at: Option<SystemTime>,
}

impl Caller {
    /// Returns the condition keys of the caller.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>
    pub(super) fn context(&self) -> Context {
        let context = Context::default()
            .with("aws:PrincipalArn", self.role_arn.as_ref().unwrap_or(&self.arn))
            .with("aws:PrincipalAccount", &self.account)
            .with("aws:userid", &self.user_id)
            .with_tags("aws:PrincipalTag", &self.tags);
        match self.arn.split_once(":user/") {
            Some((_, name)) => context.with("aws:username", name),
            None => context,
        }
    }
}

/// The data to verify signatures with.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) key: AccessKey,
    pub(super) session_token: Option<String>,
    pub(super) caller: Arc<Caller>,
}

/// A role with parsed policies.
#[derive(Debug)]
pub(super) struct KnownRole {
    pub(super) arn: String,
    pub(super) id: String,
    pub(super) trust: Vec<Policy>,
    pub(super) policies: Vec<Policy>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) max_session: Duration,
}

/// Users, roles, OpenID providers, and all sessions so far.
#[derive(Debug)]
pub(super) struct Accounts {
    roles: BTreeMap<String, KnownRole>,
    pub(super) providers: Vec<KnownProvider>,
    credentials: Mutex<HashMap<String, Credential>>,
}

impl Accounts {
    /// Creates the accounts.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the fake cannot evaluate a policy.
    pub(super) fn new(
        host: &EcrHost,
        users: Vec<User>,
        roles: Vec<Role>,
        providers: Vec<KnownProvider>,
    ) -> Result<Self> {
        let mut credentials = HashMap::new();
        for user in users {
            let credential = user_credential(host, user)?;
            credentials.insert(credential.key.id.clone(), credential);
        }
        let roles = roles.into_iter().map(|role| known_role(host, role));
        let roles = roles.map(|role| role.map(|role| (role.arn.clone(), role)));
        let roles = roles.collect::<Result<_>>()?;
        Ok(Self { roles, providers, credentials: Mutex::new(credentials) })
    }

    pub(super) fn role(&self, arn: &str) -> Option<&KnownRole> {
        self.roles.get(arn)
    }

    pub(super) fn credential(&self, access_key_id: &str) -> Option<Credential> {
        self.credentials().get(access_key_id).cloned()
    }

    /// Adds the credential of a new session.
    pub(super) fn add(&self, credential: Credential) {
        self.credentials().insert(credential.key.id.clone(), credential);
    }

    /// Expires all sessions of roles at `now`.
    pub(super) fn expire_sessions(&self, now: SystemTime) {
        for credential in self.credentials().values_mut() {
            if credential.caller.expires_at.is_some() {
                let caller = Caller::clone(&credential.caller);
                credential.caller = Arc::new(Caller { expires_at: Some(now), ..caller });
            }
        }
    }

    fn credentials(&self) -> MutexGuard<'_, HashMap<String, Credential>> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn user_credential(host: &EcrHost, user: User) -> Result<Credential> {
    let account = user.account.unwrap_or_else(|| host.account().to_owned());
    let of = |error| unusable(format!("a policy of the user {}", user.name), error);
    let identity = parsed(&user.policies, Policy::parse).map_err(of)?;
    let caller = Caller {
        arn: format!("arn:{}:iam::{account}:user/{}", host.partition(), user.name),
        user_id: identifier("AIDA", &user.name),
        account,
        tags: user.tags,
        grants: Grants { identity, session: None },
        role_arn: None,
        expires_at: None,
    };
    Ok(Credential { key: user.key, session_token: None, caller: Arc::new(caller) })
}

fn known_role(host: &EcrHost, role: Role) -> Result<KnownRole> {
    let of =
        |kind: &str, error| unusable(format!("a {kind} policy of the role {}", role.name), error);
    Ok(KnownRole {
        arn: format!("arn:{}:iam::{}:role/{}", host.partition(), host.account(), role.name),
        id: identifier("AROA", &role.name),
        trust: parsed(&role.trust, Policy::parse_resource_based)
            .map_err(|error| of("trust", error))?,
        policies: parsed(&role.policies, Policy::parse).map_err(|error| of("identity", error))?,
        tags: role.tags,
        max_session: role.max_session,
    })
}

fn parsed(
    texts: &[String],
    parse: fn(&str) -> Result<Policy, PolicyError>,
) -> Result<Vec<Policy>, PolicyError> {
    texts.iter().map(|text| parse(text)).collect()
}

fn unusable(policy: String, error: PolicyError) -> Error {
    Error::invalid(format!("{policy} cannot be used: {error}"))
}
