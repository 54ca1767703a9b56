//! [`CacheKey`] and [`Login`]: the key of a cached login, the login with its time, and their file format.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use crate::credentials::{Narrowing, Password, RegistryCredentials};
use crate::digester::Digester;
use crate::model::{Algorithm, RegistryHost, Scope};

/// Part of every file name. A program with another format version neither reads nor changes these files.
const FORMAT_VERSION: u32 = 1;

/// The key of a cached login. Two requests with the same key may share a login.
///
/// A key contains no secrets. Each file contains its key in clear, which detects a copy of another file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey {
    registry: RegistryHost,
    identity: String,
    role: Option<String>,
    scope: Scope,
}

impl CacheKey {
    /// Creates the key of a login of `identity` to `registry` for `scope`, with the permissions of `role` if
    /// the caller assumes one.
    ///
    /// Callers that must not share a login have different identities. The identity of a caller is stable.
    pub fn new(
        registry: RegistryHost,
        identity: impl Into<String>,
        role: Option<String>,
        scope: Scope,
    ) -> Self {
        Self { registry, identity: identity.into(), role, scope }
    }

    /// Returns the requested scope.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the registry of the login.
    pub(super) fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// Returns the form of the key in a file.
    fn record(&self) -> KeyRecord {
        KeyRecord {
            registry: self.registry.clone(),
            identity: self.identity.clone(),
            role: self.role.clone(),
            scope: self.scope.to_string(),
        }
    }

    /// Returns the name of the file of the login, without extension.
    pub(super) fn file_stem(&self) -> String {
        // The debug format quotes strings, which makes it unique for each key.
        let parts = (&self.identity, &self.role, self.registry.as_str(), self.scope.to_string());
        let digest = Digester::digest(Algorithm::Sha256, format!("{parts:?}").as_bytes());
        format!("login-{FORMAT_VERSION}-{}", digest.hex())
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

/// The maximum time by which the start of a valid login may be in the future, after the clock was set back.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Credentials, and the time when they were obtained.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) credentials: RegistryCredentials,
    pub(super) obtained_at: SystemTime,
}

impl Login {
    /// Returns whether both have the same password, and so are the same login.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.credentials.password.expose() == other.credentials.password.expose()
    }

    /// Returns whether the login is valid at `now`.
    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        // A clock that was set back would extend the lifetime.
        self.obtained_at <= now + MAX_CLOCK_SKEW && now < self.credentials.expires_at
    }

    /// Returns whether the login is valid at `now` and for at least `min_remaining` afterwards.
    pub(super) fn is_valid_for(&self, min_remaining: Duration, now: SystemTime) -> bool {
        let remaining = self.credentials.expires_at.duration_since(now).unwrap_or_default();
        self.is_valid(now) && min_remaining <= remaining
    }

    /// Returns whether more than `share` of the lifetime remains at `now`.
    pub(super) fn is_fresh(&self, now: SystemTime, share: f64) -> bool {
        let expires_at = self.credentials.expires_at;
        let lifetime = expires_at.duration_since(self.obtained_at).unwrap_or_default();
        self.is_valid(now) && self.is_valid(now + lifetime.mul_f64(share))
    }

    /// Returns the content of the file. The bytes are wiped when they are dropped.
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
        // Enough capacity for all content: reallocation would leave copies of the password in memory.
        let mut json =
            Zeroizing::new(Vec::with_capacity(credentials.password.expose().len() * 2 + 8192));
        serde_json::to_writer(&mut *json, &record)?;
        Ok(json)
    }

    /// Parses the content of the file of `key`.
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

/// Returns the registry of a file, or `None` if the content is invalid.
pub(super) fn registry_of(json: &[u8]) -> Option<RegistryHost> {
    let record: LoginRecord<'_> = serde_json::from_slice(json).ok()?;
    Some(record.key.registry)
}

/// The reason why a file is invalid.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadEntry {
    #[error("it is damaged")]
    Json(#[from] serde_json::Error),
    #[error("it is a copy of another file")]
    OtherKey,
    #[error("its times are out of range")]
    Time,
}

/// A [`Login`] in a file. Times are whole seconds, rounded down, so that no login is used after its expiry.
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
    fn keys_have_distinct_files() {
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
