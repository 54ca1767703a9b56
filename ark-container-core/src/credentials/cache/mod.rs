//! [`CredentialsCache`]: caches logins in memory and on disk until they expire.
//!
//! # Cache key
//! A [`CacheKey`] consists of registry, identity, role and scope. The backend chooses the identity, which must be
//! known without a request. The cache only compares it. The identity of an AWS caller contains a hash of the access
//! key. A caller with a new key, as in each new session, therefore gets a new login.
//!
//! # Files
//! Each login has its own file, which is named by a hash of the key, readable by its owner only, and replaced
//! atomically. The file contains its key in clear, which detects a copy of another file. A file that others can read,
//! that belongs to another user or that is invalid is renamed to a name with `.refused-`, with a warning. Programs of
//! the same user can read each other's logins: the cache separates identities, not programs.
//!
//! # Concurrency
//! A fetch holds a lock that all processes of the user share, so that many concurrent builds make one request. A login
//! is renewed when between a tenth and a fifth of its lifetime remains. The exact share is random in each process. If
//! the cache cannot be used, logins work without it, with a warning.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use etcetera::BaseStrategy;
use tokio::time::{Instant, sleep};

use super::RegistryCredentials;
use crate::error::{Error, Result};
use crate::model::RegistryHost;
use crate::observability::LOGINS;
use crate::private_folder::{Folder, Limits};
pub use entry::CacheKey;
use entry::Login;

const LIMITS: Limits = Limits {
    prefix: "login",
    max_bytes: 64 * 1024,
    // Longer than the lifetime of any login: those of ECR are valid for 12 hours.
    max_age: Duration::from_secs(24 * 60 * 60),
    max_files: usize::MAX,
};

/// The time limit of the wait for the fetch of another process. Afterwards this process fetches too.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval between attempts to take the lock.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A cache of logins by key. Clones share their logins.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use ark_container_core::credentials::cache::{CacheKey, CredentialsCache};
/// use ark_container_core::credentials::{Password, RegistryCredentials};
/// use ark_container_core::model::{Access, OrganizationId, RegistryHost, Scope, Stage};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().join("credentials");
/// let cache = CredentialsCache::open(folder);
/// let host: RegistryHost = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse()?;
/// let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
/// let key = CacheKey::new(host.clone(), "profile builds", None, scope.clone());
/// let fetch = || async {
///     let expires_at = SystemTime::now() + Duration::from_secs(3600);
///     Ok(RegistryCredentials::new(host, Password::new("secret".to_owned()), expires_at, scope))
/// };
/// let first = cache.get_or_fetch(&key, fetch).await?;
/// let again = cache.get_or_fetch(&key, || async { unreachable!("the login is cached") }).await?;
/// assert_eq!(first.password.expose(), again.password.expose());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CredentialsCache {
    memory: Arc<std::sync::Mutex<HashMap<CacheKey, Slot>>>,
    folder: Option<Folder>,
}

/// One login. The holder of the mutex may fetch it.
type Slot = Arc<tokio::sync::Mutex<Option<Login>>>;

impl CredentialsCache {
    /// Creates a cache that only this process uses.
    pub fn in_memory() -> Self {
        Self { memory: Arc::default(), folder: None }
    }

    /// Creates a cache in this folder, which all processes of the user may share.
    ///
    /// The folder is created when the first login is cached.
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self { folder: Some(Folder::new(directory.into(), LIMITS)), ..Self::in_memory() }
    }

    /// Returns the folder that all programs of the user share, `$XDG_CACHE_HOME/ark/credentials`; `None` if
    /// the user has no home directory.
    ///
    /// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>
    pub fn user_directory() -> Option<PathBuf> {
        let folders = etcetera::base_strategy::Xdg::new().ok()?;
        Some(folders.cache_dir().join("ark/credentials"))
    }

    /// Returns the cached login of `key`, or calls `fetch` if the login is missing or expires soon.
    ///
    /// # Behavior
    /// - Of concurrent calls with the same key, in all processes, one fetches and the others wait for it.
    /// - A fetched login that has already expired, by the clock of this machine, is returned but not cached.
    /// - If `fetch` fails with a temporary error, a cached login that is still valid is returned.
    /// - A login that was [marked](RegistryCredentials::mark_refused) as rejected is not returned again. The
    ///   next login replaces it on disk.
    /// - The future may be dropped at any time: no partial file remains, and the next call fetches.
    ///
    /// # Errors
    /// Those of `fetch`. A failure of the disk is a warning in the log.
    pub async fn get_or_fetch<F>(
        &self,
        key: &CacheKey,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<RegistryCredentials>
    where
        F: Future<Output = Result<RegistryCredentials>> + Send,
    {
        self.get_or_fetch_lasting(key, Duration::ZERO, fetch).await
    }

    /// Like [`get_or_fetch`](Self::get_or_fetch), but never returns a cached login that expires before
    /// `min_remaining` has passed. A fetched login is returned even if it expires earlier.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub(crate) async fn get_or_fetch_lasting<F>(
        &self,
        key: &CacheKey,
        min_remaining: Duration,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<RegistryCredentials>
    where
        F: Future<Output = Result<RegistryCredentials>> + Send,
    {
        let share = min_remaining_share();
        let slot = self.slot(key);
        let mut held = slot.lock().await;
        let lasting = |login: &&Login| login.is_valid_for(min_remaining, SystemTime::now());
        let fresh = |login: &&Login| login.is_fresh(SystemTime::now(), share) && lasting(login);
        // The file may still contain the rejected login.
        let refused = held.take_if(|login| login.credentials.is_refused());
        let other = |login: &Login| refused.as_ref().is_none_or(|refused| !login.is_same(refused));
        if let Some(login) = held.as_ref().filter(fresh) {
            count_login("memory");
            return Ok(login.credentials.clone());
        }
        let read = self.read(key, false).await.filter(other);
        if let Some(login) = read.filter(|login| fresh(&login)) {
            count_login("disk");
            return Ok(held.insert(login).credentials.clone());
        }
        let _lock = self.lock(&key.file_stem()).await;
        // Another process may have fetched a login in the meantime.
        if let Some(login) = self.read(key, true).await.filter(other) {
            *held = Some(login);
        }
        if let Some(login) = held.as_ref().filter(fresh) {
            count_login("disk");
            return Ok(login.credentials.clone());
        }
        match fetch().await {
            Ok(credentials) => {
                let login = Login { credentials, obtained_at: SystemTime::now() };
                if login.is_valid(login.obtained_at) {
                    self.write(key, &login).await;
                    *held = Some(login.clone());
                } else {
                    tracing::warn!(
                        "the login to {} had expired when it was received, so it is not cached: the clock of \
                         this machine or of the registry is wrong",
                        key.registry()
                    );
                }
                count_login("registry");
                Ok(login.credentials)
            }
            Err(error) if error.is_temporary() => {
                let cached = held.as_ref().filter(lasting);
                let Some(cached) = cached else { return Err(error) };
                tracing::info!(
                    registry = %key.registry(),
                    %error,
                    "renewal failed, so the cached login is used"
                );
                count_login("memory");
                Ok(cached.credentials.clone())
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes the logins of one registry or all logins, and returns the number of deleted files.
    ///
    /// Renamed invalid files are deleted only with all logins.
    ///
    /// # Errors
    /// [`Error::Failed`] if a file cannot be deleted.
    pub async fn clear(&self, registry: Option<&RegistryHost>) -> Result<usize> {
        let matches = |host: &RegistryHost| registry.is_none_or(|registry| registry == host);
        self.memory().retain(|key, _| !matches(key.registry()));
        let registry = registry.cloned();
        let cleared = self.on_disk(move |folder| {
            let matches = |stem: &str| match &registry {
                None => Ok(true),
                Some(registry) => {
                    let content = match folder.read(stem) {
                        Err(error) if error.kind() == ErrorKind::InvalidData => None,
                        content => content?,
                    };
                    let host = content.and_then(|content| entry::registry_of(&content));
                    io::Result::Ok(host.as_ref() == Some(registry))
                }
            };
            let mut removed = 0;
            for stem in folder.stems()? {
                if matches(&stem)? && folder.remove(&stem)? {
                    removed += 1;
                }
            }
            if registry.is_none() {
                folder.remove_leftovers()?;
            }
            Ok(removed)
        });
        match (cleared.await, &self.folder) {
            (Some(Err(error)), Some(folder)) => {
                let message = format!("cannot clear the cache {}", folder.path().display());
                Err(Error::failed(message).with_source(error))
            }
            (cleared, _) => Ok(cleared.and_then(io::Result::ok).unwrap_or_default()),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<CacheKey, Slot>> {
        // A panic cannot leave the map in an invalid state.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, key: &CacheKey) -> Slot {
        let mut memory = self.memory();
        if let Some(slot) = memory.get(key) {
            return Arc::clone(slot);
        }
        // Without this, a program that acts for many principals would keep all expired logins.
        let now = SystemTime::now();
        memory.retain(|_, slot| match slot.try_lock() {
            Ok(held) => held.as_ref().is_some_and(|login| login.is_valid(now)),
            Err(_) => true,
        });
        Arc::clone(memory.entry(key.clone()).or_default())
    }

    /// Reads the login from disk. `quarantines` renames an invalid file, which only the holder of the lock may do.
    async fn read(&self, key: &CacheKey, quarantines: bool) -> Option<Login> {
        let key = key.clone();
        let read = self.on_disk(move |folder| {
            let stem = key.file_stem();
            let login = folder.read(&stem).and_then(|content| {
                let login = content.map(|content| Login::from_json(&content, &key));
                login.transpose().map_err(|bad| io::Error::new(ErrorKind::InvalidData, bad))
            });
            match login {
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    if quarantines {
                        let file = folder.file(&stem);
                        let quarantined = folder.quarantine(&stem)?;
                        tracing::warn!(
                            "the cached login {} was moved to {}: {error}",
                            file.display(),
                            quarantined.display()
                        );
                    }
                    Ok(None)
                }
                login => login,
            }
        });
        self.warn_of(read.await).flatten()
    }

    async fn write(&self, key: &CacheKey, login: &Login) {
        let (key, login) = (key.clone(), login.clone());
        let written = self.on_disk(move |folder| {
            let json = login.to_json(&key).map_err(io::Error::other)?;
            folder.write(&key.file_stem(), &json)?;
            folder.sweep()
        });
        self.warn_of(written.await);
    }

    /// Takes the lock of a file. Returns `None` without a usable folder or after [`LOCK_TIMEOUT`].
    async fn lock(&self, stem: &str) -> Option<File> {
        let started = Instant::now();
        loop {
            let stem = stem.to_owned();
            // A wait on a thread could not be cancelled, and would delay the end of the program.
            let lock = self.on_disk(move |folder| folder.try_lock(&stem)).await;
            match self.warn_of(lock)? {
                Some(lock) => return Some(lock),
                None if started.elapsed() > LOCK_TIMEOUT => {
                    tracing::info!("timed out waiting for the login of another process");
                    return None;
                }
                None => sleep(LOCK_POLL_INTERVAL).await,
            }
        }
    }

    /// Runs `work` with the folder, if there is one, on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Option<io::Result<T>> {
        let folder = self.folder.clone()?;
        let work = tokio::task::spawn_blocking(move || work(&folder)).await;
        Some(work.unwrap_or_else(|error| Err(io::Error::other(error))))
    }

    /// Returns the result of work on the disk. An error becomes a warning and `None`.
    fn warn_of<T>(&self, outcome: Option<io::Result<T>>) -> Option<T> {
        let folder = self.folder.as_ref()?.path().display();
        let warn = |error: &io::Error| {
            tracing::warn!("the login cache in {folder} cannot be used: {error}")
        };
        outcome?.inspect_err(warn).ok()
    }
}

/// Counts a login by its source.
fn count_login(source: &'static str) {
    metrics::counter!(LOGINS, "source" => source).increment(1);
}

/// Returns the minimum remaining share of the lifetime of a usable login: a random number from 0.1 to 0.2.
fn min_remaining_share() -> f64 {
    let random = RandomState::new().hash_one(());
    // The upper 32 bits as a number from 0 to 1.
    let random = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
    0.1 + random / 10.0
}
