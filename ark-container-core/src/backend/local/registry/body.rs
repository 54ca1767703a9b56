//! What the registry sends: bodies of responses, and the headers that every kind of answer shares.

use std::io;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::model::Digest;

/// A response's body, which may be a stream from the disk.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The digest of what is sent or was stored.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests>
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An answer whose body is JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Sets headers on an answer, each from a number or from text.
pub(super) trait WithHeader {
    /// The answer with one more header; a value that no header can have is left out, which no text
    /// that the model has parsed is.
    fn with(self, name: HeaderName, value: impl ToString) -> Self;
}

impl WithHeader for Response<Body> {
    fn with(mut self, name: HeaderName, value: impl ToString) -> Self {
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.headers_mut().insert(name, value);
        }
        self
    }
}

/// `201 Created`, with where it is now and by what digest.
pub(super) fn created(location: String, digest: &Digest) -> Response<Body> {
    status(StatusCode::CREATED).with(header::LOCATION, location).with(DOCKER_CONTENT_DIGEST, digest)
}
