//! [`Client`]: a client of one repository, its requests, and the rate at which it puts manifests.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use reqwest::header::HeaderName;
use reqwest::{Body, Method, StatusCode, Url, redirect};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::bytes::Bytes;
use tracing::Instrument;

use super::error::{Context, DistributionError, RequestTarget, broken, silent};
use super::login::{Authenticate, Challenge, Credentials, Login, Refused, Shown};
use super::response::{MAX_ERROR_BODY_LEN, Reply};
use super::retry::Retry;
use crate::credentials::{ForeignCredentials, RegistryCredentials};
use crate::error::{Error, Result};
use crate::model::{
    Access, EcrHost, ImageReference, Reference, RegistryHost, RepositoryUrl, is_loopback,
};
use crate::observability::ObservedRequest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without a byte after which a request fails. A request as a whole has no timeout.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
/// The logins that one request may try: one for a token, and one after it has expired.
const MAX_LOGINS: usize = 2;
/// The manifests that an account of AWS may put in a second.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const ECR_MANIFESTS_PER_SECOND: usize = 10;

/// A client of one repository, of this project or of any other registry.
///
/// The client uses plain HTTP for loopback hosts and HTTPS for all others, as docker does. A registry with
/// HTTPS cannot make it send or fetch anything by plain HTTP. It sends the credentials with every request to
/// the registry itself, and to no other host: neither to one that the registry redirects to nor to one that it
/// names as the location of an upload. No error contains them, even if a registry echoes them.
///
/// An answer that is read as a whole, such as a manifest, fails if it comes more slowly than 16 KiB/s, and a
/// blob if it comes more slowly than 1 KiB/s, in the mean after 2 minutes.
///
/// Temporary errors are retried as its [`Retry`] says. Where an answer was lost, the client asks the
/// registry what was done. Where the registry requires a token, the client fetches it from the login
/// service that the registry names. Where the registry refuses the credentials, the client asks
/// [`Authenticate`] for new ones.
///
/// Connections are reused. They are of HTTP/1.1: in HTTP/2 the window of one connection would slow down
/// concurrent uploads. Cloning is cheap, and clones share connections, login and retries. Requests need a
/// tokio runtime.
///
/// Every method may fail with [`Error::Unauthenticated`] if the registry refuses the credentials,
/// [`Error::PermissionDenied`] if they do not allow the request, [`Error::NotFound`] if the registry has
/// no such repository, [`Error::Temporary`] if the registry cannot be reached, closes the connection, does
/// not respond for a minute or answers 408, 429 or 5xx, and [`Error::Failed`] for all other refusals. Each
/// but `NotFound`, `PermissionDenied` and `Conflict` has a [`DistributionError`] as its source if the
/// registry answered.
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
    plain_http: PlainHttp,
    repository: Repository,
    login: Arc<Login>,
    retry: Retry,
    /// How fast manifests may be put, where the registry is strict about it.
    pace: Option<Arc<RateLimit>>,
    /// Held while what refers to a manifest is listed under a tag.
    listing: Arc<Mutex<()>>,
    /// Serves the registry from within this process until the last clone is dropped.
    server: Option<Arc<dyn Server>>,
}

/// A repository of any registry.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    host: RegistryHost,
    path: Box<str>,
    /// Its URL, if it is a repository of this project.
    own: Option<RepositoryUrl>,
}

impl Repository {
    pub(super) fn host(&self) -> &RegistryHost {
        &self.host
    }
}

impl From<RepositoryUrl> for Repository {
    fn from(url: RepositoryUrl) -> Self {
        let (host, path) = (url.host().clone(), url.path().to_string().into());
        Self { host, path, own: Some(url) }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// The hosts that may be reached by plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainHttp {
    Nowhere,
    Loopback,
    Anywhere,
}

impl PlainHttp {
    /// Returns whether a request may be sent to a URL.
    fn admits(self, url: &Url) -> bool {
        match (url.scheme(), self) {
            ("https", _) | ("http", Self::Anywhere) => true,
            ("http", Self::Loopback) => is_loopback(url.host_str().unwrap_or_default()),
            _ => false,
        }
    }
}

/// A server within this process that runs until it is dropped.
pub(crate) trait Server: fmt::Debug + Send + Sync {}

impl<T: fmt::Debug + Send + Sync> Server for T {}

impl Client {
    /// Returns a client of a repository, which dials the host in its URL.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the credentials are another registry's; [`Error::Failed`] if TLS cannot
    /// be set up.
    pub fn new(repository: RepositoryUrl, credentials: RegistryCredentials) -> Result<Self> {
        let endpoint = repository.host().clone();
        Self::with_endpoint(repository, credentials, &endpoint)
    }

    /// Returns a client of a repository, which dials another host: a tunnel, or a registry that the program
    /// serves to itself on a port of its own.
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
        Self::open(repository.into(), Some(Credentials::Own(credentials)), endpoint, false)
    }

    /// Returns a client without credentials, which dials `endpoint`. It uses the tokens that a login service
    /// gives to anybody.
    ///
    /// # Errors
    /// [`Error::Failed`] if TLS cannot be set up.
    pub fn anonymous(repository: RepositoryUrl, endpoint: &RegistryHost) -> Result<Self> {
        Self::open(repository.into(), None, endpoint, false)
    }

    /// Returns a client of the repository of an image in any registry, with the credentials that
    /// [`ForeignCredentials::find`] finds, or without.
    ///
    /// # Behavior
    /// - A password is sent only after the registry has asked for one.
    /// - Plain HTTP is used for loopback hosts, and for others if `plain_http` is set.
    /// - Docker Hub counts the manifests that are fetched, and not those that
    ///   [`manifest`](Self::manifest) asks for. An exceeded rate limit is [`Error::Temporary`] with the reset
    ///   time, and is not waited for longer than 120 s.
    ///
    /// # Errors
    /// [`Error::Failed`] if TLS cannot be set up.
    ///
    /// ```no_run
    /// use ark_container_core::credentials::ForeignCredentials;
    /// use ark_container_core::distribution::Client;
    /// use ark_container_core::model::ImageReference;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let image: ImageReference = "ghcr.io/oras-project/oras:v1.2.0".parse()?;
    /// let client = Client::foreign(&image, ForeignCredentials::find(&image).await?, false)?;
    /// println!("{:?}", client.manifest(image.reference()).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn foreign(
        image: &ImageReference,
        credentials: Option<ForeignCredentials>,
        plain_http: bool,
    ) -> Result<Self> {
        let (host, path) = (image.host().clone(), image.repository().into());
        let repository = Repository { host, path, own: None };
        let credentials = credentials.map(Credentials::Foreign);
        Self::open(repository, credentials, &image.endpoint(), plain_http)
    }

    fn open(
        repository: Repository,
        credentials: Option<Credentials>,
        endpoint: &RegistryHost,
        plain_http: bool,
    ) -> Result<Self> {
        let (base, plain_http) = base_url(&repository, endpoint, plain_http)?;
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::custom(move |attempt| follow(plain_http, attempt)))
            .user_agent(concat!("ark-container/", env!("CARGO_PKG_VERSION")));
        if is_loopback(base.host_str().unwrap_or_default()) {
            // No proxy reaches this machine's own ports.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| {
            Error::failed(format!("no HTTP client for {endpoint}")).with_source(error)
        })?;
        let login = Arc::new(Login::new(credentials));
        let is_ecr = is_ecr(repository.host());
        let pace = is_ecr.then(|| Arc::new(RateLimit::new(ECR_MANIFESTS_PER_SECOND)));
        Ok(Self {
            http,
            base,
            plain_http,
            repository,
            login,
            retry: Retry::default(),
            pace,
            listing: Arc::default(),
            server: None,
        })
    }

    /// Sets how temporary errors are retried.
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Sets the source of new credentials after the registry refused the current ones.
    pub fn with_authenticate(self, authenticate: Arc<dyn Authenticate>) -> Self {
        let login = Arc::new(self.login.with(authenticate));
        Self { login, ..self }
    }

    /// Keeps the server of the registry alive for as long as the client or a clone of it exists.
    #[cfg(feature = "local")]
    pub(crate) fn with_server(self, server: Arc<dyn Server>) -> Self {
        Self { server: Some(server), ..self }
    }

    /// The server that content which is being fetched depends on, if it is within this process.
    pub(super) fn server(&self) -> Option<Arc<dyn Server>> {
        self.server.clone()
    }

    /// Returns the URL of the repository.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the repository is not one of this project.
    pub fn repository(&self) -> Result<&RepositoryUrl> {
        let Repository { own, .. } = &self.repository;
        own.as_ref().ok_or_else(|| {
            Error::invalid(format!("{} is a repository of another registry", self.repository))
        })
    }

    /// Returns the registry and the repository as text, such as `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        self.repository.to_string()
    }

    /// Returns an image of the repository as text.
    pub fn image_name(&self, reference: &Reference) -> String {
        format!("{}{}{reference}", self.repository, reference.separator())
    }

    /// Returns how temporary errors are retried, and how often they were.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Returns the URL of the repository in the distribution API.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether the registry is AWS ECR's, wherever it is dialled.
    pub(crate) fn is_ecr(&self) -> bool {
        self.pace.is_some()
    }

    /// Waits until a manifest may be put.
    pub(super) async fn manifests_turn(&self) {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
    }

    /// Waits until nobody else lists what refers to a manifest.
    pub(super) async fn listing(&self) -> MutexGuard<'_, ()> {
        self.listing.lock().await
    }

    /// A URL below the repository's, such as `manifests/v1`.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        self.base
            .join(path)
            .map_err(|error| Error::failed(format!("no URL from {path}")).with_source(error))
    }

    /// A URL that the registry answered with, relative to the one that was asked.
    pub(super) fn resolve(&self, asked: &Url, target: &str) -> Result<Url> {
        asked.join(target).map_err(|error| {
            Error::failed(format!("{} answers with a location that is none", self.base))
                .with_source(error)
        })
    }

    /// Sends a request, with retries, until it is answered with one of the `expected` statuses.
    ///
    /// A failure to read the response body is not retried.
    pub(super) async fn send(
        &self,
        request: Request,
        target: RequestTarget,
        expected: &[StatusCode],
    ) -> Result<Reply> {
        self.retry.run(|| self.ask(&request, &target, expected)).await
    }

    /// Fetches content of at most `limit` bytes. Reading it is part of each try.
    pub(super) async fn fetch(
        &self,
        request: Request,
        target: RequestTarget,
        limit: usize,
    ) -> Result<(Reply, Vec<u8>)> {
        let fetching = || async {
            let mut response = self.ask(&request, &target, &[StatusCode::OK]).await?;
            let body = response.read_whole(limit).await?;
            Ok((response, body))
        };
        self.retry.run(fetching).await
    }

    /// Sends a request once, and once more for each new login that the registry requires.
    pub(super) async fn ask(
        &self,
        request: &Request,
        target: &RequestTarget,
        expected: &[StatusCode],
    ) -> Result<Reply> {
        let mut logins = 0;
        loop {
            let body = request.body.clone().into();
            let attempt =
                self.attempt(request, body, target, expected, sleep(RESPONSE_TIMEOUT)).await;
            let Failure { error, refused } = match attempt {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let most = |refused: &Refused| if refused.certain { MAX_LOGINS } else { 1 };
            let Some(refused) = refused.filter(|refused| logins < most(refused)) else {
                return Err(error);
            };
            logins += 1;
            if !self.login.replace(&self.http, &self.base, refused).await? {
                return Err(error);
            }
        }
    }

    /// Sends content that cannot be sent again, until the `timeout` ends.
    ///
    /// # Errors
    /// [`Error::Temporary`] also where only the login was refused and there is a new one now.
    pub(super) async fn send_once(
        &self,
        request: Request,
        body: Body,
        target: RequestTarget,
        expected: &[StatusCode],
        timeout: impl Future<Output = ()>,
    ) -> Result<Reply> {
        match self.attempt(&request, body, &target, expected, timeout).await {
            Ok(response) => Ok(response),
            Err(Failure { error, refused: Some(refused) }) => {
                match self.login.replace(&self.http, &self.base, refused).await? {
                    true => {
                        Err(Error::temporary("the login had to be replaced").with_source(error))
                    }
                    false => Err(error),
                }
            }
            Err(Failure { error, refused: None }) => Err(error),
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        body: Body,
        target: &RequestTarget,
        expected: &[StatusCode],
        timeout: impl Future<Output = ()>,
    ) -> Result<Reply, Failure> {
        let Request { method, url, headers, .. } = request;
        let shown = self.login.current(&self.http, &self.base).await?;
        let shown_url = shown.secrets().redacted(url);
        if !self.plain_http.admits(url) {
            let host = self.repository.host();
            let message = format!("{host} asks for a request without TLS to {shown_url}");
            return Err(Error::failed(message).into());
        }
        let mut builder = self.http.request(method.clone(), url.clone()).body(body);
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        if url.origin() == self.base.origin() {
            builder = shown.authorize(builder);
        }
        let built = builder
            .build()
            .map_err(|error| Error::failed(target.attempt()).with_source(error.without_url()))?;
        tracing::debug!(%method, url = shown_url, "request");
        let mut observed = ObservedRequest::start(method.as_str(), || shown_url.clone());
        let answer = pin!(self.http.execute(built).instrument(observed.span().clone()));
        let response = match select(answer, pin!(timeout)).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(error), _)) => {
                return Err(broken(method, &shown_url, error).into());
            }
            Either::Right(_) => return Err(silent(method, &shown_url).into()),
        };
        let mut reply = Reply::new(response, shown.secrets());
        observed.answered(reply.status().as_u16());
        drop(observed);
        if expected.contains(&reply.status()) {
            if !matches!(*method, Method::GET) {
                // A connection whose answer was not read to its end is not used again.
                let _ = reply.read_up_to(MAX_ERROR_BODY_LEN).await;
            }
            return Ok(reply);
        }
        // What came before it broke off says more than how it broke off.
        let (body, _) = reply.read_up_to(MAX_ERROR_BODY_LEN).await;
        Err(self.refused(request, target, &reply, &body, &shown))
    }

    /// What a refusal means.
    fn refused(
        &self,
        request: &Request,
        target: &RequestTarget,
        reply: &Reply,
        body: &[u8],
        shown: &Shown,
    ) -> Failure {
        let Request { method, url, .. } = request;
        let (status, headers, secrets) = (reply.status(), reply.headers(), shown.secrets());
        let error = DistributionError::new(method.clone(), url, status, headers, body, secrets);
        tracing::debug!(%error, "refused");
        // Another host's refusal says nothing about a login that it was not shown.
        let own = reply.url().origin() == self.base.origin();
        // ECR says in words that a login has expired, and there is no room for words here.
        let mute = *method == Method::HEAD && status == StatusCode::FORBIDDEN;
        let certain = error.refuses_login();
        let refused = (own && (certain || mute)).then(|| Refused {
            generation: shown.generation(),
            challenge: Challenge::find(headers),
            certain,
        });
        let reading = matches!(*method, Method::GET | Method::HEAD);
        let context = Context {
            repository: &self.repository,
            username: shown.username(),
            access: if reading { Access::Pull } else { Access::Push },
            target: target.clone(),
        };
        Failure { error: error.into_error(&context), refused }
    }
}

/// The error of a request, and the login that was refused, if that is the cause.
struct Failure {
    error: Error,
    refused: Option<Refused>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, refused: None }
    }
}

fn is_ecr(host: &RegistryHost) -> bool {
    host.as_str().parse::<EcrHost>().is_ok()
}

/// The repository's URL in the distribution API, with the scheme that its host calls for.
fn base_url(
    repository: &Repository,
    endpoint: &RegistryHost,
    is_plain_http_allowed: bool,
) -> Result<(Url, PlainHttp)> {
    let url = |scheme: &str| -> Result<Url> {
        let url = format!("{scheme}://{endpoint}/v2/{}/", repository.path).parse();
        url.map_err(|error| Error::failed(format!("{endpoint} makes no URL")).with_source(error))
    };
    let plain = url("http")?;
    match is_loopback(plain.host_str().unwrap_or_default()) {
        _ if is_plain_http_allowed => Ok((plain, PlainHttp::Anywhere)),
        true => Ok((plain, PlainHttp::Loopback)),
        false => Ok((url("https")?, PlainHttp::Nowhere)),
    }
}

/// Follows a redirect unless it leaves HTTPS. That credentials stay behind is reqwest's own rule.
fn follow(plain_http: PlainHttp, attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    let to_https = attempt.url().scheme() == "https";
    if !to_https && (from_https || !plain_http.admits(attempt.url())) {
        attempt.error("it redirects to plain HTTP")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects again and again")
    } else {
        attempt.follow()
    }
}

/// A request that can be sent several times: its content is in memory, or is given apart from it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new() }
    }

    /// This request with one more header.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// This request with content.
    pub(super) fn body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }
}

const WINDOW: Duration = Duration::from_secs(1);

/// Allows a number of requests in any second. The first ones do not wait.
#[derive(Debug)]
pub(super) struct RateLimit {
    most: usize,
    /// When the latest ones were let through.
    latest: Mutex<VecDeque<Instant>>,
}

impl RateLimit {
    pub(super) fn new(most: usize) -> Self {
        Self { most, latest: Mutex::default() }
    }

    /// Waits for its turn, in the order of coming.
    pub(super) async fn turn(&self) {
        let mut latest = self.latest.lock().await;
        if latest.len() >= self.most
            && let Some(oldest) = latest.pop_front()
        {
            sleep_until(oldest + WINDOW).await;
        }
        latest.push_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_it_should() {
        let (pace, started) = (RateLimit::new(10), Instant::now());
        let mut turns = Vec::new();
        for _ in 0..25 {
            pace.turn().await;
            turns.push(started.elapsed());
        }
        assert_eq!(turns[9], Duration::ZERO);
        assert_eq!((turns[10], turns[19]), (WINDOW, WINDOW));
        assert_eq!((turns[20], turns[24]), (2 * WINDOW, 2 * WINDOW));
    }
}
