//! [`Login`]: the credentials of a client, or a token of the login service that the registry names.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::client::RESPONSE_TIMEOUT;
use super::error::{DistributionError, connection_error, timeout_error};
use super::response::{BoundedResponse, MAX_ERROR_BODY_BYTES};
use crate::credentials::{ForeignCredentials, Password, RegistryCredentials};
use crate::error::{Error, Result};
use crate::secrets::Secrets;

/// A source of new credentials for a client whose registry rejected the current ones.
///
/// Before that, the client [marks](RegistryCredentials::mark_refused) the rejected credentials, so that no cache
/// returns them again.
#[async_trait]
pub trait Authenticate: fmt::Debug + Send + Sync {
    /// Returns new credentials for the scope of the rejected ones.
    ///
    /// # Errors
    /// The reason why no credentials are available.
    async fn renew(&self) -> Result<RegistryCredentials>;
}

/// The credentials of a client.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// Credentials for a registry of this project, which are sent with each request.
    Own(RegistryCredentials),
    /// Credentials for another registry, which are sent after the registry has asked for them.
    Foreign(ForeignCredentials),
}

impl Credentials {
    /// Returns the user name and password for HTTP Basic authentication; `None` for an identity token.
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

    /// Adds these credentials to the secrets that errors redact.
    fn add_to(&self, secrets: &Secrets) -> Secrets {
        let secrets = match self.basic() {
            Some((username, password)) => secrets.with_login(username, password.expose()),
            None => secrets.clone(),
        };
        self.identity_token().map_or(secrets.clone(), |token| secrets.with(token.expose()))
    }
}

/// The login of a client, which changes while the client runs. All clones of a client share it.
#[derive(Debug)]
pub(super) struct Login {
    state: RwLock<LoginState>,
    /// Locked while the login is replaced: other requests wait, and use the new login.
    replace_lock: tokio::sync::Mutex<()>,
    authenticate: Option<Arc<dyn Authenticate>>,
}

/// The login at one moment.
#[derive(Debug, Clone)]
pub(super) struct LoginState {
    credentials: Option<Credentials>,
    /// Whether the credentials are sent with each request.
    is_basic: bool,
    token: Option<Token>,
    /// The number of logins before this one.
    generation: u64,
    /// The credentials of this login and of all previous ones.
    known: Secrets,
    /// The known credentials, the token and the previous token.
    secrets: Secrets,
}

/// A login that the registry rejected.
#[derive(Debug)]
pub(super) struct RejectedLogin {
    pub(super) generation: u64,
    pub(super) challenge: Option<Challenge>,
    /// Whether the response certainly rejects the login, and not the request.
    pub(super) is_certain: bool,
}

impl Login {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        let none = Secrets::of_environment();
        let known = credentials.as_ref().map_or(none.clone(), |own| own.add_to(&none));
        let is_basic = matches!(credentials, Some(Credentials::Own(_)));
        let secrets = known.clone();
        let state =
            LoginState { credentials, is_basic, token: None, generation: 0, known, secrets };
        Self {
            state: RwLock::new(state),
            replace_lock: tokio::sync::Mutex::default(),
            authenticate: None,
        }
    }

    /// Returns a copy of this login with a source of new credentials.
    pub(super) fn with(&self, authenticate: Arc<dyn Authenticate>) -> Self {
        let state = RwLock::new(self.state());
        let replace_lock = tokio::sync::Mutex::default();
        Self { state, replace_lock, authenticate: Some(authenticate) }
    }

    /// Returns the current login. Replaces a token that is about to expire.
    pub(super) async fn current(&self, http: &reqwest::Client, base: &Url) -> Result<LoginState> {
        let state = self.state();
        match &state.token {
            Some(token) if token.is_expired() => {
                let challenge = Some(token.challenge().clone());
                let rejected =
                    RejectedLogin { generation: state.generation, challenge, is_certain: true };
                self.replace(http, base, rejected).await?;
                Ok(self.state())
            }
            _ => Ok(state),
        }
    }

    /// Replaces a rejected login, and returns whether there is a new login.
    ///
    /// If several concurrent requests were rejected, the first one replaces the login for all.
    pub(super) async fn replace(
        &self,
        http: &reqwest::Client,
        base: &Url,
        rejected: RejectedLogin,
    ) -> Result<bool> {
        let _lock = self.replace_lock.lock().await;
        let state = self.state();
        if state.generation != rejected.generation {
            return Ok(true);
        }
        let Some(challenge) = rejected.challenge else {
            if !state.is_basic
                && state.credentials.as_ref().is_some_and(|own| own.basic().is_some())
            {
                // Without a challenge for a token, the registry accepts Basic authentication.
                self.set_state(LoginState { is_basic: true, ..state });
                return Ok(true);
            }
            return match self.renew(&state).await? {
                Some(credentials) => {
                    self.set_state(LoginState { credentials: Some(credentials), ..state });
                    Ok(true)
                }
                None => Ok(false),
            };
        };
        let fetch =
            |credentials, secrets| Token::fetch(http, base, &challenge, credentials, secrets);
        let renewed = match fetch(state.credentials.as_ref(), &state.secrets).await {
            Ok(token) => LoginState { token: Some(token), ..state },
            // The login service rejects the credentials, too.
            Err(refusal @ Error::Unauthenticated { .. }) => {
                let Some(credentials) = self.renew(&state).await? else { return Err(refusal) };
                let secrets = credentials.add_to(&state.secrets);
                let token = fetch(Some(&credentials), &secrets).await?;
                LoginState { credentials: Some(credentials), token: Some(token), ..state }
            }
            Err(error) => return Err(error),
        };
        self.set_state(renewed);
        Ok(true)
    }

    /// Returns new credentials in place of rejected ones, if there is a source for them.
    async fn renew(&self, state: &LoginState) -> Result<Option<Credentials>> {
        if let Some(Credentials::Own(credentials)) = &state.credentials {
            credentials.mark_refused();
        }
        match &self.authenticate {
            Some(authenticate) => authenticate.renew().await.map(Credentials::Own).map(Some),
            None => Ok(None),
        }
    }

    /// Sets the login that follows the current one.
    fn set_state(&self, next: LoginState) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let known =
            next.credentials.as_ref().map_or(next.known.clone(), |new| new.add_to(&next.known));
        let tokens = [&state.token, &next.token].into_iter().flatten();
        let secrets = tokens.fold(known.clone(), |known, token| known.with(token.expose()));
        *state = LoginState { generation: next.generation + 1, known, secrets, ..next };
    }

    fn state(&self) -> LoginState {
        // The login is replaced as a whole, so a panic in another thread leaves it consistent.
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LoginState {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the user name, or `None` without credentials.
    pub(super) fn username(&self) -> Option<&str> {
        match self.credentials.as_ref()?.basic() {
            Some((username, _)) => Some(username),
            None => Some(ForeignCredentials::IDENTITY_TOKEN_USERNAME),
        }
    }

    /// Returns the secrets that errors redact.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Adds the `Authorization` header to a request.
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

/// A challenge of a registry: the request for a token of a login service.
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
    /// Returns the first challenge for a token in the headers of a response.
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

/// Splits the first parameter off `name=value, …`. A quoted value may contain commas.
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

/// The default lifetime of a token, for a service that does not specify one.
const DEFAULT_LIFETIME_SECONDS: u64 = 60;
/// The maximum lifetime of a token. A larger number could overflow an `Instant`.
const MAX_LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// The time before the expiry at which a token is replaced, since a request takes time to arrive.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// A token of a login service.
#[derive(Debug, Clone)]
pub(super) struct Token {
    token: Password,
    challenge: Challenge,
    valid_until: Instant,
}

impl Token {
    /// Requests a token from the login service of a challenge, with the credentials if there are any.
    ///
    /// # Errors
    /// - [`Error::Unauthenticated`] if the service rejects the request.
    /// - [`Error::Temporary`] if the service is unreachable or fails temporarily.
    /// - [`Error::Failed`] if the service would receive the password without TLS, or the response is invalid.
    pub(super) async fn fetch(
        http: &reqwest::Client,
        base: &Url,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
        secrets: &Secrets,
    ) -> Result<Self> {
        let mut url = service_url(base, challenge, secrets)?;
        let requested_at = Instant::now();
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
        let redacted_url = secrets.redacted(&url);
        let response = timeout(RESPONSE_TIMEOUT, request.send()).await;
        let response = response.map_err(|_| timeout_error(&method, &redacted_url))?;
        let response = response.map_err(|error| connection_error(&method, &redacted_url, error))?;
        let mut reply = BoundedResponse::new(response, secrets);
        if reply.status() != StatusCode::OK {
            let (body, _) = reply.read_up_to(MAX_ERROR_BODY_BYTES).await;
            return Err(service_error(method, &url, &reply, &body, secrets));
        }
        let body = reply.read_whole(MAX_ERROR_BODY_BYTES).await?;
        let TokenResponse { token, access_token, expires_in } = reply.parse_json(&body)?;
        let Some(token) = token.or(access_token).filter(|token| !token.is_empty()) else {
            return Err(Error::failed(format!(
                "{method} {redacted_url}: the response has no token"
            )));
        };
        let valid_until = requested_at + lifetime(expires_in).saturating_sub(EXPIRY_MARGIN);
        Ok(Self { token: Password::new(token), challenge: challenge.clone(), valid_until })
    }

    pub(super) fn is_expired(&self) -> bool {
        self.valid_until <= Instant::now()
    }

    /// Returns the challenge for this token.
    pub(super) fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    pub(super) fn expose(&self) -> &str {
        self.token.expose()
    }
}

/// The response of a login service. Services use either name of the token.
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Returns the lifetime of a token, bounded.
fn lifetime(expires_in: Option<u64>) -> Duration {
    Duration::from_secs(expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS).min(MAX_LIFETIME_SECONDS))
}

/// Returns the URL of a login service: HTTPS, or HTTP on the host of a registry that uses HTTP itself.
pub(super) fn service_url(base: &Url, challenge: &Challenge, secrets: &Secrets) -> Result<Url> {
    let realm = &challenge.realm;
    let rejected = |problem: &str| {
        let host = base.host_str().unwrap_or_default();
        let realm = secrets.printable(realm);
        Error::failed(format!("{host} names the login service {realm:?}, which is {problem}"))
    };
    let url = Url::parse(realm).map_err(|_| rejected("not a URL"))?;
    let is_registry_host = base.scheme() == "http" && url.host() == base.host();
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_registry_host => Ok(url),
        _ => Err(rejected("not an HTTPS URL")),
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

/// The OAuth client ID of this program at login services.
const CLIENT_ID: &str = "ark-container";

/// Returns the form that exchanges an identity token for a token.
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

fn service_error(
    method: Method,
    url: &Url,
    reply: &BoundedResponse,
    body: &[u8],
    secrets: &Secrets,
) -> Error {
    let (status, headers) = (reply.status(), reply.headers());
    let refusal = DistributionError::new(method, url, status, headers, body, secrets);
    let service = secrets.redacted(url);
    if refusal.is_temporary() {
        let message = match refusal.reset_time() {
            Some(reset) => {
                format!("the login exceeds the rate limit of {service}, which is reset {reset}")
            }
            None => format!("the login at {service} failed temporarily"),
        };
        Error::temporary(message).with_source(refusal)
    } else {
        let message = format!("the login service {service} rejects the login");
        Error::unauthenticated(message).with_source(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_for_a_token_is_parsed() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(hub), Some(expected));
        let unusual = r#"bearer  error = "a \"b\", c" , realm=https://h/t,Scope="x""#;
        let found = Challenge::parse(unusual).unwrap();
        assert_eq!((found.realm.as_str(), found.scope.as_deref()), ("https://h/t", Some("x")));
    }

    #[test]
    fn invalid_challenge_is_ignored() {
        for value in ["", "Bearer", "Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"x"]
        {
            assert_eq!(Challenge::parse(value), None, "{value}");
        }
    }

    fn token_url(base: &str, realm: &str) -> Result<String> {
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
    fn token_url_has_one_parameter_per_scope() {
        let url = token_url("https://registry.example/v2/a/", "https://auth.example/token?x=1");
        let expected = "https://auth.example/token?x=1&service=registry.example\
                        &scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull";
        assert_eq!(url.unwrap(), expected);
    }

    #[test]
    fn token_lifetime_is_bounded() {
        assert_eq!(lifetime(None), Duration::from_secs(60));
        assert_eq!(lifetime(Some(300)), Duration::from_secs(300));
        assert!(Instant::now().checked_add(lifetime(Some(u64::MAX))).is_some());
    }

    #[test]
    fn login_service_without_tls_is_rejected() {
        assert!(token_url("http://127.0.0.1:5000/v2/a/", "http://127.0.0.1:5001/token").is_ok());
        for (base, realm) in [
            ("https://registry.example/v2/a/", "http://registry.example/token"),
            ("https://registry.example/v2/a/", "http://127.0.0.1/token"),
            ("http://127.0.0.1:5000/v2/a/", "http://auth.example/token"),
            ("http://127.0.0.1:5000/v2/a/", "ftp://127.0.0.1/token"),
            ("https://registry.example/v2/a/", "token"),
        ] {
            let error = token_url(base, realm).unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{realm}: {error:?}");
        }
    }
}
