//! [`Service`]: requests in the name of the principal of a token.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ark_container_core::backend::{CreateOptions, Repository};
use ark_container_core::credentials::CredentialsOptions;
use ark_container_core::identity::{Principal, TokenVerifier};
use ark_container_core::model::{
    Access, OrganizationId, Organizations, RepositoryName, RepositoryPath, Scope,
};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt, Result};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::{Value, json};

/// Opens the registry for one principal.
pub(crate) type Acting = Arc<dyn Fn(Principal) -> Arc<dyn RegistryBackend> + Send + Sync>;

/// The state that all requests share.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) verifier: TokenVerifier,
    pub(crate) acting: Acting,
    pub(crate) metrics: PrometheusHandle,
}

impl Service {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/repositories", get(list).post(create))
            .route("/credentials", post(credentials))
            .route("/metrics", get(async |State(service): State<Self>| service.metrics.render()))
            .with_state(self)
    }
}

/// The caller of a request: a backend that acts for the principal of the request's token.
struct Caller(Arc<dyn RegistryBackend>);

impl FromRequestParts<Service> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Failure> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let principal = service.verifier.verify(token.unwrap_or_default()).await?;
        Ok(Self((service.acting)(principal)))
    }
}

#[derive(Deserialize)]
struct Listed {
    organization: Option<String>,
}

/// Streams the repositories, so that memory does not grow with the listing.
async fn list(caller: Caller, Query(listed): Query<Listed>) -> Result<Response, Failure> {
    let organizations = match listed.organization {
        Some(organization) => organization.parse::<OrganizationId>().map_err(Error::from)?.into(),
        None => Organizations::All,
    };
    let mut rows = caller.0.list_repositories(&organizations).peekable();
    // An error before the first row still has a status. A later error is a line of the body.
    if let Some(Err(_)) = std::pin::Pin::new(&mut rows).peek().await
        && let Some(Err(error)) = rows.next().await
    {
        return Err(error.into());
    }
    let lines = rows.map(|row| {
        let record = row.map_or_else(|error| public_text(&error), |repository| record(&repository));
        Ok::<_, Error>(Bytes::from(format!("{record}\n")))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

#[derive(Deserialize)]
struct Named {
    organization: String,
    name: String,
    access: Option<String>,
}

impl Named {
    fn path(&self, backend: &dyn RegistryBackend) -> Result<RepositoryPath> {
        let name: RepositoryName = self.name.parse()?;
        backend.repository_path(self.organization.parse()?, &name)
    }

    fn access(&self) -> Result<Access> {
        match self.access.as_deref() {
            None | Some("pull") => Ok(Access::Pull),
            Some("push") => Ok(Access::Push),
            Some(other) => Err(Error::invalid(format!("no access {other}: expected pull or push"))),
        }
    }
}

async fn create(caller: Caller, Json(named): Json<Named>) -> Result<Response, Failure> {
    let path = named.path(&caller.0)?;
    let created = caller.0.create_repository(&path, &CreateOptions::default()).await?;
    Ok((StatusCode::CREATED, Json(record(&created))).into_response())
}

async fn credentials(caller: Caller, Json(named): Json<Named>) -> Result<Response, Failure> {
    let scope = Scope::repository(named.path(&caller.0)?, named.access()?);
    let credentials = caller.0.credentials(&scope, &CredentialsOptions::default()).await?;
    let login = Json(json!({
        "host": credentials.host.as_str(),
        "username": credentials.username,
        "password": credentials.password.expose(),
        "expires_at": seconds(credentials.expires_at),
    }));
    // Proxies and clients must not store a password.
    Ok(([(header::CACHE_CONTROL, "no-store")], login).into_response())
}

fn record(repository: &Repository) -> Value {
    json!({
        "url": repository.url.to_string(),
        "created_at": repository.created_at.map(seconds),
    })
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// An error as a response. The status says what the caller can do.
struct Failure(Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            Error::Parse(_) | Error::InvalidInput { .. } => StatusCode::BAD_REQUEST,
            Error::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Error::PermissionDenied { .. } => StatusCode::FORBIDDEN,
            Error::NotFound { .. } => StatusCode::NOT_FOUND,
            Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::Temporary { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(public_text(&self.0))).into_response()
    }
}

/// Returns the text of an error for the caller, without its causes, which are internal.
fn public_text(error: &Error) -> Value {
    json!({ "error": error.kind().as_str(), "message": error.to_string() })
}
