//! [`Client`]: sends requests to one repository, and limits the rate of manifests.

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

use super::error::{Context, DistributionError, RequestTarget, connection_error, timeout_error};
use super::login::{Authenticate, Challenge, Credentials, Login, LoginState, RejectedLogin};
use super::response::{BoundedResponse, MAX_ERROR_BODY_BYTES};
use super::retry::Retry;
use crate::credentials::{ForeignCredentials, RegistryCredentials};
use crate::error::{Error, Result};
use crate::model::{
    Access, EcrHost, ImageReference, Reference, RegistryHost, RepositoryUrl, is_loopback,
};
use crate::observability::ObservedRequest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum time without a received byte. A request as a whole has no timeout.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
/// The maximum number of new logins of one request: one for a token, and one after its expiry.
const MAX_LOGINS: usize = 2;
/// The quota of an AWS account for manifests per second.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const ECR_MANIFESTS_PER_SECOND: usize = 10;

/// A client of one repository, in a registry of this project or in any other registry.
///
/// The client uses plain HTTP for loopback hosts and HTTPS for all others, as docker does. A registry with HTTPS
/// cannot lead the client to plain HTTP, neither by a redirect nor by an upload location. The client sends the
/// credentials to the host of the registry only. No error contains the credentials, even if a registry echoes them.
///
/// A slow response fails: after 2 minutes, the mean rate must be 16 KiB/s for a manifest or another response that is
/// read as a whole, and 1 KiB/s for a blob.
///
/// The client retries temporary errors as configured in [`Retry`]. If a response is lost, the client asks the
/// registry for the result. If the registry requires a token, the client fetches one from the login service that the
/// registry names. If the registry rejects the credentials, the client requests new ones from [`Authenticate`].
///
/// Connections are reused, and use HTTP/1.1: in HTTP/2 the flow-control window of the only connection would slow down
/// concurrent uploads. Cloning is cheap, and clones share connections, login and retries. Requests need a tokio
/// runtime.
///
/// Every method can fail with:
///
/// - [`Error::Unauthenticated`] if the registry rejects the credentials.
/// - [`Error::PermissionDenied`] if the credentials do not allow the request.
/// - [`Error::NotFound`] if the registry does not have the repository.
/// - [`Error::Temporary`] if the registry is unreachable, closes the connection, does not respond for a minute, or
///   responds with 408, 429 or 5xx.
/// - [`Error::Failed`] for all other error responses.
///
/// If the registry responded, the source of `Unauthenticated`, `Temporary` and `Failed` is a [`DistributionError`].
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
    /// The rate limit for manifests, if the registry has one.
    rate_limit: Option<Arc<RateLimit>>,
    /// Serializes updates of the index at a referrers tag.
    referrers_lock: Arc<Mutex<()>>,
    /// The embedded registry, which runs until the last clone is dropped.
    server: Option<Arc<dyn Server>>,
}

/// A repository of any registry.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    host: RegistryHost,
    path: Box<str>,
    /// The URL, if the repository is one of this project.
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

/// The hosts that the client reaches by plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainHttp {
    Nowhere,
    Loopback,
    Anywhere,
}

impl PlainHttp {
    /// Returns whether the client may send a request to a URL.
    fn allows(self, url: &Url) -> bool {
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
    /// Returns a client of a repository, which connects to the host in its URL.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the credentials are for another registry; [`Error::Failed`] if TLS cannot be set up.
    pub fn new(repository: RepositoryUrl, credentials: RegistryCredentials) -> Result<Self> {
        let endpoint = repository.host().clone();
        Self::with_endpoint(repository, credentials, &endpoint)
    }

    /// Returns a client of a repository, which connects to another host: a tunnel, or the port of an embedded
    /// registry.
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

    /// Returns a client without credentials, which connects to `endpoint`. If the registry requires a token, the
    /// client requests an anonymous one.
    ///
    /// # Errors
    /// [`Error::Failed`] if TLS cannot be set up.
    pub fn anonymous(repository: RepositoryUrl, endpoint: &RegistryHost) -> Result<Self> {
        Self::open(repository.into(), None, endpoint, false)
    }

    /// Returns a client of the repository of an image in any registry, with or without credentials.
    /// [`ForeignCredentials::find`] finds the credentials of docker and podman.
    ///
    /// # Behavior
    /// - The client sends a password only after the registry has asked for one.
    /// - The client uses plain HTTP for loopback hosts, and for all hosts if `plain_http` is set.
    /// - Docker Hub counts fetched manifests, but not lookups with [`manifest`](Self::manifest). An exceeded rate
    ///   limit is [`Error::Temporary`] with the reset time. The client waits at most 120 s for the reset.
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
            .redirect(redirect::Policy::custom(move |attempt| follow_redirect(plain_http, attempt)))
            .user_agent(concat!("ark-container/", env!("CARGO_PKG_VERSION")));
        if is_loopback(base.host_str().unwrap_or_default()) {
            // A proxy cannot reach the ports of this machine.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| {
            Error::failed(format!("cannot create an HTTP client for {endpoint}")).with_source(error)
        })?;
        let login = Arc::new(Login::new(credentials));
        let is_ecr = is_ecr(repository.host());
        let rate_limit = is_ecr.then(|| Arc::new(RateLimit::new(ECR_MANIFESTS_PER_SECOND)));
        Ok(Self {
            http,
            base,
            plain_http,
            repository,
            login,
            retry: Retry::default(),
            rate_limit,
            referrers_lock: Arc::default(),
            server: None,
        })
    }

    /// Sets the retry policy for temporary errors.
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Sets the source of new credentials for when the registry rejects the current ones.
    pub fn with_authenticate(self, authenticate: Arc<dyn Authenticate>) -> Self {
        let login = Arc::new(self.login.with(authenticate));
        Self { login, ..self }
    }

    /// Keeps the embedded registry running while the client or a clone of it exists.
    #[cfg(feature = "local")]
    pub(crate) fn with_server(self, server: Arc<dyn Server>) -> Self {
        Self { server: Some(server), ..self }
    }

    /// Returns the embedded registry, which must run while its content is fetched.
    pub(super) fn server(&self) -> Option<Arc<dyn Server>> {
        self.server.clone()
    }

    /// Returns the URL of the repository.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the repository is in another registry.
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

    /// Returns the retry policy, with the number of retries so far.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Returns the URL of the repository in the distribution API.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Returns whether the registry is AWS ECR, regardless of the endpoint.
    pub(crate) fn is_ecr(&self) -> bool {
        self.rate_limit.is_some()
    }

    /// Waits until the rate limit allows another manifest.
    pub(super) async fn wait_for_manifest_quota(&self) {
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit.acquire().await;
        }
    }

    /// Waits until no other request updates the index at a referrers tag.
    pub(super) async fn lock_referrers(&self) -> MutexGuard<'_, ()> {
        self.referrers_lock.lock().await
    }

    /// Returns a URL below the URL of the repository, such as `manifests/v1`.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        self.base
            .join(path)
            .map_err(|error| Error::failed(format!("invalid URL path {path}")).with_source(error))
    }

    /// Returns a URL from a response, which may be relative to the URL of the request.
    pub(super) fn resolve(&self, requested: &Url, target: &str) -> Result<Url> {
        requested.join(target).map_err(|error| {
            Error::failed(format!("{} responds with an invalid URL", self.base)).with_source(error)
        })
    }

    /// Sends a request, with retries, until the response has one of the `expected` statuses.
    ///
    /// A failure to read the response body is not retried.
    pub(super) async fn send(
        &self,
        request: Request,
        target: RequestTarget,
        expected: &[StatusCode],
    ) -> Result<BoundedResponse> {
        self.retry.run(|| self.try_send(&request, &target, expected)).await
    }

    /// Fetches content of at most `limit` bytes. A failure to read the body is retried.
    pub(super) async fn fetch(
        &self,
        request: Request,
        target: RequestTarget,
        limit: usize,
    ) -> Result<(BoundedResponse, Vec<u8>)> {
        let fetching = || async {
            let mut response = self.try_send(&request, &target, &[StatusCode::OK]).await?;
            let body = response.read_whole(limit).await?;
            Ok((response, body))
        };
        self.retry.run(fetching).await
    }

    /// Sends a request without retries, except after a new login.
    pub(super) async fn try_send(
        &self,
        request: &Request,
        target: &RequestTarget,
        expected: &[StatusCode],
    ) -> Result<BoundedResponse> {
        let mut logins = 0;
        loop {
            let body = request.body.clone().into();
            let attempt =
                self.attempt(request, body, target, expected, sleep(RESPONSE_TIMEOUT)).await;
            let Failure { error, rejected } = match attempt {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let max_logins =
                |rejected: &RejectedLogin| if rejected.is_certain { MAX_LOGINS } else { 1 };
            let Some(rejected) = rejected.filter(|rejected| logins < max_logins(rejected)) else {
                return Err(error);
            };
            logins += 1;
            if !self.login.replace(&self.http, &self.base, rejected).await? {
                return Err(error);
            }
        }
    }

    /// Sends a body that cannot be sent twice, until the `timeout` ends.
    ///
    /// # Errors
    /// [`Error::Temporary`] also if the registry rejected the login, and a new login is available.
    pub(super) async fn send_once(
        &self,
        request: Request,
        body: Body,
        target: RequestTarget,
        expected: &[StatusCode],
        timeout: impl Future<Output = ()>,
    ) -> Result<BoundedResponse> {
        match self.attempt(&request, body, &target, expected, timeout).await {
            Ok(response) => Ok(response),
            Err(Failure { error, rejected: Some(rejected) }) => {
                match self.login.replace(&self.http, &self.base, rejected).await? {
                    true => {
                        Err(Error::temporary("the login was rejected and replaced")
                            .with_source(error))
                    }
                    false => Err(error),
                }
            }
            Err(Failure { error, rejected: None }) => Err(error),
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        body: Body,
        target: &RequestTarget,
        expected: &[StatusCode],
        timeout: impl Future<Output = ()>,
    ) -> Result<BoundedResponse, Failure> {
        let Request { method, url, headers, .. } = request;
        let login = self.login.current(&self.http, &self.base).await?;
        let redacted_url = login.secrets().redacted(url);
        if !self.plain_http.allows(url) {
            let host = self.repository.host();
            let message = format!("{host} asks for a request without TLS to {redacted_url}");
            return Err(Error::failed(message).into());
        }
        let mut builder = self.http.request(method.clone(), url.clone()).body(body);
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        if url.origin() == self.base.origin() {
            builder = login.authorize(builder);
        }
        let built = builder.build().map_err(|error| {
            Error::failed(target.description()).with_source(error.without_url())
        })?;
        tracing::debug!(%method, url = redacted_url, "request");
        let mut observed = ObservedRequest::start(method.as_str(), || redacted_url.clone());
        let sending = pin!(self.http.execute(built).instrument(observed.span().clone()));
        let response = match select(sending, pin!(timeout)).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(error), _)) => {
                return Err(connection_error(method, &redacted_url, error).into());
            }
            Either::Right(_) => return Err(timeout_error(method, &redacted_url).into()),
        };
        let mut reply = BoundedResponse::new(response, login.secrets());
        observed.answered(reply.status().as_u16());
        drop(observed);
        if expected.contains(&reply.status()) {
            if !matches!(*method, Method::GET) {
                // A connection is reused only after its response is read to the end.
                let _ = reply.read_up_to(MAX_ERROR_BODY_BYTES).await;
            }
            return Ok(reply);
        }
        // The received start of the body is more useful than the error that interrupted it.
        let (body, _) = reply.read_up_to(MAX_ERROR_BODY_BYTES).await;
        Err(self.failure(request, target, &reply, &body, &login))
    }

    /// Returns the error of an unexpected response, with the login if the registry rejected it.
    fn failure(
        &self,
        request: &Request,
        target: &RequestTarget,
        reply: &BoundedResponse,
        body: &[u8],
        login: &LoginState,
    ) -> Failure {
        let Request { method, url, .. } = request;
        let (status, headers, secrets) = (reply.status(), reply.headers(), login.secrets());
        let error = DistributionError::new(method.clone(), url, status, headers, body, secrets);
        tracing::debug!(%error, "unexpected response");
        // Another host did not receive the login, and cannot reject it.
        let own = reply.url().origin() == self.base.origin();
        // ECR reports an expired login only in the body, which a response to HEAD does not have.
        let is_head_forbidden = *method == Method::HEAD && status == StatusCode::FORBIDDEN;
        let is_certain = error.rejects_login();
        let rejected = (own && (is_certain || is_head_forbidden)).then(|| RejectedLogin {
            generation: login.generation(),
            challenge: Challenge::find(headers),
            is_certain,
        });
        let reading = matches!(*method, Method::GET | Method::HEAD);
        let context = Context {
            repository: &self.repository,
            username: login.username(),
            access: if reading { Access::Pull } else { Access::Push },
            target: target.clone(),
        };
        Failure { error: error.into_error(&context), rejected }
    }
}

/// The error of a request, with the rejected login if that is the cause.
struct Failure {
    error: Error,
    rejected: Option<RejectedLogin>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, rejected: None }
    }
}

fn is_ecr(host: &RegistryHost) -> bool {
    host.as_str().parse::<EcrHost>().is_ok()
}

/// Returns the URL of a repository in the distribution API, and the hosts that allow plain HTTP.
fn base_url(
    repository: &Repository,
    endpoint: &RegistryHost,
    is_plain_http_allowed: bool,
) -> Result<(Url, PlainHttp)> {
    let url = |scheme: &str| -> Result<Url> {
        let url = format!("{scheme}://{endpoint}/v2/{}/", repository.path).parse();
        url.map_err(|error| {
            Error::failed(format!("{endpoint} is not a valid host")).with_source(error)
        })
    };
    let plain = url("http")?;
    match is_loopback(plain.host_str().unwrap_or_default()) {
        _ if is_plain_http_allowed => Ok((plain, PlainHttp::Anywhere)),
        true => Ok((plain, PlainHttp::Loopback)),
        false => Ok((url("https")?, PlainHttp::Nowhere)),
    }
}

/// Follows a redirect unless it leaves HTTPS. reqwest removes the credentials for another host.
fn follow_redirect(plain_http: PlainHttp, attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    let to_https = attempt.url().scheme() == "https";
    if !to_https && (from_https || !plain_http.allows(attempt.url())) {
        attempt.error("the redirect leads to plain HTTP")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("the registry redirects more than {MAX_REDIRECTS} times"))
    } else {
        attempt.follow()
    }
}

/// A request that can be sent several times. A body that cannot is passed separately.
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

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    pub(super) fn body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }
}

const RATE_LIMIT_PERIOD: Duration = Duration::from_secs(1);

/// Allows a number of requests in any second. The first requests do not wait.
#[derive(Debug)]
pub(super) struct RateLimit {
    max_per_second: usize,
    /// The times of the latest requests, at most `max_per_second`.
    latest: Mutex<VecDeque<Instant>>,
}

impl RateLimit {
    pub(super) fn new(max_per_second: usize) -> Self {
        Self { max_per_second, latest: Mutex::default() }
    }

    /// Waits until another request is allowed, in the order of the calls.
    pub(super) async fn acquire(&self) {
        let mut latest = self.latest.lock().await;
        if latest.len() >= self.max_per_second
            && let Some(oldest) = latest.pop_front()
        {
            sleep_until(oldest + RATE_LIMIT_PERIOD).await;
        }
        latest.push_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rate_limit_holds_in_every_second() {
        let (rate_limit, started) = (RateLimit::new(10), Instant::now());
        let mut times = Vec::new();
        for _ in 0..25 {
            rate_limit.acquire().await;
            times.push(started.elapsed());
        }
        assert_eq!(times[9], Duration::ZERO);
        assert_eq!((times[10], times[19]), (RATE_LIMIT_PERIOD, RATE_LIMIT_PERIOD));
        assert_eq!((times[20], times[24]), (2 * RATE_LIMIT_PERIOD, 2 * RATE_LIMIT_PERIOD));
    }
}
