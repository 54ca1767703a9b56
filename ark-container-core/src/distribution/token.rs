//! [`Token`]: what a registry's login service gives for a password, or for nothing.
//!
//! Source: <https://distribution.github.io/distribution/spec/auth/token/>

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::body::{SHORT_LEN, parse_json, read_up_to, read_whole};
use super::challenge::Challenge;
use super::client::PATIENCE;
use super::error::{DistributionError, broken, redacted, silent};
use crate::credentials::{Password, RegistryCredentials};
use crate::error::{Error, Result};

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
        let answer = timeout(PATIENCE, request.send()).await;
        let answer = answer.map_err(|_| silent(&Method::GET, &url))?;
        let mut response = answer.map_err(|error| broken(&Method::GET, &url, error))?;
        if response.status() != StatusCode::OK {
            let (body, _) = read_up_to(&mut response, SHORT_LEN).await;
            return Err(refused(&url, &response, &body));
        }
        let body = read_whole(&mut response, SHORT_LEN).await?;
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
