//! [`Login`]: what a client shows to its registry: credentials, or a token of the login service that the
//! registry names.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::client::RESPONSE_TIMEOUT;
use super::error::{DistributionError, broken, silent};
use super::response::{MAX_ERROR_BODY_LEN, Reply};
use crate::credentials::{ForeignCredentials, Password, RegistryCredentials};
use crate::error::{Error, Result};
use crate::secrets::Secrets;

/// A source of new credentials for a client whose registry refused the current ones.
///
/// The refused ones are [marked](RegistryCredentials::mark_refused) before, so that no cache returns them
/// again.
#[async_trait]
pub trait Authenticate: fmt::Debug + Send + Sync {
    /// Returns new credentials for the scope of the refused ones.
    ///
    /// # Errors
    /// The reason why there are none.
    async fn renew(&self) -> Result<RegistryCredentials>;
}

/// The credentials of a client.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// For a registry of this project, which are sent with each request.
    Own(RegistryCredentials),
    /// For another registry, which are sent after it has asked for them.
    Foreign(ForeignCredentials),
}

impl Credentials {
    /// The user name and password for HTTP Basic authentication, if that is what they are.
    fn basic(&self) -> Option<(&str, &Password)> {
        match self {
            Self::Own(credentials) => Some((&credentials.username, &credentials.password)),
            Self::Foreign(ForeignCredentials::Password { username, password }) => {
                Some((username, password))
            }
            Self::Foreign(ForeignCredentials::IdentityToken(_)) => None,
        }
    }

    fn identity_token(&self) -> Option<&Password> {
        match self {
            Self::Foreign(ForeignCredentials::IdentityToken(token)) => Some(token),
            _ => None,
        }
    }

    /// Adds these credentials to the secrets that no error shows.
    fn add_to(&self, secrets: &Secrets) -> Secrets {
        let secrets = match self.basic() {
            Some((username, password)) => secrets.with_login(username, password.expose()),
            None => secrets.clone(),
        };
        self.identity_token().map_or(secrets.clone(), |token| secrets.with(token.expose()))
    }
}

/// The current login of a client, which changes while it runs. All clones of a client share it.
#[derive(Debug)]
pub(super) struct Login {
    shown: RwLock<Shown>,
    /// Held while the login is replaced: other requests wait and use the new one.
    turn: tokio::sync::Mutex<()>,
    authenticate: Option<Arc<dyn Authenticate>>,
}

/// A login at one moment.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    credentials: Option<Credentials>,
    /// Whether the credentials are sent with each request.
    is_basic: bool,
    token: Option<Token>,
    /// The number of logins before this one.
    generation: u64,
    /// The credentials of this login and of those before it.
    known: Secrets,
    /// These, the token and the previous token.
    secrets: Secrets,
}

/// A registry's refusal of a login.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) generation: u64,
    pub(super) challenge: Option<Challenge>,
    /// Whether the answer was certainly about the login.
    pub(super) certain: bool,
}

impl Login {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        let none = Secrets::of_environment();
        let known = credentials.as_ref().map_or(none.clone(), |own| own.add_to(&none));
        let is_basic = matches!(credentials, Some(Credentials::Own(_)));
        let secrets = known.clone();
        let shown = Shown { credentials, is_basic, token: None, generation: 0, known, secrets };
        Self { shown: RwLock::new(shown), turn: tokio::sync::Mutex::default(), authenticate: None }
    }

    /// Returns a login that starts with the current one.
    pub(super) fn with(&self, authenticate: Arc<dyn Authenticate>) -> Self {
        let shown = RwLock::new(self.shown());
        let turn = tokio::sync::Mutex::default();
        Self { shown, turn, authenticate: Some(authenticate) }
    }

    /// Returns the current login. A token that is about to expire is replaced first.
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

    /// Replaces a login that was refused, and returns whether there is a new one.
    ///
    /// Of all requests whose login was refused at once, one replaces it.
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
            if !shown.is_basic
                && shown.credentials.as_ref().is_some_and(|own| own.basic().is_some())
            {
                // Without a login service, the registry takes the password itself.
                self.show(Shown { is_basic: true, ..shown });
                return Ok(true);
            }
            return match self.renew(&shown).await? {
                Some(credentials) => {
                    self.show(Shown { credentials: Some(credentials), ..shown });
                    Ok(true)
                }
                None => Ok(false),
            };
        };
        let fetch =
            |credentials, secrets| Token::fetch(http, base, &challenge, credentials, secrets);
        let renewed = match fetch(shown.credentials.as_ref(), &shown.secrets).await {
            Ok(token) => Shown { token: Some(token), ..shown },
            // The login service refuses the credentials, too.
            Err(refusal @ Error::Unauthenticated { .. }) => {
                let Some(credentials) = self.renew(&shown).await? else { return Err(refusal) };
                let secrets = credentials.add_to(&shown.secrets);
                let token = fetch(Some(&credentials), &secrets).await?;
                Shown { credentials: Some(credentials), token: Some(token), ..shown }
            }
            Err(error) => return Err(error),
        };
        self.show(renewed);
        Ok(true)
    }

    /// Returns new credentials in place of refused ones, if there is a source of them.
    async fn renew(&self, shown: &Shown) -> Result<Option<Credentials>> {
        if let Some(Credentials::Own(credentials)) = &shown.credentials {
            credentials.mark_refused();
        }
        match &self.authenticate {
            Some(authenticate) => authenticate.renew().await.map(Credentials::Own).map(Some),
            None => Ok(None),
        }
    }

    /// Sets the login that follows the current one.
    fn show(&self, next: Shown) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let known =
            next.credentials.as_ref().map_or(next.known.clone(), |new| new.add_to(&next.known));
        let tokens = [&shown.token, &next.token].into_iter().flatten();
        let secrets = tokens.fold(known.clone(), |known, token| known.with(token.expose()));
        *shown = Shown { generation: next.generation + 1, known, secrets, ..next };
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

    /// The user name, or `None` without credentials.
    pub(super) fn username(&self) -> Option<&str> {
        match self.credentials.as_ref()?.basic() {
            Some((username, _)) => Some(username),
            None => Some(ForeignCredentials::IDENTITY_TOKEN_USERNAME),
        }
    }

    /// The secrets that no error may show.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Adds the login to a request.
    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        if let Some(token) = &self.token {
            return request.bearer_auth(token.expose());
        }
        match self.credentials.as_ref().filter(|_| self.is_basic).and_then(Credentials::basic) {
            Some((username, password)) => request.basic_auth(username, Some(password.expose())),
            None => request,
        }
    }
}

/// A registry's request for a token of a login service.
///
/// Source: <https://distribution.github.io/distribution/spec/auth/token/>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The URL of the login service.
    pub(super) realm: String,
    pub(super) service: Option<String>,
    /// The scopes of the token, separated by spaces.
    pub(super) scope: Option<String>,
}

impl Challenge {
    /// Returns the request for a token among the challenges of an answer, or `None` if there is none.
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

/// Splits off the first of `name=value, …`. A value in quotes may have commas.
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

/// The lifetime of a token in seconds, if the service does not name one.
const DEFAULT_LIFETIME_SECONDS: u64 = 60;
/// The longest lifetime in seconds that is believed, so that it fits into a time.
const MAX_LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// A token is replaced this long before it expires, since a request takes time to arrive.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// A token of a login service.
#[derive(Debug, Clone)]
pub(super) struct Token {
    token: Password,
    challenge: Challenge,
    good_until: Instant,
}

impl Token {
    /// Requests a token from the service that a challenge names, with the credentials if there are any.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if the service refuses; [`Error::Temporary`] where it cannot be reached
    /// or fails for now; [`Error::Failed`] where the password would go to another host in clear, or the
    /// answer makes no sense.
    pub(super) async fn fetch(
        http: &reqwest::Client,
        base: &Url,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
        secrets: &Secrets,
    ) -> Result<Self> {
        let mut url = service_url(base, challenge, secrets)?;
        let asked_at = Instant::now();
        let (method, request) = match credentials.and_then(Credentials::identity_token) {
            Some(identity_token) => {
                let form = oauth_form(challenge, identity_token);
                let form_type = "application/x-www-form-urlencoded";
                let request = http.post(url.clone()).header(CONTENT_TYPE, form_type).body(form);
                (Method::POST, request)
            }
            None => {
                challenge.add_to(&mut url);
                let request = http.get(url.clone());
                let request = match credentials.and_then(Credentials::basic) {
                    Some((username, password)) => {
                        request.basic_auth(username, Some(password.expose()))
                    }
                    None => request,
                };
                (Method::GET, request)
            }
        };
        let shown_url = secrets.redacted(&url);
        let answer = timeout(RESPONSE_TIMEOUT, request.send()).await;
        let answer = answer.map_err(|_| silent(&method, &shown_url))?;
        let answer = answer.map_err(|error| broken(&method, &shown_url, error))?;
        let mut reply = Reply::new(answer, secrets);
        if reply.status() != StatusCode::OK {
            let (body, _) = reply.read_up_to(MAX_ERROR_BODY_LEN).await;
            return Err(refused(method, &url, &reply, &body, secrets));
        }
        let body = reply.read_whole(MAX_ERROR_BODY_LEN).await?;
        let Answer { token, access_token, expires_in } = reply.parse_json(&body)?;
        let Some(token) = token.or(access_token).filter(|token| !token.is_empty()) else {
            return Err(Error::failed(format!("{method} {shown_url}: the answer has no token")));
        };
        let good_until = asked_at + lifetime(expires_in).saturating_sub(EXPIRY_MARGIN);
        Ok(Self { token: Password::new(token), challenge: challenge.clone(), good_until })
    }

    pub(super) fn is_stale(&self) -> bool {
        self.good_until <= Instant::now()
    }

    /// Returns the challenge that it answers.
    pub(super) fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    pub(super) fn expose(&self) -> &str {
        self.token.expose()
    }
}

/// The answer of a login service. Both names of the token are in use.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Returns the lifetime of a token.
fn lifetime(expires_in: Option<u64>) -> Duration {
    Duration::from_secs(expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS).min(MAX_LIFETIME_SECONDS))
}

/// Returns the URL of a login service: HTTPS, or HTTP on the host of a registry of this machine.
pub(super) fn service_url(base: &Url, challenge: &Challenge, secrets: &Secrets) -> Result<Url> {
    let realm = &challenge.realm;
    let refused = |problem: &str| {
        let host = base.host_str().unwrap_or_default();
        let realm = secrets.printable(realm);
        Error::failed(format!("{host} asks to log in at {realm:?}, which is {problem}"))
    };
    let url = Url::parse(realm).map_err(|_| refused("no URL"))?;
    let at_home = base.scheme() == "http" && url.host() == base.host();
    match url.scheme() {
        "https" => Ok(url),
        "http" if at_home => Ok(url),
        _ => Err(refused("not a safe place for a password")),
    }
}

impl Challenge {
    /// Adds the service and the scopes to the URL of a request for a token.
    pub(super) fn add_to(&self, url: &mut Url) {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        for scope in self.scope.iter().flat_map(|scope| scope.split_whitespace()) {
            query.append_pair("scope", scope);
        }
    }
}

/// The name of this program at login services.
const CLIENT_ID: &str = "ark-container";

/// Returns the form that requests a token for an identity token.
///
/// Source: <https://distribution.github.io/distribution/spec/auth/oauth/>
fn oauth_form(challenge: &Challenge, identity_token: &Password) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("refresh_token", identity_token.expose());
    for (name, value) in [("service", &challenge.service), ("scope", &challenge.scope)] {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    form.finish()
}

fn refused(method: Method, url: &Url, reply: &Reply, body: &[u8], secrets: &Secrets) -> Error {
    let (status, headers) = (reply.status(), reply.headers());
    let refusal = DistributionError::new(method, url, status, headers, body, secrets);
    let service = secrets.redacted(url);
    if refusal.is_temporary() {
        let message = match refusal.reset_time() {
            Some(reset) => {
                format!("a login exceeds the rate limit of {service}, which is reset {reset}")
            }
            None => format!("no login at {service} for now"),
        };
        Error::temporary(message).with_source(refusal)
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
        let mut url = service_url(&base.parse().unwrap(), &challenge, &Secrets::default())?;
        challenge.add_to(&mut url);
        Ok(url.into())
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
