//! [`Login`]: what a client shows to its registry: credentials, or a token of the login service that the
//! registry names.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::client::RESPONSE_TIMEOUT;
use super::error::{DistributionError, broken, redacted, silent};
use super::response::{MAX_ERROR_BODY_LEN, parse_json, read_up_to, read_whole};
use crate::credentials::{Password, RegistryCredentials};
use crate::error::{Error, Result};

/// Where a client gets new credentials from when its registry refuses those that it has.
///
/// Those that were refused have been [marked](RegistryCredentials::mark_refused) before it is asked, so
/// that no cache gives them out again.
#[async_trait]
pub trait Authenticate: fmt::Debug + Send + Sync {
    /// New credentials for what the refused ones were for.
    ///
    /// # Errors
    /// Whatever keeps it from getting any.
    async fn renew(&self) -> Result<RegistryCredentials>;
}

/// What a client shows, which changes while it runs. All clones of a client share it.
#[derive(Debug)]
pub(super) struct Login {
    shown: RwLock<Shown>,
    /// Held by the one that asks for something better; the others wait and use what it gets.
    turn: tokio::sync::Mutex<()>,
    authenticate: Option<Arc<dyn Authenticate>>,
}

/// What is shown at a moment.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    credentials: Option<RegistryCredentials>,
    token: Option<Token>,
    /// Counts what was shown before.
    generation: u64,
}

/// A registry's refusal of what it was shown.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) generation: u64,
    pub(super) challenge: Option<Challenge>,
    /// Whether the registry said so, and not something that may mean it.
    pub(super) certain: bool,
}

impl Login {
    pub(super) fn new(credentials: Option<RegistryCredentials>) -> Self {
        let shown = Shown { credentials, token: None, generation: 0 };
        Self { shown: RwLock::new(shown), turn: tokio::sync::Mutex::default(), authenticate: None }
    }

    /// A login that starts with what this one shows now.
    pub(super) fn with(&self, authenticate: Arc<dyn Authenticate>) -> Self {
        let shown = RwLock::new(self.shown());
        let turn = tokio::sync::Mutex::default();
        Self { shown, turn, authenticate: Some(authenticate) }
    }

    /// What to show now. A token that is about to run out is replaced first.
    pub(super) async fn current(&self, http: &reqwest::Client, base: &Url) -> Result<Shown> {
        let shown = self.shown();
        match &shown.token {
            Some(token) if token.is_stale() => {
                let challenge = Some(token.challenge().clone());
                let refused = Refused { generation: shown.generation, challenge, certain: true };
                self.replace(http, base, refused).await?;
                Ok(self.shown())
            }
            _ => Ok(shown),
        }
    }

    /// Gets something better than what was refused; whether there is any.
    ///
    /// Of all whose login was refused at once, one asks.
    pub(super) async fn replace(
        &self,
        http: &reqwest::Client,
        base: &Url,
        refused: Refused,
    ) -> Result<bool> {
        let _turn = self.turn.lock().await;
        let shown = self.shown();
        if shown.generation != refused.generation {
            return Ok(true);
        }
        let Some(challenge) = refused.challenge else {
            return match self.renew(&shown).await? {
                Some(credentials) => Ok(self.show(Some(credentials), None)),
                None => Ok(false),
            };
        };
        match Token::fetch(http, base, &challenge, shown.credentials.as_ref()).await {
            Ok(token) => Ok(self.show(shown.credentials, Some(token))),
            // The login service too wants to know who is asking.
            Err(refusal @ Error::Unauthenticated { .. }) => {
                let Some(credentials) = self.renew(&shown).await? else { return Err(refusal) };
                let token = Token::fetch(http, base, &challenge, Some(&credentials)).await?;
                Ok(self.show(Some(credentials), Some(token)))
            }
            Err(error) => Err(error),
        }
    }

    /// New credentials in place of those that were refused, if there is a way to have any.
    async fn renew(&self, shown: &Shown) -> Result<Option<RegistryCredentials>> {
        if let Some(credentials) = &shown.credentials {
            credentials.mark_refused();
        }
        match &self.authenticate {
            Some(authenticate) => authenticate.renew().await.map(Some),
            None => Ok(None),
        }
    }

    /// Shows something else from now on.
    fn show(&self, credentials: Option<RegistryCredentials>, token: Option<Token>) -> bool {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let generation = shown.generation + 1;
        *shown = Shown { credentials, token, generation };
        true
    }

    fn shown(&self) -> Shown {
        // It is replaced as a whole, so a panic elsewhere does not spoil it.
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whom the registry takes one for; `None` for nobody in particular.
    pub(super) fn username(&self) -> Option<&str> {
        self.credentials.as_ref().map(|credentials| credentials.username.as_str())
    }

    /// Puts it into a request.
    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.token, &self.credentials) {
            (Some(token), _) => request.bearer_auth(token.expose()),
            (None, Some(credentials)) => {
                request.basic_auth(&credentials.username, Some(credentials.password.expose()))
            }
            (None, None) => request,
        }
    }
}

/// A registry's wish for a token of a login service.
///
/// Source: <https://distribution.github.io/distribution/spec/auth/token/>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The URL of the login service.
    pub(super) realm: String,
    pub(super) service: Option<String>,
    /// What the token is for; several are separated by spaces.
    pub(super) scope: Option<String>,
}

impl Challenge {
    /// The wish for a token among the challenges of an answer; `None` where a password is wanted.
    pub(super) fn find(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
        values.filter_map(|value| value.to_str().ok()).find_map(Self::parse)
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, mut rest) = value.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        while let Some((name, value, after)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        Some(Self { realm: realm?, service, scope })
    }
}

/// The first of `name=value, …`, and what comes after it. A value in quotes may have commas.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-11.2>
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        return Some((name, rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some((name, value, &quoted[at + 1..])),
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

/// How long a token is good where the service does not say.
const DEFAULT_LIFETIME: u64 = 60;
/// The most that a service may say; it is no reason to fail that a number fits into no time.
const LONGEST_LIFETIME: u64 = 24 * 60 * 60;
/// A token is replaced when so much of its life is left: a request takes time to arrive.
const MARGIN: Duration = Duration::from_secs(10);

/// A token for what a challenge asked for.
#[derive(Debug, Clone)]
pub(super) struct Token {
    token: Password,
    challenge: Challenge,
    good_until: Instant,
}

impl Token {
    /// Asks the service that a challenge names, with a password where there is one.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if the service refuses; [`Error::Temporary`] where it cannot be reached
    /// or fails for now; [`Error::Failed`] where the password would go to another host in clear, or the
    /// answer makes no sense.
    pub(super) async fn fetch(
        http: &reqwest::Client,
        base: &Url,
        challenge: &Challenge,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<Self> {
        let url = service_url(base, challenge)?;
        let asked_at = Instant::now();
        let mut request = http.get(url.clone());
        if let Some(credentials) = credentials {
            request =
                request.basic_auth(&credentials.username, Some(credentials.password.expose()));
        }
        let answer = timeout(RESPONSE_TIMEOUT, request.send()).await;
        let answer = answer.map_err(|_| silent(&Method::GET, &url))?;
        let mut response = answer.map_err(|error| broken(&Method::GET, &url, error))?;
        if response.status() != StatusCode::OK {
            let (body, _) = read_up_to(&mut response, MAX_ERROR_BODY_LEN).await;
            return Err(refused(&url, &response, &body));
        }
        let body = read_whole(&mut response, MAX_ERROR_BODY_LEN).await?;
        let Answer { token, access_token, expires_in } = parse_json(&response, &body)?;
        let Some(token) = token.or(access_token).filter(|token| !token.is_empty()) else {
            let message = format!("GET {}: the answer has no token", redacted(&url));
            return Err(Error::failed(message));
        };
        let good_until = asked_at + lifetime(expires_in).saturating_sub(MARGIN);
        Ok(Self { token: Password::new(token), challenge: challenge.clone(), good_until })
    }

    pub(super) fn is_stale(&self) -> bool {
        self.good_until <= Instant::now()
    }

    /// What it was asked for with.
    pub(super) fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    pub(super) fn expose(&self) -> &str {
        self.token.expose()
    }
}

/// Either name is in use for the token.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// How long a token is good by the service's own words.
fn lifetime(expires_in: Option<u64>) -> Duration {
    Duration::from_secs(expires_in.unwrap_or(DEFAULT_LIFETIME).min(LONGEST_LIFETIME))
}

/// The service's URL with the question in it: HTTPS, or on this machine as the registry itself is.
pub(super) fn service_url(base: &Url, challenge: &Challenge) -> Result<Url> {
    let Challenge { realm, service, scope } = challenge;
    let refused = |problem: &str| {
        let host = base.host_str().unwrap_or_default();
        let message = format!("{host} asks to log in at {realm:?}, which is {problem}");
        Error::failed(message)
    };
    let mut url = Url::parse(realm).map_err(|_| refused("no URL"))?;
    let at_home = base.scheme() == "http" && url.host() == base.host();
    match url.scheme() {
        "https" => {}
        "http" if at_home => {}
        _ => return Err(refused("not a safe place for a password")),
    }
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    for scope in scope.iter().flat_map(|scope| scope.split_whitespace()) {
        query.append_pair("scope", scope);
    }
    drop(query);
    Ok(url)
}

fn refused(url: &Url, response: &reqwest::Response, body: &[u8]) -> Error {
    let (status, headers) = (response.status(), response.headers());
    let refusal = DistributionError::new(Method::GET, url, status, headers, body);
    let service = redacted(url);
    if refusal.is_temporary() {
        Error::temporary(format!("no login at {service} for now")).with_source(refusal)
    } else {
        let message = format!("{service} gives no login");
        Error::unauthenticated(message).with_source(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_for_a_token_is_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(hub), Some(expected));
        let odd = r#"bearer  error = "a \"b\", c" , realm=https://h/t,Scope="x""#;
        let found = Challenge::parse(odd).unwrap();
        assert_eq!((found.realm.as_str(), found.scope.as_deref()), ("https://h/t", Some("x")));
    }

    #[test]
    fn what_is_no_wish_for_a_token_is_none() {
        for value in ["", "Bearer", "Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"x"]
        {
            assert_eq!(Challenge::parse(value), None, "{value}");
        }
    }

    fn asked(base: &str, realm: &str) -> Result<String> {
        let challenge = Challenge {
            realm: realm.to_owned(),
            service: Some("registry.example".to_owned()),
            scope: Some("repository:a:pull,push repository:b:pull".to_owned()),
        };
        service_url(&base.parse().unwrap(), &challenge).map(String::from)
    }

    #[test]
    fn each_scope_is_asked_for_by_itself() {
        let url = asked("https://registry.example/v2/a/", "https://auth.example/token?x=1");
        let expected = "https://auth.example/token?x=1&service=registry.example\
                        &scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull";
        assert_eq!(url.unwrap(), expected);
    }

    #[test]
    fn no_lifetime_is_too_long_for_a_clock() {
        assert_eq!(lifetime(None), Duration::from_secs(60));
        assert_eq!(lifetime(Some(300)), Duration::from_secs(300));
        assert!(Instant::now().checked_add(lifetime(Some(u64::MAX))).is_some());
    }

    #[test]
    fn no_password_goes_to_another_host_in_clear() {
        assert!(asked("http://127.0.0.1:5000/v2/a/", "http://127.0.0.1:5001/token").is_ok());
        for (base, realm) in [
            ("https://registry.example/v2/a/", "http://registry.example/token"),
            ("https://registry.example/v2/a/", "http://127.0.0.1/token"),
            ("http://127.0.0.1:5000/v2/a/", "http://auth.example/token"),
            ("http://127.0.0.1:5000/v2/a/", "ftp://127.0.0.1/token"),
            ("https://registry.example/v2/a/", "token"),
        ] {
            let error = asked(base, realm).unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{realm}: {error:?}");
        }
    }
}
