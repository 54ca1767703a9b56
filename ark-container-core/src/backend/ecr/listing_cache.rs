//! [`ListingCache`]: caches facts of earlier calls for the listings of an account.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digester::Digester;
use crate::model::{Algorithm, RegistryHost, RepositoryPath};
use crate::private_folder::{Folder, Limits};

/// The lifetime of an entry. The tag index lags by seconds or minutes.
const ENTRY_LIFETIME: Duration = Duration::from_secs(60 * 60);

const LIMITS: Limits =
    Limits { prefix: "", max_bytes: 4 * 1024, max_age: ENTRY_LIFETIME, max_files: 1000 };

/// A fact from an earlier call. Listings use it for an hour.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fact<'a> {
    /// The user created the repository, or requested the creation of an existing one, which adds its tag.
    Created(&'a RepositoryPath),
    /// The tag index is unavailable with credentials from this source.
    IndexMissing(&'a str),
    /// AWS denies the listing of the account to sessions of this role, or to the caller of this process.
    AccountDenied(Option<&'a str>),
}

/// Facts about the account of a registry: in memory, and on disk for other processes of the user. A failure of the
/// disk is ignored.
#[derive(Debug)]
pub(super) struct ListingCache {
    registry: RegistryHost,
    folder: Option<Folder>,
    /// The keys of facts, with their times in seconds since 1970.
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
    /// Creates the cache for one registry, in memory and in the folder `listings` below `directory`.
    pub(super) fn new(registry: &RegistryHost, directory: Option<&Path>) -> Self {
        Self {
            registry: registry.clone(),
            folder: directory.map(|directory| Folder::new(directory.join("listings"), LIMITS)),
            entries: Mutex::default(),
            incomplete: AtomicBool::new(false),
        }
    }

    pub(super) async fn add(&self, fact: Fact<'_>) {
        let entry = Entry { key: self.key(fact), made_at: seconds_since_1970() };
        {
            let mut entries = self.entries();
            entries.retain(|_, made_at| is_recent(*made_at));
            entries.insert(entry.key.clone(), entry.made_at);
        }
        // Other processes may have other callers.
        if matches!(fact, Fact::AccountDenied(None)) {
            return;
        }
        self.on_disk(move |folder| {
            folder.write_without_sync(&stem(&entry.key), &serde_json::to_vec(&entry)?)?;
            folder.sweep()
        })
        .await;
    }

    pub(super) async fn remove(&self, fact: Fact<'_>) {
        let key = self.key(fact);
        self.entries().remove(&key);
        self.on_disk(move |folder| folder.remove(&stem(&key))).await;
    }

    pub(super) async fn has(&self, fact: Fact<'_>) -> bool {
        let key = self.key(fact);
        if self.entries().get(&key).copied().is_some_and(is_recent) {
            return true;
        }
        let on_disk = self.on_disk(move |folder| Ok(read(folder, &stem(&key))));
        on_disk.await.flatten().is_some_and(|entry| is_recent(entry.made_at))
    }

    /// Returns the repositories that this user created in the last hour.
    pub(super) async fn created(&self) -> BTreeSet<RepositoryPath> {
        let on_disk = self.on_disk(|folder| {
            let stems = folder.stems()?.into_iter();
            Ok(stems.filter_map(|stem| read(folder, &stem)).collect::<Vec<Entry>>())
        });
        let on_disk = on_disk.await.unwrap_or_default();
        let mut entries = self.entries().clone();
        entries.extend(on_disk.into_iter().map(|entry| (entry.key, entry.made_at)));
        let prefix = self.created_prefix();
        let recent = entries.iter().filter(|(_, made_at)| is_recent(**made_at));
        recent.filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse().ok()).collect()
    }

    /// Records that a listing may lack repositories.
    pub(super) fn set_incomplete(&self) {
        self.incomplete.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Relaxed)
    }

    fn key(&self, fact: Fact<'_>) -> String {
        let registry = &self.registry;
        match fact {
            Fact::Created(path) => format!("{}{path}", self.created_prefix()),
            Fact::IndexMissing(source) => format!("no tag index of {registry} for {source}"),
            Fact::AccountDenied(role) => format!("account of {registry} denied to {role:?}"),
        }
    }

    fn created_prefix(&self) -> String {
        format!("created {}/", self.registry)
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
                tracing::debug!(%error, "the listing cache cannot be used");
                None
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // A panic cannot leave the map in an invalid state.
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
    age.is_some_and(|age| age < ENTRY_LIFETIME.as_secs())
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
        let role = Fact::AccountDenied(Some("arn:role/a"));
        let missing = Fact::IndexMissing("the program");
        for fact in [Fact::Created(&path("a")), Fact::Created(&path("b")), missing, role] {
            one.add(fact).await;
        }
        one.add(Fact::AccountDenied(None)).await;
        for other in [&one, &cache("one", Some(folder.path()))] {
            assert_eq!(other.created().await, [path("a"), path("b")].into());
            assert!(other.has(missing).await && other.has(role).await);
            assert!(!other.has(Fact::IndexMissing("the profile")).await);
            assert!(!other.has(Fact::AccountDenied(Some("arn:role/b"))).await);
        }
        assert!(one.has(Fact::AccountDenied(None)).await);
        assert!(!cache("one", Some(folder.path())).has(Fact::AccountDenied(None)).await);
        cache("one", Some(folder.path())).remove(Fact::Created(&path("a"))).await;
        assert_eq!(cache("one", Some(folder.path())).created().await, [path("b")].into());
        let elsewhere = cache("two", Some(folder.path()));
        assert!(elsewhere.created().await.is_empty());
        assert!(!elsewhere.has(missing).await);
        assert_eq!(cache("one", None).created().await, BTreeSet::new());
    }

    #[tokio::test]
    async fn entries_expire_after_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache("one", Some(folder.path()));
        let now = seconds_since_1970();
        for (made_at, is_valid) in [(now - 3_590, true), (now - 3_600, false), (now + 60, false)] {
            let entry = Entry { key: cache.key(Fact::Created(&path("a"))), made_at };
            let file = Folder::new(folder.path().join("listings"), LIMITS);
            file.write_without_sync(&stem(&entry.key), &serde_json::to_vec(&entry).unwrap())
                .unwrap();
            assert_eq!(!cache.created().await.is_empty(), is_valid, "{made_at}");
        }
    }
}
