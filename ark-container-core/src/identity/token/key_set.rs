//! [`KeySet`]: the public keys of an identity provider.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::claims::TokenProblem;
use crate::encoding::decode;
use crate::error::{Error, ErrorKind, Result, is_untrusted, untrusted};
use crate::files::trusted;
use crate::identity::MAX_FILE_BYTES;
use crate::model::is_loopback;

/// The maximum age of cached keys while reading them again fails.
const STALE_KEYS_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum size of a key set from a URL.
const MAX_KEY_SET_BYTES: u64 = 1024 * 1024;

/// The timeout of one request for keys.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_REDIRECTS: usize = 3;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The public keys of an identity provider: a JSON Web Key Set, in a file or at a URL.
///
/// Clones share the cached keys. The keys are read when the first token is verified.
///
/// # Behavior
/// - A file is read again after a second, and must meet the same
///   [requirements](crate::identity::memberships#safety) as a memberships file.
/// - A URL is requested again after 15 minutes, and at most once a minute when a token names a key that is
///   not in the set. Redirects are followed on the same server only. A response has at most 1 MiB.
/// - If reading fails, the cached keys are used for up to a day, and one warning is logged.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc7517>
#[derive(Debug, Clone)]
pub struct KeySet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: KeySource,
    cache: Mutex<KeyCache>,
    /// Locked while the keys are read.
    reading: tokio::sync::Mutex<()>,
}

/// The cached keys, and the last attempt to read them.
#[derive(Debug, Clone, Default)]
struct KeyCache {
    /// The keys, and the time at which they were read.
    keys: Option<(Arc<Keys>, Instant)>,
    /// The time of the last attempt.
    tried: Option<Instant>,
    /// The error of the last attempt.
    failure: Option<Arc<Error>>,
}

impl KeySet {
    /// Creates the key set of a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(KeySource::File(path.into()))
    }

    /// Creates the key set of a URL, such as `https://auth.example.com/.well-known/jwks.json`.
    ///
    /// # Errors
    /// - [`Error::InvalidInput`] if the URL does not start with `https://` (or `http://` for a loopback
    ///   address), or contains a user name or password
    /// - [`Error::Failed`] if TLS is not available
    pub fn url(url: &str) -> Result<Self> {
        KeySource::url(url).map(Self::new)
    }

    fn new(source: KeySource) -> Self {
        Self(Arc::new(Shared {
            source,
            cache: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }))
    }

    /// Returns the key with this id. Without an id, returns the only key.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Key, TokenProblem> {
        let shared = &self.0;
        let seen = shared.cached();
        let freshness = shared.source.freshness();
        let elapsed =
            |since: Option<Instant>, time| since.is_none_or(|since| since.elapsed() >= time);
        if let Some(key) = seen.find(id, algorithm) {
            let due = elapsed(seen.keys.as_ref().map(|(_, read)| *read), freshness.fresh);
            // While another task reads the keys, the cached keys are used without waiting.
            if !due || shared.reading.try_lock().is_err() {
                return Ok(key);
            }
        }
        if seen.keys.is_none() || elapsed(seen.tried, freshness.pause) {
            shared.read(seen.tried).await?;
        }
        shared.cached().find(id, algorithm).ok_or_else(|| shared.problem(id))
    }
}

impl Shared {
    fn cached(&self) -> KeyCache {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys, unless another task has read them since `seen`.
    ///
    /// The read continues if the caller is cancelled: other tasks wait for the result, and cancelled calls
    /// must not cause more requests.
    async fn read(self: &Arc<Self>, seen: Option<Instant>) -> Result<(), TokenProblem> {
        let shared = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let _reading = shared.reading.lock().await;
            if shared.cached().tried == seen {
                let outcome = shared.source.read().await;
                shared.store(outcome);
            }
        });
        reading.await.map_err(|error| {
            TokenProblem::Unverified(
                Error::failed("the task that reads the keys failed").with_source(error),
            )
        })
    }

    fn store(&self, outcome: Result<Keys>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        cache.tried = Some(now);
        match outcome {
            Ok(keys) => {
                cache.keys = Some((Arc::new(keys), now));
                cache.failure = None;
            }
            Err(error) => {
                if cache.keys.is_some() && cache.failure.is_none() {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, "the cached keys of {} are used", self.source);
                }
                cache.failure = Some(Arc::new(error));
            }
        }
    }

    /// Returns the reason why there is no key with this id.
    fn problem(&self, id: Option<&str>) -> TokenProblem {
        let source = &self.source;
        if let Some(failure) = self.cached().failure {
            let message = format!("the token cannot be verified without the keys of {source}");
            let error = match failure.kind() {
                ErrorKind::Temporary => Error::temporary(message),
                ErrorKind::InvalidInput => Error::invalid(message),
                _ => Error::failed(message),
            };
            return TokenProblem::Unverified(error.with_source(failure));
        }
        TokenProblem::invalid(match id {
            Some(_) => format!("is signed with a key that is not in {source}"),
            None => format!("does not say which of the keys in {source} it is signed with"),
        })
    }
}

impl KeyCache {
    /// Returns the key with this id, or the only key, unless the keys are too old.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Key> {
        let (keys, read) = self.keys.as_ref()?;
        if read.elapsed() > STALE_KEYS_LIFETIME {
            return None;
        }
        keys.find(id, algorithm).cloned()
    }
}

/// The file or URL of a key set.
#[derive(Debug)]
enum KeySource {
    File(PathBuf),
    Url { url: Url, http: Client },
}

/// The intervals at which keys are read.
#[derive(Debug, Clone, Copy)]
struct Freshness {
    /// The time after which the keys are read again.
    fresh: Duration,
    /// The minimum time between two attempts, also after a failure.
    pause: Duration,
}

impl KeySource {
    fn url(text: &str) -> Result<Self> {
        let invalid = |problem: &str| Error::invalid(format!("the URL of the key set {problem}"));
        let url: Url = text.parse().map_err(|_| invalid("is invalid"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("has a user name or password in it; keys are public"));
        }
        let loopback = is_loopback(url.host_str().unwrap_or_default());
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(invalid("must start with https://"));
        }
        let mut http = Client::builder()
            .connect_timeout(REQUEST_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::custom(follow))
            .user_agent(concat!("ark-container/", env!("CARGO_PKG_VERSION")));
        if loopback {
            // A proxy cannot reach a loopback address of this machine.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| {
            Error::failed("cannot create the HTTP client for the key set").with_source(error)
        })?;
        Ok(Self::Url { url, http })
    }

    /// Limits requests to a server, because tokens can name unknown keys. A file may be read each time.
    fn freshness(&self) -> Freshness {
        match self {
            Self::File(_) => {
                Freshness { fresh: Duration::from_secs(1), pause: Duration::from_secs(1) }
            }
            Self::Url { .. } => {
                Freshness { fresh: Duration::from_secs(15 * 60), pause: Duration::from_secs(60) }
            }
        }
    }

    /// Reads the keys.
    async fn read(&self) -> Result<Keys> {
        let content = match self {
            Self::File(path) => {
                let path = path.clone();
                let reading =
                    spawn_blocking(move || trusted::read_trusted(&path, "key set", MAX_FILE_BYTES));
                let read = reading.await;
                read.map_err(|error| {
                    Error::failed("the task that reads the keys failed").with_source(error)
                })??
                .to_vec()
            }
            Self::Url { url, http } => self.fetch(url, http).await?,
        };
        Keys::parse(&content)
            .map_err(|problem| Error::failed(format!("cannot read keys from {self}: {problem}")))
    }

    async fn fetch(&self, url: &Url, http: &Client) -> Result<Vec<u8>> {
        let broken = |error: reqwest::Error| {
            let (what, error) = (format!("GET {self}"), error.without_url());
            if error.is_redirect() {
                Error::failed(what).with_source(error)
            } else if is_untrusted(&error) {
                untrusted(what).with_source(error)
            } else {
                Error::temporary(what).with_source(error)
            }
        };
        let mut response = http.get(url.clone()).send().await.map_err(broken)?;
        let status = response.status();
        if status != StatusCode::OK {
            let message = format!("GET {self}: {status}");
            return Err(if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                Error::temporary(message)
            } else {
                Error::failed(message)
            });
        }
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            content.extend_from_slice(&chunk);
            if content.len() as u64 > MAX_KEY_SET_BYTES {
                let message =
                    format!("GET {self}: the answer is longer than {MAX_KEY_SET_BYTES} bytes");
                return Err(Error::failed(message));
            }
        }
        Ok(content)
    }
}

impl fmt::Display for KeySource {
    /// Writes the file or URL without the URL's query, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url { url, .. } => {
                write!(f, "{}{}", url.origin().ascii_serialization(), url.path())
            }
        }
    }
}

/// Follows a redirect to the same server. Another server must not supply the keys.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let first = attempt.previous().first();
    if first.is_none_or(|first| first.origin() != attempt.url().origin()) {
        attempt.error("it redirects to another server")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects again and again")
    } else {
        attempt.follow()
    }
}

/// The public keys of a JSON Web Key Set that can verify a token.
#[derive(Debug)]
struct Keys(Vec<Key>);

/// A public key, and the algorithms that it may verify.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Keys {
    /// Parses a JSON Web Key Set. Skips keys of other kinds and for other uses, as the standard requires.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc7517#section-5>
    ///
    /// # Errors
    /// The content is not a key set, or no key in it can verify a token.
    fn parse(content: &[u8]) -> Result<Self, &'static str> {
        let document: Document =
            serde_json::from_str(decode(content)?).map_err(|_| "it is not a JSON Web Key Set")?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::parse).collect();
        if keys.is_empty() {
            return Err("it has no public key for signatures by RS, PS, ES or EdDSA");
        }
        Ok(Self(keys))
    }

    /// Returns the key with this id. Without an id, returns the only key. Of several keys with the same id,
    /// returns the one for `algorithm`.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let Some(id) = id else {
            return match self.0.as_slice() {
                [only] => Some(only),
                _ => None,
            };
        };
        let called = || self.0.iter().filter(|key| key.id.as_deref() == Some(id));
        called().find(|key| key.verifies(algorithm)).or_else(|| called().next())
    }
}

impl Key {
    /// Parses a key. Returns `None` if the key cannot verify a token.
    fn parse(key: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let operations = jwk.common.key_operations.as_ref();
        let verifies = operations.is_none_or(|allowed| allowed.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let named = jwk.common.key_algorithm;
        let possible = algorithms(&jwk.algorithm).iter();
        let algorithms: Vec<Algorithm> = possible
            .filter(|algorithm| named.is_none_or(|named| named == KeyAlgorithm::from(**algorithm)))
            .copied()
            .collect();
        if algorithms.is_empty() {
            return None;
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, decoding })
    }

    /// Returns whether the key may verify signatures of this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// Returns the algorithms that a key of this type can verify. Symmetric keys are not accepted: a party that
/// can verify such a signature can also create one.
fn algorithms(form: &AlgorithmParameters) -> &'static [Algorithm] {
    match form {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => &[],
        },
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn key_set_url_is_https_or_loopback() {
        for good in [
            "https://auth.example.com/.well-known/jwks.json",
            "http://127.0.0.1:8080/keys",
            "http://[::1]:8080/keys",
            "http://localhost/keys",
        ] {
            assert_eq!(KeySource::url(good).unwrap().to_string(), good);
        }
        for bad in [
            "http://auth.example.com/keys",
            "http://127.0.0.1.example.com/keys",
            "ftp://localhost/keys",
            "file:///etc/keys.json",
            "keys.json",
            "",
        ] {
            assert!(matches!(KeySource::url(bad), Err(Error::InvalidInput { .. })), "{bad}");
        }
    }

    #[test]
    fn key_set_url_shows_no_secret() {
        let asked = KeySource::url("https://auth.example.com/keys?code=hunter2").unwrap();
        assert_eq!(asked.to_string(), "https://auth.example.com/keys");
        let error = KeySource::url("https://bob:hunter2@auth.example.com/keys").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    /// The key of RFC 7517, appendix A.1.
    fn p256(members: &[(&str, Value)]) -> Value {
        let mut key = json!({
            "kty": "EC", "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        });
        for (name, value) in members {
            key[*name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<Keys, &'static str> {
        Keys::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn key_verifies_algorithms_of_its_form_and_alg() {
        let keys = parse(&[
            p256(&[("kid", "plain".into())]),
            p256(&[("kid", "named".into()), ("use", "sig".into()), ("alg", "ES256".into())]),
            json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "rs384", "alg": "RS384", "n": "AQAB", "e": "AQAB"}),
        ]);
        let keys = keys.unwrap();
        let verifies = |id, algorithm| keys.find(Some(id), algorithm).unwrap().verifies(algorithm);
        for (id, good, bad) in [
            ("plain", &[Algorithm::ES256][..], &[Algorithm::ES384, Algorithm::RS256][..]),
            ("named", &[Algorithm::ES256], &[Algorithm::ES384, Algorithm::HS256]),
            ("rsa", RSA, &[Algorithm::HS256, Algorithm::ES256]),
            ("rs384", &[Algorithm::RS384], &[Algorithm::RS256, Algorithm::PS384]),
        ] {
            assert!(good.iter().all(|algorithm| verifies(id, *algorithm)), "{id}");
            assert!(!bad.iter().any(|algorithm| verifies(id, *algorithm)), "{id}");
        }
        assert!(keys.find(Some("other"), Algorithm::ES256).is_none());
        assert!(keys.find(None, Algorithm::ES256).is_none());
    }

    #[test]
    fn keys_that_cannot_verify_are_skipped() {
        let no_use = [
            p256(&[("use", "enc".into())]),
            p256(&[("key_ops", json!(["sign"]))]),
            p256(&[("key_ops", "verify".into())]),
            p256(&[("alg", "ES384".into())]),
            p256(&[("alg", "HS256".into())]),
            p256(&[("crv", "P-521".into())]),
            p256(&[("x", "not base64!".into())]),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "new", "alg": "new"}),
            json!(7),
        ];
        for key in &no_use {
            assert!(parse(std::slice::from_ref(key)).is_err(), "{key}");
        }
        let only = p256(&[("key_ops", json!(["verify"]))]);
        let keys = parse(&[&no_use[..], &[only]].concat()).unwrap();
        assert!(keys.find(None, Algorithm::ES256).unwrap().verifies(Algorithm::ES256));
    }

    #[test]
    fn key_is_found_by_id_and_algorithm() {
        let rsa = json!({"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"});
        let keys = parse(&[rsa, p256(&[("kid", "1".into())])]).unwrap();
        for algorithm in [Algorithm::RS256, Algorithm::ES256] {
            assert!(keys.find(Some("1"), algorithm).unwrap().verifies(algorithm));
        }
    }

    #[test]
    fn invalid_key_set_is_rejected() {
        for bad in ["", "{}", "[]", "{\"keys\": {}}", "<html>"] {
            assert_eq!(Keys::parse(bad.as_bytes()).unwrap_err(), "it is not a JSON Web Key Set");
        }
        assert!(Keys::parse(b"{\"keys\": []}").unwrap_err().starts_with("it has no public key"));
    }
}
