//! [`CacheKey`] and [`Login`]: the key of a cached login, the login with its age, and their file format.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use crate::credentials::{Narrowing, Password, RegistryCredentials};
use crate::digester::Digester;
use crate::model::{Algorithm, RegistryHost, Scope};

/// Part of every file's name: a program of another format neither finds nor disturbs these files.
const FILE_FORMAT: u32 = 1;

/// What one login is remembered by: two requests with the same key may have the same answer.
///
/// It has no secrets, and it is written beside the password in clear, so that a file can be told
/// from a copy of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey {
    registry: RegistryHost,
    identity: String,
    role: Option<String>,
    scope: Scope,
}

impl CacheKey {
    /// The key of a login of `identity` to `registry`, within `scope`, with the rights of `role`
    /// where one is assumed.
    ///
    /// `identity` tells apart callers that must not share a login, and stays the same for as long as it
    /// is the same caller.
    pub fn new(
        registry: RegistryHost,
        identity: impl Into<String>,
        role: Option<String>,
        scope: Scope,
    ) -> Self {
        Self { registry, identity: identity.into(), role, scope }
    }

    /// The scope that was asked for.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The registry that the login is to.
    pub(super) fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// How it is written in a file.
    fn record(&self) -> KeyRecord {
        KeyRecord {
            registry: self.registry.clone(),
            identity: self.identity.clone(),
            role: self.role.clone(),
            scope: self.scope.to_string(),
        }
    }

    /// The name of its file, without an ending.
    pub(super) fn file_stem(&self) -> String {
        // A debug form quotes its texts, so that no two keys have the same.
        let parts = (&self.identity, &self.role, self.registry.as_str(), self.scope.to_string());
        let digest = Digester::digest(Algorithm::Sha256, format!("{parts:?}").as_bytes());
        format!("login-{FILE_FORMAT}-{}", digest.hex())
    }
}

/// A [`CacheKey`] in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyRecord {
    registry: RegistryHost,
    identity: String,
    role: Option<String>,
    scope: String,
}

/// How far a clock may be set back before what it dated is not trusted any more.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Credentials, and when they were given.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) credentials: RegistryCredentials,
    pub(super) obtained_at: SystemTime,
}

impl Login {
    /// Whether both are one login, read twice perhaps.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.credentials.password.expose() == other.credentials.password.expose()
    }

    /// Whether the registry takes them at `now`.
    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        // A clock that was set back would prolong them.
        self.obtained_at <= now + CLOCK_TOLERANCE && now < self.credentials.expires_at
    }

    /// Whether the registry takes them at `now` and for at least `min_remaining` after it.
    pub(super) fn is_valid_for(&self, min_remaining: Duration, now: SystemTime) -> bool {
        let remaining = self.credentials.expires_at.duration_since(now).unwrap_or_default();
        self.is_valid(now) && min_remaining <= remaining
    }

    /// Whether more than `share` of their life is left at `now`.
    pub(super) fn is_fresh(&self, now: SystemTime, share: f64) -> bool {
        let life = self.credentials.expires_at.duration_since(self.obtained_at).unwrap_or_default();
        self.is_valid(now) && self.is_valid(now + life.mul_f64(share))
    }

    /// The content of its file. The bytes are wiped when they are dropped.
    pub(super) fn to_json(&self, key: &CacheKey) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        let Self { credentials, obtained_at } = self;
        let record = LoginRecord {
            key: key.record(),
            host: credentials.host.clone(),
            username: Cow::Borrowed(&credentials.username),
            password: Cow::Borrowed(credentials.password.expose()),
            narrowing: credentials.narrowing.into(),
            obtained_at: unix_seconds(*obtained_at),
            expires_at: unix_seconds(credentials.expires_at),
        };
        // Room for all of it: growing would leave copies of the password behind.
        let mut json =
            Zeroizing::new(Vec::with_capacity(credentials.password.expose().len() * 2 + 8192));
        serde_json::to_writer(&mut *json, &record)?;
        Ok(json)
    }

    /// What a file says, if it is the file of `key`.
    pub(super) fn from_json(json: &[u8], key: &CacheKey) -> Result<Self, BadEntry> {
        let record: LoginRecord<'_> = serde_json::from_slice(json)?;
        if record.key != key.record() {
            return Err(BadEntry::OtherKey);
        }
        let time = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let (Some(obtained_at), Some(expires_at)) =
            (time(record.obtained_at), time(record.expires_at))
        else {
            return Err(BadEntry::Time);
        };
        let password = Password::new(record.password.into_owned());
        let scope = key.scope().clone();
        let credentials = RegistryCredentials {
            username: record.username.into_owned(),
            ..RegistryCredentials::new(record.host, password, expires_at, scope)
                .with_narrowing(record.narrowing.into())
        };
        Ok(Self { credentials, obtained_at })
    }
}

/// The registry that a file is of; `None` if it makes no sense.
pub(super) fn registry_of(json: &[u8]) -> Option<RegistryHost> {
    let record: LoginRecord<'_> = serde_json::from_slice(json).ok()?;
    Some(record.key.registry)
}

/// Why a file does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadEntry {
    #[error("it is damaged")]
    Json(#[from] serde_json::Error),
    #[error("it is the copy of another file")]
    OtherKey,
    #[error("its times make no sense")]
    Time,
}

/// Times are in whole seconds, down: a login is never taken for longer than it is good.
#[derive(Serialize, Deserialize)]
struct LoginRecord<'a> {
    key: KeyRecord,
    host: RegistryHost,
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(borrow)]
    password: Cow<'a, str>,
    narrowing: NarrowingRecord,
    obtained_at: u64,
    expires_at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NarrowingRecord {
    Scoped,
    Caller,
}

impl From<Narrowing> for NarrowingRecord {
    fn from(narrowing: Narrowing) -> Self {
        match narrowing {
            Narrowing::Scoped => Self::Scoped,
            Narrowing::Caller => Self::Caller,
        }
    }
}

impl From<NarrowingRecord> for Narrowing {
    fn from(record: NarrowingRecord) -> Self {
        match record {
            NarrowingRecord::Scoped => Self::Scoped,
            NarrowingRecord::Caller => Self::Caller,
        }
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::{Access, OrganizationId, Stage};

    #[test]
    fn no_two_keys_share_a_file() {
        let scope = |access| Scope::organizations(Stage::default(), [OrganizationId::TBD], access);
        let host = |name: &str| name.parse::<RegistryHost>().unwrap();
        let role = |name: &str| Some(name.to_owned());
        let keys = [
            CacheKey::new(host("a"), "x", None, scope(Access::Pull)),
            CacheKey::new(host("b"), "x", None, scope(Access::Pull)),
            CacheKey::new(host("a"), "y", None, scope(Access::Pull)),
            CacheKey::new(host("a"), "x", role("y"), scope(Access::Pull)),
            CacheKey::new(host("a"), "x", role(""), scope(Access::Pull)),
            CacheKey::new(host("a"), "x", None, scope(Access::Push)),
            CacheKey::new(host("a"), "x\", Some(\"y", None, scope(Access::Pull)),
        ];
        let stems: HashSet<_> = keys.iter().map(CacheKey::file_stem).collect();
        assert_eq!(stems.len(), keys.len());
    }
}
