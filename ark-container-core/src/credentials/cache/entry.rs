//! [`Login`]: credentials with their age, and how they are written in a file.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::key::{CacheKey, KeyRecord};
use crate::credentials::{Narrowing, Password, RegistryCredentials};
use crate::model::RegistryHost;

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
