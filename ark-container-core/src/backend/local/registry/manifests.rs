//! Manifests: put, get, delete.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};

use super::body::{self, Body, DOCKER_CONTENT_DIGEST, WithHeader};
use super::error::{ApiError, Code};
use super::receive::Content;
use super::service::{InRepository, parse_digest};
use crate::model::Reference;

/// The largest manifest that is taken, which is what the specification asks clients to stay below.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>
const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// Tells the client that the registry knows of referrers.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

pub(super) async fn get(
    repository: InRepository,
    reference: &str,
    method: &Method,
) -> Result<Response<Body>, ApiError> {
    let reference = existing(reference)?;
    let manifest = repository.run(move |store, path| store.manifest(path, &reference)).await?;
    let length = manifest.bytes.len();
    let body = if method == Method::HEAD { body::empty() } else { body::full(manifest.bytes) };
    Ok(Response::new(body)
        .with(header::CONTENT_TYPE, manifest.media_type)
        .with(header::CONTENT_LENGTH, length)
        .with(DOCKER_CONTENT_DIGEST, manifest.digest))
}

pub(super) async fn put(
    repository: InRepository,
    reference: &str,
    headers: &HeaderMap,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let reference: Reference = if reference.contains(':') {
        parse_digest(reference)?.into()
    } else {
        reference.parse().map_err(|error: crate::model::ParseError| {
            ApiError::bad_request(Code::TagInvalid, error.to_string())
        })?
    };
    let media_type = media_type(headers)?;
    let Some(bytes) = content.collect(MAX_MANIFEST).await? else {
        let message = format!("a manifest has at most {MAX_MANIFEST} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, Code::ManifestInvalid, message));
    };
    repository.dialect().take_manifest(&bytes)?;
    let base = repository.url();
    let put = repository
        .run(move |store, path| {
            // What is wrong with the manifest matters once there is a place for it.
            store.repository(path)?;
            store.put_manifest(path, &reference, &media_type, &bytes)
        })
        .await?;
    let response = body::created(format!("{base}/manifests/{}", put.digest), &put.digest);
    Ok(match put.subject {
        Some(subject) => response.with(OCI_SUBJECT, subject),
        None => response,
    })
}

pub(super) async fn delete(
    repository: InRepository,
    reference: &str,
) -> Result<Response<Body>, ApiError> {
    let reference = existing(reference)?;
    repository
        .run(move |store, path| match &reference {
            Reference::Digest(digest) => store.delete_manifest(path, digest),
            Reference::Tag(tag) => store.delete_tag(path, tag),
        })
        .await?;
    Ok(body::status(StatusCode::ACCEPTED))
}

/// A reference to something that is to exist: nothing exists under what cannot be a tag.
fn existing(reference: &str) -> Result<Reference, ApiError> {
    if reference.contains(':') {
        return parse_digest(reference).map(Reference::Digest);
    }
    reference.parse().map_err(|error: crate::model::ParseError| {
        ApiError::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, error.to_string())
    })
}

/// The media type without its parameters, which mean nothing for a manifest.
fn media_type(headers: &HeaderMap) -> Result<String, ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if essence.is_empty() {
        let message = "a manifest needs a Content-Type that says of what kind it is";
        return Err(ApiError::bad_request(Code::ManifestInvalid, message));
    }
    Ok(essence.to_owned())
}
