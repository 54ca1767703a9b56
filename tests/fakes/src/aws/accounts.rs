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

/// The characters of the identifiers that AWS gives to its principals.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// How long a session of a role may be unless its role says otherwise.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>
const MAX_SESSION: Duration = Duration::from_secs(60 * 60);

/// A key to sign requests with. It opens nothing but the fake that was told of it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// What goes into `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// What goes into `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
}

impl AccessKey {
    /// A key of these two texts.
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
    /// A user of the fake's own account who may do nothing; the access key follows from the name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let secret = STANDARD.encode(&digest(&SHA256, name.as_bytes()).as_ref()[..30]);
        let key = AccessKey::new(identifier("AKIA", &name), secret);
        Self { name, account: None, key, policies: Vec::new(), tags: BTreeMap::new() }
    }

    /// A user who may do everything.
    pub fn administrator(name: impl Into<String>) -> Self {
        Self::new(name).with_policy(
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        )
    }

    /// The user's access key.
    pub fn access_key(&self) -> &AccessKey {
        &self.key
    }

    /// This user in another account, of 12 digits: one that has no repositories at first.
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// This user with another access key.
    pub fn with_access_key(mut self, key: AccessKey) -> Self {
        self.key = key;
        self
    }

    /// This user with one more identity-based policy: a JSON document.
    pub fn with_policy(mut self, policy: impl Display) -> Self {
        self.policies.push(policy.to_string());
        self
    }

    /// This user with one more tag, which policies know as `aws:PrincipalTag/<key>`.
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
    /// A role that nobody may assume and that may do nothing, for sessions of at most an hour.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            trust: Vec::new(),
            policies: Vec::new(),
            tags: BTreeMap::new(),
            max_session: MAX_SESSION,
        }
    }

    /// This role with one more trust policy: a JSON document whose statements have a `Principal`.
    ///
    /// Session tags need `sts:TagSession` beside `sts:AssumeRole` or `sts:AssumeRoleWithWebIdentity`.
    pub fn with_trust_policy(mut self, policy: impl Display) -> Self {
        self.trust.push(policy.to_string());
        self
    }

    /// This role with one more identity-based policy: a JSON document.
    pub fn with_policy(mut self, policy: impl Display) -> Self {
        self.policies.push(policy.to_string());
        self
    }

    /// This role with one more tag; a session tag of the same key goes before it.
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// This role with another `MaxSessionDuration`; an hour unless told.
    pub fn with_max_session(mut self, max_session: Duration) -> Self {
        self.max_session = max_session;
        self
    }
}

/// An identifier such as AWS gives: the kind's prefix, and 16 characters that follow from `seed`.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
pub(super) fn identifier(prefix: &str, seed: &str) -> String {
    let hash = digest(&SHA256, seed.as_bytes());
    let characters = hash.as_ref().iter().take(16);
    let characters = characters.map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    prefix.chars().chain(characters).collect()
}

/// Who signed a request, and what they may do at most.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) account: String,
    pub(super) arn: String,
    pub(super) user_id: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) grants: Grants,
    /// The role, where this is a session of one.
    pub(super) role_arn: Option<String>,
    /// When the session ends, where this is one.
    pub(super) expires_at: Option<SystemTime>,
}

impl Caller {
    /// What policies know of the caller.
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

/// What a signature is checked with.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) key: AccessKey,
    pub(super) session_token: Option<String>,
    pub(super) caller: Arc<Caller>,
}

/// A role, ready to be assumed.
#[derive(Debug)]
pub(super) struct KnownRole {
    pub(super) arn: String,
    pub(super) id: String,
    pub(super) trust: Vec<Policy>,
    pub(super) policies: Vec<Policy>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) max_session: Duration,
}

/// Users, roles, OpenID providers, and every session so far.
#[derive(Debug)]
pub(super) struct Accounts {
    roles: BTreeMap<String, KnownRole>,
    pub(super) providers: Vec<KnownProvider>,
    credentials: Mutex<HashMap<String, Credential>>,
}

impl Accounts {
    /// # Errors
    /// [`Error::InvalidInput`] if a policy is none that the fake can judge by.
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

    /// Begins a session.
    pub(super) fn add(&self, credential: Credential) {
        self.credentials().insert(credential.key.id.clone(), credential);
    }

    /// Ends every session of a role at `now`.
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

fn unusable(what: String, error: PolicyError) -> Error {
    Error::invalid(format!("{what} cannot be used: {error}"))
}
