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

/// What counts for an hour: the repositories that this user created, that the tag index cannot be asked, and
/// that AWS denies the account to a caller.
///
/// In memory, and on disk for the user's other processes. A disk that cannot be used is no error.
#[derive(Debug)]
pub(super) struct ListingCache {
    registry: RegistryHost,
    folder: Option<Folder>,
    /// The keys of entries, with the seconds since 1970 at which they were made.
    entries: Mutex<HashMap<String, u64>>,
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

    /// Returns the repositories that were created.
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

    /// Records that the tag index cannot be asked with credentials from this source.
    pub(super) async fn set_index_missing(&self, credentials_source: &str) {
        self.add(self.index_key(credentials_source)).await;
    }

    /// Returns whether the tag index could not be asked with credentials from this source.
    pub(super) async fn is_index_missing(&self, credentials_source: &str) -> bool {
        self.has(self.index_key(credentials_source)).await
    }

    /// Records that AWS denies the account to the sessions of a role; without one, to the caller of this
    /// process. Only a role is the same in other processes.
    pub(super) async fn set_account_denied(&self, role: Option<&str>) {
        let key = self.denied_key(role);
        match role {
            Some(_) => self.add(key).await,
            None => drop(self.entries().insert(key, seconds_since_1970())),
        }
    }

    /// Returns whether AWS denied the account to the sessions of a role, or to the caller of this process.
    pub(super) async fn is_account_denied(&self, role: Option<&str>) -> bool {
        self.has(self.denied_key(role)).await
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

    fn index_key(&self, credentials_source: &str) -> String {
        format!("no index {} for {credentials_source}", self.registry)
    }

    fn denied_key(&self, role: Option<&str>) -> String {
        format!("account {} denied to {}", self.registry, role.unwrap_or("the caller"))
    }

    async fn has(&self, key: String) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> RepositoryPath {
        format!("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/{name}").parse().unwrap()
    }

    fn cache(host: &str, folder: Option<&Path>) -> ListingCache {
        ListingCache::new(&format!("{host}.example:5000").parse().unwrap(), folder)
    }

    #[tokio::test]
    async fn entries_are_shared_by_processes_of_one_registry() {
        let folder = tempfile::tempdir().unwrap();
        let one = cache("one", Some(folder.path()));
        one.add_created(&path("a")).await;
        one.add_created(&path("b")).await;
        one.set_index_missing("the program").await;
        one.set_account_denied(Some("arn:role/a")).await;
        one.set_account_denied(None).await;
        for other in [&one, &cache("one", Some(folder.path()))] {
            assert_eq!(other.created().await, [path("a"), path("b")].into());
            assert!(other.is_index_missing("the program").await);
            assert!(!other.is_index_missing("the profile").await);
            assert!(other.is_account_denied(Some("arn:role/a")).await);
            assert!(!other.is_account_denied(Some("arn:role/b")).await);
        }
        assert!(one.is_account_denied(None).await);
        assert!(!cache("one", Some(folder.path())).is_account_denied(None).await);
        cache("one", Some(folder.path())).remove_created(&path("a")).await;
        assert_eq!(cache("one", Some(folder.path())).created().await, [path("b")].into());
        let elsewhere = cache("two", Some(folder.path()));
        assert!(elsewhere.created().await.is_empty());
        assert!(!elsewhere.is_index_missing("the program").await);
        assert_eq!(cache("one", None).created().await, BTreeSet::new());
    }

    #[tokio::test]
    async fn entries_count_for_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache("one", Some(folder.path()));
        cache.add_created(&path("a")).await;
        let now = seconds_since_1970();
        for (made_at, counts) in [(now - 3_590, true), (now - 3_600, false), (now + 60, false)] {
            cache.entries().clear();
            let entry = Entry { key: cache.created_key(path("a")), made_at };
            let file = Folder::new(folder.path().join("listings"), LIMITS);
            file.write_soon(&stem(&entry.key), &serde_json::to_vec(&entry).unwrap()).unwrap();
            assert_eq!(!cache.created().await.is_empty(), counts, "{made_at}");
        }
    }
}
