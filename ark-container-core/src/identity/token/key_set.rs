//! [`KeySet`]: the keys that prove where a token is from.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tokio::time::Instant;

use super::key_source::KeySource;
use super::keys::{Key, Keys};
use super::refusal::Refusal;
use crate::error::{Error, Result};

/// How long keys are used that cannot be read anew.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The public keys of an identity provider: a JSON Web Key Set, in a file or at a URL.
///
/// Clones share what was read. Nothing is read before the first token is verified.
///
/// # Behavior
/// - A file is read again when it changes, noticed within a second. It is taken under the same
///   conditions as a [memberships file](crate::identity::memberships#safety).
/// - A URL is asked again after 15 minutes, and when a token names a key that is not in the set, at most
///   once a minute. Redirects are followed on the same server only; an answer is at most 1 MiB.
/// - Where reading fails, the keys that are known go on being used for a day, and the log says so once.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc7517>
#[derive(Debug, Clone)]
pub struct KeySet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: KeySource,
    known: Mutex<Known>,
    /// Held by whoever reads the keys.
    reading: tokio::sync::Mutex<()>,
}

/// What is known of the keys.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The keys, and when they were read.
    keys: Option<(Arc<Keys>, Instant)>,
    /// When they were last read, or failed to be.
    tried: Option<Instant>,
    /// Why they could not be read the last time.
    failure: Option<Arc<Error>>,
}

impl KeySet {
    /// The key set in a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(KeySource::File(path.into()))
    }

    /// The key set at a URL, such as `https://auth.example.com/.well-known/jwks.json`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if it is no URL that starts with `https://`, or `http://` on this machine,
    /// or has a user name or password in it; [`Error::Failed`] if there is no TLS.
    pub fn url(url: &str) -> Result<Self> {
        KeySource::url(url).map(Self::new)
    }

    fn new(source: KeySource) -> Self {
        Self(Arc::new(Shared {
            source,
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }))
    }

    /// The key called `id`, or the only one.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Key, Refusal> {
        let shared = &self.0;
        let seen = shared.known();
        let freshness = shared.source.freshness();
        let elapsed =
            |since: Option<Instant>, time| since.is_none_or(|since| since.elapsed() >= time);
        if let Some(key) = seen.find(id, algorithm) {
            let due = elapsed(seen.keys.as_ref().map(|(_, read)| *read), freshness.fresh);
            // Nobody waits for keys that are being read while the known ones will do.
            if !due || shared.reading.try_lock().is_err() {
                return Ok(key);
            }
        }
        if seen.keys.is_none() || elapsed(seen.tried, freshness.pause) {
            shared.read(seen.tried).await?;
        }
        shared.known().find(id, algorithm).ok_or_else(|| shared.refusal(id))
    }
}

impl Shared {
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys, unless somebody has since `seen`.
    ///
    /// It goes on when its caller is gone, so that the others who wait get what they wait for, and
    /// nobody can make the server be asked more often by hanging up.
    async fn read(self: &Arc<Self>, seen: Option<Instant>) -> Result<(), Refusal> {
        let shared = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let _reading = shared.reading.lock().await;
            if shared.known().tried == seen {
                let outcome = shared.source.read().await;
                shared.learn(outcome);
            }
        });
        reading.await.map_err(|error| {
            Refusal::Unjudged(Error::failed("the reading of keys ended").with_source(error))
        })
    }

    fn learn(&self, outcome: Result<Keys>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.tried = Some(now);
        match outcome {
            Ok(keys) => {
                known.keys = Some((Arc::new(keys), now));
                known.failure = None;
            }
            Err(error) => {
                if known.keys.is_some() && known.failure.is_none() {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, "the keys that are known go on being used");
                }
                known.failure = Some(Arc::new(error));
            }
        }
    }

    /// Why there is no key called `id`.
    fn refusal(&self, id: Option<&str>) -> Refusal {
        let source = &self.source;
        if let Some(failure) = self.known().failure {
            let message = format!("the token cannot be verified without the keys of {source}");
            let error = match failure.is_temporary() {
                true => Error::temporary(message),
                false => Error::failed(message),
            };
            return Refusal::Unjudged(error.with_source(failure));
        }
        Refusal::token(match id {
            Some(_) => format!("is signed with a key that is not in {source}"),
            None => format!("does not say which of the keys in {source} it is signed with"),
        })
    }
}

impl Known {
    /// The key called `id`, or the only one, unless all are too old.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Key> {
        let (keys, read) = self.keys.as_ref()?;
        if read.elapsed() > KEEP {
            return None;
        }
        keys.find(id, algorithm).cloned()
    }
}
