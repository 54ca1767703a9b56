//! Who there is in the fake's accounts: [`User`], [`Role`].

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
