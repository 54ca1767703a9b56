//! [`Service`]: answers one request after the other, each in its repository and within its scope.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::access::{Authorize, Permit};
use super::body::{self, Body};
use super::dialect::Dialect;
use super::error::{ApiError, Code};
use super::receive::Content;
use super::record::{Record, Recorded};
use super::route::{Resource, Target};
use super::{auth, blobs, manifests, referrers, tags, uploads};
use crate::backend::local::store::Store;
use crate::model::{Digest, RepositoryPath};

/// The longest path with query that is read: a name, two digests and another name fit many times.
const MAX_URI: usize = 8 * 1024;

/// Old docker clients ask for it before they believe that this is a registry.
const API_VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);

/// What every request needs.
#[derive(Debug)]
pub(super) struct Service {
    store: Store,
    authorizer: Arc<dyn Authorize>,
    dialect: Arc<dyn Dialect>,
    tasks: TaskTracker,
}

impl Service {
    /// A service over `store`, whose writing tasks `tasks` keeps track of.
    pub(super) fn new(
        store: Store,
        authorizer: Arc<dyn Authorize>,
        dialect: Arc<dyn Dialect>,
        tasks: TaskTracker,
    ) -> Self {
        Self { store, authorizer, dialect, tasks }
    }

    /// Answers a request, whatever it is.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Recorded>, Infallible> {
        let (parts, incoming) = request.into_parts();
        let target = Target::parse(parts.uri.path());
        let mut record = Record::start(parts.method.clone(), target.kind());
        let mut content = Content::new(incoming);
        let mut response = match self.answer(&parts, &target, &mut content).await {
            Ok(response) => response,
            Err(error) => {
                // A client that waits for leave to send gets the refusal instead.
                if !parts.headers.contains_key(header::EXPECT) {
                    content.discard().await;
                }
                self.dialect.refuse(error, &target)
            }
        };
        response.headers_mut().extend([API_VERSION]);
        record.answered(response.status(), content.received());
        Ok(response.map(|body| Recorded::new(body, record)))
    }

    async fn answer(
        &self,
        parts: &Parts,
        target: &Target,
        content: &mut Content,
    ) -> Result<Response<Body>, ApiError> {
        let length = parts.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
        if length > MAX_URI {
            let message = format!("the URL has {length} characters, of at most {MAX_URI}");
            return Err(ApiError::new(StatusCode::URI_TOO_LONG, Code::Unsupported, message));
        }
        let permit = auth::authenticate(&*self.authorizer, &parts.headers, target)?;
        match target {
            Target::Base if matches!(parts.method, Method::GET | Method::HEAD) => {
                Ok(body::json(StatusCode::OK, &json!({})))
            }
            Target::Base => Err(method_not_allowed(&parts.method, "GET, HEAD")),
            Target::Unknown => {
                let message = "this registry has nothing at this path";
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
                let repository = InRepository {
                    store: self.store.clone(),
                    dialect: self.dialect.clone(),
                    path: path.clone(),
                };
                self.answer_within(repository, resource, &*permit, parts, content).await
            }
        }
    }

    /// Answers what the password opens; [`Dialect::operation`] has left only the methods that there are.
    async fn answer_within(
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
            (Resource::Blob(digest), &Method::DELETE) => blobs::delete(repository, digest).await,
            (Resource::Blob(digest), _) => blobs::get(repository, digest, method, headers).await,
            (Resource::Uploads, _) => {
                uploads::start(repository, permit, &query, tasks, content).await
            }
            (Resource::Upload(id), &Method::PATCH) => {
                uploads::append(repository, id, headers, tasks, content).await
            }
            (Resource::Upload(id), &Method::PUT) => {
                uploads::finish(repository, id, &query, headers, tasks, content).await
            }
            (Resource::Upload(id), &Method::DELETE) => uploads::cancel(repository, id).await,
            (Resource::Upload(id), _) => uploads::status(repository, id).await,
            (Resource::Manifest(reference), &Method::PUT) => {
                manifests::put(repository, reference, headers, content).await
            }
            (Resource::Manifest(reference), &Method::DELETE) => {
                manifests::delete(repository, reference).await
            }
            (Resource::Manifest(reference), _) => {
                manifests::get(repository, reference, method).await
            }
            (Resource::Tags, _) => tags::list(repository, &query).await,
            (Resource::Referrers(subject), _) => referrers::list(repository, subject, &query).await,
        }
    }
}

/// A repository that the request's password opens, whether or not it exists.
#[derive(Debug)]
pub(super) struct InRepository {
    store: Store,
    dialect: Arc<dyn Dialect>,
    path: RepositoryPath,
}

impl InRepository {
    pub(super) fn path(&self) -> &RepositoryPath {
        &self.path
    }

    /// How its registry behaves.
    pub(super) fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// The path of its URL.
    pub(super) fn url(&self) -> String {
        format!("/v2/{}", self.path)
    }

    /// Does something with the store, which blocks, and answers what went wrong.
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

    /// Does something with the store, which blocks.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &RepositoryPath) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (store, path) = (self.store.clone(), self.path.clone());
        let task = tokio::task::spawn_blocking(move || work(&store, &path));
        task.await.map_err(ApiError::internal)
    }
}

/// The query of a URL.
pub(super) struct Query<'a>(&'a str);

impl Query<'_> {
    /// The first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut pairs = form_urlencoded::parse(self.0.as_bytes());
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: crate::model::ParseError| {
        ApiError::bad_request(Code::DigestInvalid, error.to_string())
    })
}

fn method_not_allowed(method: &Method, allowed: &'static str) -> ApiError {
    let message = format!("{method} does nothing here");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message)
        .with_header(header::ALLOW, allowed)
}
