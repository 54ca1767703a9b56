//! [`ListingCache`]: what a listing of an account knows from earlier calls.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digester::Digester;
use crate::model::{Algorithm, RegistryHost, RepositoryPath};
use crate::private_folder::{Folder, Limits};

/// How long an entry counts. The tag index lags by seconds or minutes.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

const LIMITS: Limits = Limits { max_len: 4 * 1024, kept_for: LIFETIME, most: 1000 };

/// The repositories that this user created within an hour, and whether the tag index can be asked: in memory,
/// and on disk for the user's other processes. A disk that cannot be used is no error.
///
/// The rest is for this process alone.
#[derive(Debug)]
pub(super) struct ListingCache {
    registry: RegistryHost,
    folder: Option<Folder>,
    /// The keys of entries, with the seconds since 1970 at which they were made.
    entries: Mutex<HashMap<String, u64>>,
    account_denied: AtomicBool,
    incomplete: AtomicBool,
}

/// An entry on disk.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    made_at: u64,
}

impl ListingCache {
    /// The cache for one registry, in memory and in a folder `listings` below `directory`.
    pub(super) fn new(registry: &RegistryHost, directory: Option<&Path>) -> Self {
        Self {
            registry: registry.clone(),
            folder: directory.map(|directory| Folder::new(directory.join("listings"), LIMITS)),
            entries: Mutex::default(),
            account_denied: AtomicBool::new(false),
            incomplete: AtomicBool::new(false),
        }
    }

    /// Adds a repository that was just created, or that just got the tag of its organization.
    pub(super) async fn add_created(&self, path: &RepositoryPath) {
        self.add(self.created_key(path)).await;
    }

    /// Removes a repository that was deleted.
    pub(super) async fn remove_created(&self, path: &RepositoryPath) {
        let key = self.created_key(path);
        self.entries().remove(&key);
        self.on_disk(move |folder| folder.remove(&stem(&key))).await;
    }

    /// Returns the repositories that were created within an hour.
    pub(super) async fn created(&self) -> BTreeSet<RepositoryPath> {
        let on_disk = self.on_disk(|folder| {
            let stems = folder.stems()?.into_iter();
            Ok(stems.filter_map(|stem| read(folder, &stem)).collect::<Vec<Entry>>())
        });
        let on_disk = on_disk.await.unwrap_or_default();
        let mut entries = self.entries().clone();
        entries.extend(on_disk.into_iter().map(|entry| (entry.key, entry.made_at)));
        let prefix = self.created_key("");
        let recent = entries.iter().filter(|(_, made_at)| is_recent(**made_at));
        recent.filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse().ok()).collect()
    }

    /// Records that the tag index cannot be asked.
    pub(super) async fn set_index_missing(&self) {
        self.add(self.index_key()).await;
    }

    /// Returns whether the tag index could not be asked within the last hour.
    pub(super) async fn is_index_missing(&self) -> bool {
        let key = self.index_key();
        let in_memory = self.entries().get(&key).copied();
        let made_at = match in_memory {
            Some(made_at) => Some(made_at),
            None => {
                let on_disk = self.on_disk(move |folder| Ok(read(folder, &stem(&key))));
                on_disk.await.flatten().map(|entry| entry.made_at)
            }
        };
        made_at.is_some_and(is_recent)
    }

    /// Records that AWS denies the caller to list the account.
    pub(super) fn set_account_denied(&self) {
        self.account_denied.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_account_denied(&self) -> bool {
        self.account_denied.load(Ordering::Relaxed)
    }

    /// Records that a listing may lack repositories.
    pub(super) fn set_incomplete(&self) {
        self.incomplete.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Relaxed)
    }

    fn created_key(&self, path: impl Display) -> String {
        format!("created {}/{path}", self.registry)
    }

    fn index_key(&self) -> String {
        format!("no index {}", self.registry)
    }

    async fn add(&self, key: String) {
        let entry = Entry { key, made_at: seconds_since_1970() };
        {
            let mut entries = self.entries();
            entries.retain(|_, made_at| is_recent(*made_at));
            entries.insert(entry.key.clone(), entry.made_at);
        }
        self.on_disk(move |folder| {
            folder.write_soon(&stem(&entry.key), &serde_json::to_vec(&entry)?)?;
            folder.sweep()
        })
        .await;
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let folder = self.folder.clone()?;
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        match done.map_err(io::Error::other).flatten() {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::debug!(%error, "the cache of listings cannot be used");
                None
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // The map is whole between any two statements.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(folder: &Folder, stem: &str) -> Option<Entry> {
    let content = folder.read(stem).ok()??;
    serde_json::from_slice(&content).ok()
}

fn stem(key: &str) -> String {
    Digester::digest(Algorithm::Sha256, key.as_bytes()).hex().to_owned()
}

fn is_recent(made_at: u64) -> bool {
    let age = seconds_since_1970().checked_sub(made_at);
    age.is_some_and(|age| age < LIFETIME.as_secs())
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
