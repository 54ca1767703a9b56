//! [`World`]: the state of the fake: accounts, repositories, clock, and the record of calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ark_container_core::backend::local::ecr_emulation::EcrDialect;
use ark_container_core::model::{EcrHost, RegistryHost};

use crate::aws::accounts::Accounts;
use crate::aws::faults::Faults;
use crate::aws::registries::{Logins, Registries};

/// The tags of repositories, by name.
pub(super) type Index = BTreeMap<String, BTreeMap<String, String>>;

/// An account of AWS in one region, with its principals.
#[derive(Debug)]
pub(super) struct World {
    pub(super) host: EcrHost,
    pub(super) registry_host: RegistryHost,
    /// The proxy in front of the registry, if logins name a proxy.
    pub(super) front: OnceLock<RegistryHost>,
    pub(super) clock: Arc<Clock>,
    pub(super) accounts: Accounts,
    pub(super) registries: Arc<Registries>,
    /// The behaviour of the registry, and the archived images.
    pub(super) dialect: Arc<EcrDialect>,
    pub(super) logins: Arc<Logins>,
    pub(super) faults: Faults,
    pub(super) record: Arc<Record>,
    pub(super) packed_limit: usize,
    /// The tag index of the fake's own account, while it is stale.
    pub(super) stale_index: Mutex<Option<Index>>,
    pub(super) requests: AtomicU64,
}

impl World {
    /// Returns a request ID in the form of AWS, unique in this fake.
    pub(super) fn next_request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("00000000-0000-4000-8000-{number:012x}")
    }

    pub(super) fn set_index_stale(&self, stale: bool) {
        let known = stale.then(|| {
            self.registries.with(self.host.account(), |repositories| {
                let tags =
                    repositories.iter().map(|(name, known)| (name.clone(), known.tags.clone()));
                tags.collect()
            })
        });
        *self.stale_index() = known;
    }

    pub(super) fn stale_index(&self) -> MutexGuard<'_, Option<Index>> {
        self.stale_index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system clock with an offset.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead_seconds: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> SystemTime {
        let ahead = self.ahead_seconds.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        let moved =
            if ahead < 0 { now.checked_sub(difference) } else { now.checked_add(difference) };
        moved.unwrap_or(UNIX_EPOCH)
    }

    pub(super) fn set_ahead(&self, seconds: i64) {
        self.ahead_seconds.store(seconds, Ordering::Relaxed);
    }
}

/// Returns a time in the form of the JSON protocol: seconds since 1970, with milliseconds.
///
/// Source: <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#timestamp-formats> (`epoch-seconds`)
pub(super) fn epoch_seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}

/// Returns a time in the form of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>
pub(super) fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // 1 January 1970 was a Thursday.
    let day = DAYS[(seconds / (24 * 60 * 60) % 7) as usize];
    let rfc3339 = humantime::format_rfc3339_seconds(time).to_string();
    let (date, clock) = rfc3339.trim_end_matches('Z').split_once('T').unwrap_or_default();
    let mut parts = date.split('-');
    let [year, month, day_of_month] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let month = month.parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1)));
    format!("{day}, {day_of_month} {} {year} {clock} GMT", month.unwrap_or(&""))
}

/// A request of the API, or an authorization check for an action of a request of the registry.
///
/// The order of calls is that of the responses of the API and of the authorization checks of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The action in the form of policies, such as `ecr:CreateRepository`.
    pub action: String,
    /// The ARNs that policies were evaluated for, or `*`.
    pub resources: Vec<String>,
    /// The ARN of the principal that signed the request, if known.
    pub principal: Option<String>,
    /// The error code of the response. `None` if the request of the API succeeded, or if the authorization check of the
    /// registry allowed the action.
    pub error: Option<String>,
    /// The header `x-amzn-RequestId` of the response; empty for the registry, whose responses have no such header.
    pub request_id: String,
}

/// All calls so far.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<Call>>);

impl Record {
    pub(super) fn add(&self, call: Call) {
        self.calls().push(call);
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_format_of_http() {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
