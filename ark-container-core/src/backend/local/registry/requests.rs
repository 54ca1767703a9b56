//! [`Service`]: authenticates, authorizes, routes and logs each request.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use metrics::{counter, histogram};
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::auth::{Authorize, Permit};
use super::body::{self, Body, Content};
use super::connection::{Connection, RunningRequest};
use super::dialect::Dialect;
use super::error::{ApiError, Code, HintCommands};
use super::memory::Memory;
use super::route::{Resource, Target};
use super::{auth, blobs, manifests};
use crate::backend::local::store::Store;
use crate::model::{Digest, ParseError, RepositoryPath};
use crate::observability::{SERVED, SERVED_BYTES, SERVED_SECONDS};

/// The maximum length of path and query. Two names and two digests fit many times.
const MAX_URI_BYTES: usize = 8 * 1024;

/// The header by which old docker clients recognize a registry.
const API_VERSION_HEADER: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);

/// The state that all requests share.
#[derive(Debug)]
pub(super) struct Service {
    store: Store,
    authorizer: Arc<dyn Authorize>,
    dialect: Arc<dyn Dialect>,
    commands: Option<HintCommands>,
    tasks: TaskTracker,
    memory: Memory,
}

impl Service {
    /// Creates a service over `store` that spawns its writing tasks in `tasks`.
    pub(super) fn new(
        store: Store,
        authorizer: Arc<dyn Authorize>,
        dialect: Arc<dyn Dialect>,
        commands: Option<HintCommands>,
        tasks: TaskTracker,
    ) -> Self {
        Self { store, authorizer, dialect, commands, tasks, memory: Memory::new() }
    }

    /// Returns the response to a request of a connection, and logs the request.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Result<Response<RecordedBody>, Infallible> {
        let running = connection.start_request();
        let (parts, incoming) = request.into_parts();
        let target = Target::parse(parts.uri.path());
        let mut record = RequestRecord::start(parts.method.clone(), target.kind());
        let mut content = Content::new(incoming);
        let mut response = match self.respond(&parts, &target, &mut content, &connection).await {
            Ok(response) => response,
            Err(error) => {
                // A client that waits for `100 Continue` has not sent its body.
                if !parts.headers.contains_key(header::EXPECT) {
                    content.discard().await;
                }
                let error = match &self.commands {
                    Some(commands) => error.with_command(commands, &target),
                    None => error,
                };
                self.dialect.error_response(error, &target)
            }
        };
        response.headers_mut().extend([API_VERSION_HEADER]);
        record.responded(response.status(), content.received());
        Ok(response.map(|body| RecordedBody { body, record, _running: running }))
    }

    async fn respond(
        &self,
        parts: &Parts,
        target: &Target,
        content: &mut Content,
        connection: &Connection,
    ) -> Result<Response<Body>, ApiError> {
        check_host(parts)?;
        let length = parts.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
        if length > MAX_URI_BYTES {
            let message = format!("the URL has {length} characters, of at most {MAX_URI_BYTES}");
            return Err(ApiError::new(StatusCode::URI_TOO_LONG, Code::Unsupported, message));
        }
        self.dialect.check_request()?;
        let permit = auth::authenticate(&*self.authorizer, &parts.headers)?;
        connection.authenticated();
        match target {
            Target::Base if matches!(parts.method, Method::GET | Method::HEAD) => {
                Ok(body::json(StatusCode::OK, &json!({})))
            }
            Target::Base => Err(method_not_allowed(&parts.method, "GET, HEAD")),
            Target::Unknown => {
                let message = "the registry has no endpoint at this path";
                Err(ApiError::new(StatusCode::NOT_FOUND, Code::Unsupported, message))
            }
            Target::InRepository { path, resource } => {
                let path = path
                    .as_ref()
                    .map_err(|error| ApiError::bad_request(Code::NameInvalid, error.to_string()))?;
                let Some(operation) = self.dialect.operation(resource, &parts.method) else {
                    return Err(method_not_allowed(&parts.method, resource.methods()));
                };
                auth::authorize(&*permit, path, operation)?;
                let client = parts.headers.get(header::AUTHORIZATION);
                let repository = InRepository {
                    store: self.store.for_client(client.map_or(b"", |value| value.as_bytes())),
                    dialect: self.dialect.clone(),
                    path: path.clone(),
                    memory: self.memory.clone(),
                };
                self.respond_in_repository(repository, resource, &*permit, parts, content).await
            }
        }
    }

    /// Returns the response to an authorized request with a supported method.
    async fn respond_in_repository(
        &self,
        repository: InRepository,
        resource: &Resource,
        permit: &dyn Permit,
        parts: &Parts,
        content: &mut Content,
    ) -> Result<Response<Body>, ApiError> {
        let query = Query(parts.uri.query().unwrap_or_default());
        let (method, headers, tasks) = (&parts.method, &parts.headers, &self.tasks);
        match (resource, method) {
            (Resource::Blob(digest), &Method::DELETE) => {
                blobs::delete_blob(repository, digest).await
            }
            (Resource::Blob(digest), &Method::HEAD) => {
                blobs::check_blob(repository, permit, digest).await
            }
            (Resource::Blob(digest), _) => blobs::get_blob(repository, digest, headers).await,
            (Resource::Uploads, _) => {
                blobs::start_upload(repository, permit, &query, tasks, content).await
            }
            (Resource::Upload(id), &Method::PATCH) => {
                blobs::append_upload(repository, id, headers, tasks, content).await
            }
            (Resource::Upload(id), &Method::PUT) => {
                blobs::finish_upload(repository, id, &query, headers, tasks, content).await
            }
            (Resource::Upload(id), &Method::DELETE) => blobs::cancel_upload(repository, id).await,
            (Resource::Upload(id), _) => blobs::upload_status(repository, id).await,
            (Resource::Manifest(reference), &Method::PUT) => {
                manifests::put_manifest(repository, reference, headers, content).await
            }
            (Resource::Manifest(reference), &Method::DELETE) => {
                manifests::delete_manifest(repository, reference).await
            }
            (Resource::Manifest(reference), _) => {
                manifests::get_manifest(repository, reference, method).await
            }
            (Resource::Tags, _) => manifests::list_tags(repository, &query).await,
            (Resource::Referrers(subject), _) => {
                manifests::list_referrers(repository, subject, &query).await
            }
        }
    }
}

/// The repository of an authorized request, whether or not it exists.
#[derive(Debug)]
pub(super) struct InRepository {
    store: Store,
    dialect: Arc<dyn Dialect>,
    path: RepositoryPath,
    memory: Memory,
}

impl InRepository {
    /// Returns the memory that all requests share.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn path(&self) -> &RepositoryPath {
        &self.path
    }

    /// Returns the dialect of the registry.
    pub(super) fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Returns the path of the repository's URL.
    pub(super) fn url(&self) -> String {
        format!("/v2/{}", self.path)
    }

    /// Runs a store operation on a blocking thread and converts its error.
    pub(super) async fn run<T, E>(
        &self,
        work: impl FnOnce(&Store, &RepositoryPath) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        self.blocking(work).await?.map_err(Into::into)
    }

    /// Runs a store operation on a blocking thread.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &RepositoryPath) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (store, path) = (self.store.clone(), self.path.clone());
        let task = tokio::task::spawn_blocking(move || work(&store, &path));
        task.await.map_err(ApiError::internal)
    }
}

/// The query parameters of a URL.
pub(super) struct Query<'a>(&'a str);

impl Query<'_> {
    /// Returns the first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut pairs = form_urlencoded::parse(self.0.as_bytes());
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// Rejects a request without exactly one valid `Host`. Only HTTP/1.0 may omit it.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9112#section-3.2>
fn check_host(parts: &Parts) -> Result<(), ApiError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let is_valid = match (hosts.next(), hosts.next()) {
        (None, _) => parts.version == Version::HTTP_10,
        (Some(host), None) => host.is_empty() || is_authority(host),
        (Some(_), Some(_)) => false,
    };
    if is_valid {
        return Ok(());
    }
    Err(ApiError::bad_request(Code::Unsupported, "the request needs exactly one valid Host header"))
}

/// Returns whether a value is a host with or without a port, and has no user.
fn is_authority(host: &HeaderValue) -> bool {
    let authority = Authority::try_from(host.as_bytes());
    authority.is_ok_and(|authority| !authority.as_str().contains('@'))
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse()
        .map_err(|error: ParseError| ApiError::bad_request(Code::DigestInvalid, error.to_string()))
}

fn method_not_allowed(method: &Method, allowed: &'static str) -> ApiError {
    let message = format!("this path does not support the method {method}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message)
        .with_header(header::ALLOW, allowed)
}

/// The log event and the metrics of a request, without headers and names. The drop records them.
#[derive(Debug)]
struct RequestRecord {
    method: Method,
    kind: &'static str,
    started: Instant,
    status: Option<StatusCode>,
    received: u64,
    sent: u64,
}

impl RequestRecord {
    /// Starts the record of a request.
    fn start(method: Method, kind: &'static str) -> Self {
        Self { method, kind, started: Instant::now(), status: None, received: 0, sent: 0 }
    }

    /// Records the status of the response and the number of bytes received until then.
    fn responded(&mut self, status: StatusCode, received: u64) {
        self.status = Some(status);
        self.received = received;
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let status = self.status.as_ref().map_or("none", StatusCode::as_str).to_owned();
        let labels = [
            ("method", method_label(&self.method)),
            ("kind", self.kind.to_owned()),
            ("status", status),
        ];
        counter!(SERVED, &labels).increment(1);
        histogram!(SERVED_SECONDS, &labels).record(elapsed.as_secs_f64());
        counter!(SERVED_BYTES, "direction" => "received").increment(self.received);
        counter!(SERVED_BYTES, "direction" => "sent").increment(self.sent);
        tracing::info!(
            method = %self.method,
            kind = self.kind,
            // 0: the client disconnected before the response.
            status = self.status.map_or(0, |status| status.as_u16()),
            received = self.received,
            sent = self.sent,
            milliseconds = elapsed.as_millis() as u64,
            "request"
        );
    }
}

/// Returns the metric label of a method. Unknown methods share one label.
fn method_label(method: &Method) -> String {
    let known =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if known.contains(method) { method.to_string() } else { "other".to_owned() }
}

/// A response body that counts the bytes sent for its request's record.
#[derive(Debug)]
pub(super) struct RecordedBody {
    body: Body,
    record: RequestRecord,
    _running: RunningRequest,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.record.sent += bytes.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
