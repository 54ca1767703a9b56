//! [`KeySource`]: where the keys of a [`KeySet`](super::KeySet) come from.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use tokio::task::spawn_blocking;

use super::keys::Keys;
use crate::error::{Error, Result};
use crate::identity::trusted_file;

/// Far more than the keys of any identity provider.
const MAX_LEN: u64 = 1024 * 1024;

/// How long a server may take for the keys.
const PATIENCE: Duration = Duration::from_secs(10);

const MAX_REDIRECTS: usize = 3;

/// Where keys come from.
#[derive(Debug)]
pub(super) enum KeySource {
    File(PathBuf),
    Url { url: Url, http: Client },
}

/// How long what was read may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    /// After this time they are read again.
    pub(super) fresh: Duration,
    /// This long nothing is read again, whether the last time went well or not.
    pub(super) pause: Duration,
}

impl KeySource {
    pub(super) fn url(text: &str) -> Result<Self> {
        let invalid = |problem: &str| Error::invalid(format!("the URL of the key set {problem}"));
        let url: Url = text.parse().map_err(|_| invalid("is none"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("has a user name or password in it; keys are public"));
        }
        let loopback = is_loopback(&url);
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(invalid("has to start with https://"));
        }
        let mut http = Client::builder()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .redirect(redirect::Policy::custom(follow))
            .user_agent(concat!("ark-container/", env!("CARGO_PKG_VERSION")));
        if loopback {
            // No proxy reaches this machine's own ports.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::failed("no HTTP client for the key set").with_source(error))?;
        Ok(Self::Url { url, http })
    }

    /// A file is at hand; a server must not be asked at each token that names a key that nobody has.
    pub(super) fn freshness(&self) -> Freshness {
        match self {
            Self::File(_) => {
                Freshness { fresh: Duration::from_secs(1), pause: Duration::from_secs(1) }
            }
            Self::Url { .. } => {
                Freshness { fresh: Duration::from_secs(15 * 60), pause: Duration::from_secs(60) }
            }
        }
    }

    /// The keys that are there now.
    pub(super) async fn read(&self) -> Result<Keys> {
        let content = match self {
            Self::File(path) => {
                let path = path.clone();
                let reading = spawn_blocking(move || trusted_file::read(&path, "key set"));
                let read = reading.await;
                read.map_err(|error| {
                    Error::failed("the reading of keys ended").with_source(error)
                })??
                .into_bytes()
            }
            Self::Url { url, http } => self.fetch(url, http).await?,
        };
        Keys::parse(&content)
            .map_err(|problem| Error::failed(format!("no keys are read from {self}: {problem}")))
    }

    async fn fetch(&self, url: &Url, http: &Client) -> Result<Vec<u8>> {
        let broken = |error: reqwest::Error| {
            let (what, error) = (format!("GET {self}"), error.without_url());
            if error.is_redirect() {
                Error::failed(what).with_source(error)
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
            if content.len() as u64 > MAX_LEN {
                let message = format!("GET {self}: the answer is longer than {MAX_LEN} bytes");
                return Err(Error::failed(message));
            }
        }
        Ok(content)
    }
}

impl fmt::Display for KeySource {
    /// The file or URL, without the URL's query, which may hold what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url { url, .. } => {
                write!(f, "{}{}", url.origin().ascii_serialization(), url.path())
            }
        }
    }
}

/// Follows a redirect that stays on the server: what another one says about keys counts for nothing.
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

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
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
    fn a_url_shows_no_secret() {
        let asked = KeySource::url("https://auth.example.com/keys?code=hunter2").unwrap();
        assert_eq!(asked.to_string(), "https://auth.example.com/keys");
        let error = KeySource::url("https://bob:hunter2@auth.example.com/keys").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
