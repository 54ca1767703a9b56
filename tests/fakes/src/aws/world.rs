//! [`World`]: everything that a request may need.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::accounts::Accounts;
use super::clock::Clock;
use super::faults::Faults;
use super::record::Record;
use super::registries::Registries;
use super::registry::Logins;
use ark_container_core::model::{EcrHost, RegistryHost};

/// The tags of repositories, by name.
pub(super) type Index = BTreeMap<String, BTreeMap<String, String>>;

/// An account of AWS in one region, and who may use it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) host: EcrHost,
    pub(super) registry_host: RegistryHost,
    /// What stands in front of the registry, where logins are for that.
    pub(super) front: OnceLock<RegistryHost>,
    pub(super) clock: Arc<Clock>,
    pub(super) accounts: Accounts,
    pub(super) registries: Arc<Registries>,
    pub(super) logins: Arc<Logins>,
    pub(super) faults: Faults,
    pub(super) record: Arc<Record>,
    pub(super) packed_limit: usize,
    /// What the index of tags still believes of the fake's own account, while it is stale.
    pub(super) stale_index: Mutex<Option<Index>>,
    pub(super) requests: AtomicU64,
}

impl World {
    /// An identifier in the form of AWS's, unique in this fake.
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
