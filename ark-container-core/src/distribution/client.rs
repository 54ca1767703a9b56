//! [`Client`]: one repository of one registry, and how requests get there and answers come back.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{Either, select};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tokio_util::bytes::Bytes;

use super::error::{Context, DistributionError, Subject, redacted};
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::model::{Access, RegistryHost, RepositoryUrl};

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be silent. There is no limit to a request as a whole.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a refusal is read.
const REFUSAL_LEN: usize = 64 * 1024;
const MAX_REDIRECTS: usize = 5;

/// A client of one repository.
///
/// It speaks plain HTTP to loopback hosts and HTTPS to all others, as docker does. The credentials go
/// with every request to the registry itself, unasked, and to no other host: neither one that it
/// redirects to nor one that it names as the place of an upload.
///
/// Cloning is cheap, and clones share their connections. Requests need a tokio runtime.
///
/// Every method may fail with [`Error::Unauthenticated`] where the registry refuses the credentials,
/// [`Error::PermissionDenied`] where they do not reach this far, [`Error::NotFound`] where the registry
/// has no such repository, [`Error::Temporary`] where it cannot be reached, breaks off, falls silent for
/// a minute or answers 408, 429 or 5xx, and [`Error::Failed`] for all other refusals. Each but
/// `NotFound`, `PermissionDenied` and `Conflict` has a [`DistributionError`] as its source where the
/// registry did answer.
///
/// ```no_run
/// use ark_container_core::credentials::RegistryCredentials;
/// use ark_container_core::distribution::Client;
/// use ark_container_core::model::{Reference, RepositoryUrl};
///
/// # async fn example(url: RepositoryUrl, credentials: RegistryCredentials)
/// # -> ark_container_core::Result<()> {
/// let client = Client::new(url, credentials)?;
/// let manifest = client.fetch_manifest(&"v1".parse()?).await?;
/// assert!(client.manifest(&manifest.digest.clone().into()).await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    repository: RepositoryUrl,
    credentials: RegistryCredentials,
}

impl Client {
    /// A client of the repository at `repository`, dialled by the host in its URL.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the credentials are another registry's; [`Error::Failed`] if TLS cannot
    /// be set up.
    pub fn new(repository: RepositoryUrl, credentials: RegistryCredentials) -> Result<Self> {
        let endpoint = repository.host().clone();
        Self::with_endpoint(repository, credentials, &endpoint)
    }

    /// A client of the same repository, dialled at another host: a tunnel, or the registry that
    /// a program serves to itself on a port of the moment.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_endpoint(
        repository: RepositoryUrl,
        credentials: RegistryCredentials,
        endpoint: &RegistryHost,
    ) -> Result<Self> {
        if credentials.host != *repository.host() {
            return Err(Error::invalid(format!(
                "the credentials are for {}, not for {}",
                credentials.host,
                repository.host()
            )));
        }
        let base = base_url(&repository, endpoint)?;
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(redirect::Policy::custom(follow))
            .user_agent(concat!("ark-container/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // No proxy reaches this machine's own ports.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::failed(format!("no HTTP client for {endpoint}"), error))?;
        Ok(Self { http, base, repository, credentials })
    }

    /// The repository.
    pub fn repository(&self) -> &RepositoryUrl {
        &self.repository
    }

    /// A URL below the repository's, such as `manifests/v1`.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|error| Error::failed(format!("no URL from {path}"), error))
    }

    /// A URL that the registry answered with, relative to the one that was asked.
    pub(super) fn resolve(&self, asked: &Url, target: &str) -> Result<Url> {
        asked.join(target).map_err(|error| {
            Error::failed(format!("{} answers with a location that is none", self.base), error)
        })
    }

    /// A request, with the credentials if it is to the registry itself.
    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let own = url.origin() == self.base.origin();
        let request = self.http.request(method, url);
        if own {
            let RegistryCredentials { username, password, .. } = &self.credentials;
            request.basic_auth(username, Some(password.expose()))
        } else {
            request
        }
    }

    /// Sends a request and waits for an answer with one of the `expected` statuses.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        subject: Subject,
        expected: &[StatusCode],
    ) -> Result<Response> {
        self.send_while(request, subject, expected, sleep(PATIENCE)).await
    }

    /// Sends a request and waits for an answer until `patience` ends.
    pub(super) async fn send_while(
        &self,
        request: RequestBuilder,
        subject: Subject,
        expected: &[StatusCode],
        patience: impl Future<Output = ()>,
    ) -> Result<Response> {
        let request = request
            .build()
            .map_err(|error| Error::failed(subject.attempt(), error.without_url()))?;
        let (method, url) = (request.method().clone(), request.url().clone());
        tracing::debug!(%method, url = redacted(&url), "request");
        let answer = std::pin::pin!(self.http.execute(request));
        let response = match select(answer, std::pin::pin!(patience)).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(error), _)) => return Err(broken(&method, &url, error)),
            Either::Right(_) => return Err(silent(&method, &url)),
        };
        if expected.contains(&response.status()) {
            return Ok(response);
        }
        let status = response.status();
        // What came before it broke off says more than how it broke off.
        let (body, _) = read_up_to(response, REFUSAL_LEN).await;
        let error = DistributionError::new(method.clone(), &url, status, &body);
        tracing::debug!(%error, "refused");
        let reading = matches!(method, Method::GET | Method::HEAD);
        let context = Context {
            repository: &self.repository,
            username: &self.credentials.username,
            access: if reading { Access::Pull } else { Access::Push },
            subject,
        };
        Err(error.into_error(&context))
    }
}

/// The repository's URL in the distribution API, with the scheme that its host calls for.
fn base_url(repository: &RepositoryUrl, endpoint: &RegistryHost) -> Result<Url> {
    let invalid = |error| Error::failed(format!("{endpoint} makes no URL"), error);
    let mut url: Url =
        format!("http://{endpoint}/v2/{}/", repository.path()).parse().map_err(invalid)?;
    if !is_loopback(url.host_str().unwrap_or_default()) {
        url = format!("https://{endpoint}/v2/{}/", repository.path()).parse().map_err(invalid)?;
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Follows a redirect unless it leaves HTTPS. That credentials stay behind is reqwest's own rule.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if from_https && attempt.url().scheme() != "https" {
        attempt.error("it redirects from HTTPS to plain HTTP")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects again and again")
    } else {
        attempt.follow()
    }
}

/// The error of a request that got no answer.
fn broken(method: &Method, url: &Url, error: reqwest::Error) -> Error {
    let what = format!("{method} {}", redacted(url));
    let error = error.without_url();
    if error.is_redirect() || error.is_builder() {
        Error::failed(what, error)
    } else if error.is_connect() {
        Error::temporary(format!("{what}: no connection"), error)
    } else {
        Error::temporary(format!("{what}: the connection broke"), error)
    }
}

/// The error of a request that nothing happened on.
pub(super) fn silent(method: &Method, url: &Url) -> Error {
    let message = format!("{method} {}: the registry fell silent", redacted(url));
    Error::Temporary { message, source: None }
}

/// The next piece of an answer's body; `None` at its end.
pub(super) async fn next_piece(response: &mut Response) -> Result<Option<Bytes>> {
    match timeout(PATIENCE, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(broken(&Method::GET, response.url(), error)),
        Err(_) => Err(silent(&Method::GET, response.url())),
    }
}

/// The start of a body, and whether that is all of it or why reading ended.
async fn read_up_to(mut response: Response, limit: usize) -> (Vec<u8>, Result<bool>) {
    let mut body = Vec::new();
    loop {
        match next_piece(&mut response).await {
            Ok(Some(piece)) => {
                let room = limit - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.len() > room {
                    return (body, Ok(false));
                }
            }
            Ok(None) => return (body, Ok(true)),
            Err(error) => return (body, Err(error)),
        }
    }
}

/// A body that must be whole and no longer than `limit`.
pub(super) async fn read_whole(response: Response, limit: usize) -> Result<Vec<u8>> {
    let url = redacted(response.url());
    match read_up_to(response, limit).await {
        (body, Ok(true)) => Ok(body),
        (_, Ok(false)) => {
            let message = format!("GET {url}: the answer is longer than {limit} bytes");
            Err(Error::Failed { message, source: None })
        }
        (_, Err(error)) => Err(error),
    }
}

/// A body of JSON.
pub(super) async fn read_json<T: DeserializeOwned>(response: Response, limit: usize) -> Result<T> {
    let url = redacted(response.url());
    let body = read_whole(response, limit).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::failed(format!("GET {url}: the answer makes no sense"), error))
}
