//! [`CredentialsCache`]: logins that are good for a while, kept in memory and on disk.
//!
//! # What a login is remembered by
//! A [`CacheKey`]: registry, identity, role and scope. The identity is a text of the backend's making
//! which must be known without a call; the cache only compares it. In AWS it has a hash of the access key:
//! a caller whose key changes, as with each session, gets a login of their own.
//!
//! # What is kept where
//! Each login is a file of its own, named by a hash of its key, readable by its owner only, and
//! replaced as a whole. The key stands in the file in clear, so that the copy of another file is not
//! taken for it. A file that others can read, that is another user's, or that makes no sense is
//! set aside under a name with `.refused-`, with a warning. Programs that run as the same user can read
//! each other's logins: the cache keeps identities from being mixed up, not programs apart.
//!
//! # Many at once
//! A fetch holds a lock that all processes of the user share, so that many builds which start
//! together make one call. A login is fetched anew before it expires, when between a tenth and a
//! fifth of its life is left, at a moment that differs from process to process. Where the cache cannot be used,
//! logins work without it, with a warning.

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
    // No login is good for as long as this: ECR's are for 12 hours.
    max_age: Duration::from_secs(24 * 60 * 60),
    max_files: usize::MAX,
};

/// How long one process waits for another to fetch, before it does so too.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it looks whether the other is done.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Logins by key. Clones share what they hold.
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
/// let again = cache.get_or_fetch(&key, || async { unreachable!("it is remembered") }).await?;
/// assert_eq!(first.password.expose(), again.password.expose());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CredentialsCache {
    memory: Arc<std::sync::Mutex<HashMap<CacheKey, Slot>>>,
    folder: Option<Folder>,
}

/// One login, and the turn to fetch it.
type Slot = Arc<tokio::sync::Mutex<Option<Login>>>;

impl CredentialsCache {
    /// A cache of this process alone.
    pub fn in_memory() -> Self {
        Self { memory: Arc::default(), folder: None }
    }

    /// A cache in this folder, which all processes of the user may share.
    ///
    /// Nothing is read or created before it is needed.
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self { folder: Some(Folder::new(directory.into(), LIMITS)), ..Self::in_memory() }
    }

    /// The folder that a user's programs share, `$XDG_CACHE_HOME/ark/credentials`; `None` if the user
    /// has no home.
    ///
    /// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>
    pub fn user_directory() -> Option<PathBuf> {
        let folders = etcetera::base_strategy::Xdg::new().ok()?;
        Some(folders.cache_dir().join("ark/credentials"))
    }

    /// The login of `key`, by `fetch` where none is at hand or the one at hand is about to expire.
    ///
    /// # Behavior
    /// - Of all that ask for one key at once, in all processes, one fetches; the others wait for it.
    /// - A login that has expired when it comes, by this machine's clock, is answered but not kept.
    /// - Where fetching fails for now and the login at hand is still good, that is the answer.
    /// - A login that was [marked](RegistryCredentials::mark_refused) as refused is not answered again,
    ///   and the next one takes its place on disk.
    /// - It may be dropped at any moment: no half file stays, and the next one fetches.
    ///
    /// # Errors
    /// Those of `fetch`. That the disk cannot be used is a warning in the log.
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

    /// Like [`get_or_fetch`](Self::get_or_fetch), but never answers a cached login that has less than
    /// `min_remaining` left. A fetched login is returned however little is left of it.
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
        // The disk may still have it.
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
        // Another process may have fetched it meanwhile.
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
                let good = held.as_ref().filter(lasting);
                let Some(good) = good else { return Err(error) };
                tracing::info!(registry = %key.registry(), %error, "the cached login is used once more");
                count_login("memory");
                Ok(good.credentials.clone())
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets the logins of one registry, or all; how many files that were.
    ///
    /// Files that were set aside stay.
    ///
    /// # Errors
    /// [`Error::Failed`] if a file cannot be removed.
    pub async fn clear(&self, registry: Option<&RegistryHost>) -> Result<usize> {
        let concerned = |host: &RegistryHost| registry.is_none_or(|registry| registry == host);
        self.memory().retain(|key, _| !concerned(key.registry()));
        let registry = registry.cloned();
        let cleared = self.on_disk(move |folder| {
            let concerned = |stem: &str| match &registry {
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
                if concerned(&stem)? && folder.remove(&stem)? {
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
        // The map is whole between any two statements.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, key: &CacheKey) -> Slot {
        let mut memory = self.memory();
        if let Some(slot) = memory.get(key) {
            return Arc::clone(slot);
        }
        // A program that acts for many principals would gather the logins of all that ever came.
        let now = SystemTime::now();
        memory.retain(|_, slot| match slot.try_lock() {
            Ok(held) => held.as_ref().is_some_and(|login| login.is_valid(now)),
            Err(_) => true,
        });
        Arc::clone(memory.entry(key.clone()).or_default())
    }

    /// What the disk has. A file that does not count is moved out of the way if `set_aside`, which
    /// only the lock's holder may ask for.
    async fn read(&self, key: &CacheKey, set_aside: bool) -> Option<Login> {
        let key = key.clone();
        let read = self.on_disk(move |folder| {
            let stem = key.file_stem();
            let login = folder.read(&stem).and_then(|content| {
                let login = content.map(|content| Login::from_json(&content, &key));
                login.transpose().map_err(|bad| io::Error::new(ErrorKind::InvalidData, bad))
            });
            match login {
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    if set_aside {
                        let file = folder.file(&stem);
                        let aside = folder.set_aside(&stem)?;
                        tracing::warn!(
                            "the cached login {} was moved to {}: {error}",
                            file.display(),
                            aside.display()
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

    /// The lock that goes with a file; `None` if there is no way to have it, or it takes too long.
    async fn lock(&self, stem: &str) -> Option<File> {
        let started = Instant::now();
        loop {
            let stem = stem.to_owned();
            // Waiting on a thread could not be ended, and would hold up the end of the program.
            let lock = self.on_disk(move |folder| folder.try_lock(&stem)).await;
            match self.warn_of(lock)? {
                Some(lock) => return Some(lock),
                None if started.elapsed() > LOCK_TIMEOUT => {
                    tracing::info!("another process takes long to log in; not waiting for it");
                    return None;
                }
                None => sleep(LOCK_POLL_INTERVAL).await,
            }
        }
    }

    /// Does something with the folder, if there is one, on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Option<io::Result<T>> {
        let folder = self.folder.clone()?;
        let work = tokio::task::spawn_blocking(move || work(&folder)).await;
        Some(work.unwrap_or_else(|error| Err(io::Error::other(error))))
    }

    /// What came of work on the disk, where that is not worth failing for.
    fn warn_of<T>(&self, outcome: Option<io::Result<T>>) -> Option<T> {
        let folder = self.folder.as_ref()?.path().display();
        let warn = |error: &io::Error| {
            tracing::warn!("the login cache in {folder} cannot be used: {error}")
        };
        outcome?.inspect_err(warn).ok()
    }
}

/// Counts a login by where it was had.
fn count_login(source: &'static str) {
    metrics::counter!(LOGINS, "source" => source).increment(1);
}

/// The share of a login's life that must be left for it to be used: from 0.1 to 0.2, at random.
fn min_remaining_share() -> f64 {
    let random = RandomState::new().hash_one(());
    // The upper 32 bits of it, as a number from 0 to 1.
    let random = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
    0.1 + random / 10.0
}
