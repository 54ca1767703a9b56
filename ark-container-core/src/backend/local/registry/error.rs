//! [`ApiError`]: the error responses of the registry.

use std::io;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, Body};
use super::route::Target;
use crate::backend::local::store::PutManifestError;
use crate::error::{Error, ResourceKind};
use crate::model::RepositoryPath;

/// The error codes of the OCI distribution specification, followed by those of the distribution
/// project.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes>,
/// <https://github.com/distribution/distribution/blob/v3.0.0/registry/api/errcode/register.go>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    /// The password has expired.
    Expired,
    Denied,
    Unsupported,
    PaginationNumberInvalid,
    RangeInvalid,
    TagInvalid,
    /// The tag is immutable and names another image.
    TagImmutable,
    Unavailable,
    Unknown,
}

impl Code {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized | Self::Expired => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::TagInvalid | Self::TagImmutable => "TAG_INVALID",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The commands that the registry's error messages suggest to users.
#[derive(Debug, Clone, Copy)]
pub struct HintCommands {
    /// Returns the command that prints a password for a repository. The repository is `None` if the request
    /// does not name one.
    pub login: fn(Option<&RepositoryPath>) -> String,
    /// Returns the command that creates a repository.
    pub create_repository: fn(&RepositoryPath) -> String,
}

/// An error response: status, code, message and headers.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: Code,
    message: String,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, headers: Vec::new() }
    }

    /// Creates the error of an invalid request.
    pub(super) fn bad_request(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    #[cfg(feature = "_ecr_emulation")]
    pub(super) fn code(&self) -> Code {
        self.code
    }

    #[cfg(feature = "_ecr_emulation")]
    pub(super) fn with_message(self, message: String) -> Self {
        Self { message, ..self }
    }

    pub(super) fn with_detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Adds a header. An invalid header value is ignored.
    pub(super) fn with_header(
        mut self,
        name: HeaderName,
        value: impl TryInto<HeaderValue>,
    ) -> Self {
        self.headers.extend(value.try_into().ok().map(|value| (name, value)));
        self
    }

    /// Adds the command that solves the problem, if there is one.
    pub(super) fn with_command(mut self, commands: &HintCommands, target: &Target) -> Self {
        let path = match target {
            Target::InRepository { path, .. } => path.as_ref().ok(),
            _ => None,
        };
        match (self.code, path) {
            (Code::Unauthorized | Code::Expired, path) => {
                self.message = format!("{}: {}", self.message, (commands.login)(path));
            }
            (Code::NameUnknown, Some(path)) => {
                let command = (commands.create_repository)(path);
                self.message = format!("{}; create it first: {command}", self.message);
            }
            _ => {}
        }
        self
    }

    /// Logs an internal failure and creates its response, which omits the cause because it may name
    /// files of this machine.
    pub(super) fn internal(cause: impl Into<crate::BoxError>) -> Self {
        let cause: crate::BoxError = cause.into();
        if is_overload(cause.as_ref()) {
            return Self::unavailable(cause.as_ref());
        }
        tracing::error!(cause = %chain(cause.as_ref()), "the registry failed");
        if is_storage_full(cause.as_ref()) {
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, Code::Unknown, STORAGE_FULL);
        }
        let message = "the registry failed; its log has the cause";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, message)
    }

    /// Creates the error of a request that fails for a test.
    #[cfg(feature = "testing")]
    pub(super) fn injected(status: StatusCode) -> Self {
        Self::new(status, Code::Unknown, "a test makes this request fail")
    }

    /// Creates the error of an overloaded registry. Clients may retry.
    pub(super) fn unavailable(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(cause = %chain(cause), "the registry is temporarily unavailable");
        let message = "the registry is temporarily unavailable; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message });
        if let Some(detail) = self.detail {
            error["detail"] = detail;
        }
        let mut response = body::json(self.status, &json!({ "errors": [error] }));
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Converts errors of the store.
///
/// The store rejects input only if the content does not have the announced digest. Everything else was parsed
/// before.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Parse(_) | Error::InvalidInput { .. } => {
                Self::bad_request(Code::DigestInvalid, message)
            }
            Error::Unauthenticated { .. } => {
                Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message)
            }
            Error::PermissionDenied { .. } => {
                Self::new(StatusCode::FORBIDDEN, Code::Denied, message)
            }
            Error::NotFound { kind: ResourceKind::Repository, name, .. } => {
                let message = format!("repository {name} does not exist");
                Self::new(StatusCode::NOT_FOUND, Code::NameUnknown, message)
            }
            Error::NotFound { kind: ResourceKind::Image, .. } => {
                Self::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, message)
            }
            Error::NotFound { kind: ResourceKind::Blob, .. } => {
                Self::new(StatusCode::NOT_FOUND, Code::BlobUnknown, message)
            }
            Error::NotFound { kind: ResourceKind::Upload, .. } => {
                Self::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, message)
            }
            Error::Conflict { kind: ResourceKind::Upload, .. } => {
                Self::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, message)
            }
            // As in zot: clients expect 405 where a blob cannot be deleted.
            Error::Conflict { kind: ResourceKind::Blob, .. } => {
                Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Denied, message)
                    .with_header(header::ALLOW, "GET, HEAD")
            }
            Error::Conflict { .. } => Self::new(StatusCode::CONFLICT, Code::Denied, message),
            Error::Temporary { .. } => Self::unavailable(&error),
            error @ (Error::NotFound { .. } | Error::Failed { .. } | Error::Setting(_)) => {
                Self::internal(error)
            }
        }
    }
}

/// Converts errors of putting a manifest.
///
/// An immutable tag that names another image is a 400 with `TAG_INVALID`, as on ECR: docker and podman
/// print its message and do not retry.
impl From<PutManifestError> for ApiError {
    fn from(error: PutManifestError) -> Self {
        let message = error.to_string();
        match error {
            PutManifestError::Invalid(_) => Self::bad_request(Code::ManifestInvalid, message),
            PutManifestError::WrongDigest { .. } => Self::bad_request(Code::DigestInvalid, message),
            PutManifestError::Missing(digest) => {
                Self::bad_request(Code::ManifestBlobUnknown, message)
                    .with_detail(json!({ "digest": digest }))
            }
            PutManifestError::Other(Error::Conflict { kind: ResourceKind::Image, .. }) => {
                Self::bad_request(Code::TagImmutable, message)
            }
            PutManifestError::Other(error) => error.into(),
        }
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn io_causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a io::Error> {
    causes(error).filter_map(|cause| cause.downcast_ref())
}

pub(in crate::backend::local) const STORAGE_FULL: &str = "the registry's disk is full";

/// Returns whether an error is that of a full disk.
pub(in crate::backend::local) fn is_storage_full(
    error: &(dyn std::error::Error + 'static),
) -> bool {
    let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    io_causes(error).any(|cause| full(cause.kind()))
}

/// Returns whether the process or the machine has reached its limit of open files, which is temporary.
fn is_overload(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut codes = io_causes(error).filter_map(io::Error::raw_os_error);
    codes.any(|code| code == libc::EMFILE || code == libc::ENFILE)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn sent(error: ApiError) -> (StatusCode, Value) {
        let response = error.into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn full_disk_error_omits_paths() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let (status, body) =
            sent(Error::failed("cannot write /secret/place").with_source(full).into()).await;
        assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(body["errors"][0]["message"], "the registry's disk is full");
    }

    #[tokio::test]
    async fn internal_error_omits_paths() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let (status, body) =
            sent(Error::failed("cannot read /secret/place").with_source(denied).into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body.to_string().contains("secret"), "{body}");
        let missing = Error::not_found(ResourceKind::File, "/secret/place");
        assert!(!sent(missing.into()).await.1.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn temporary_error_sets_retry_after() {
        let busy = io::Error::from(io::ErrorKind::ResourceBusy);
        let response = ApiError::from(Error::temporary("busy").with_source(busy)).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn missing_file_descriptors_are_temporary() {
        for code in [libc::EMFILE, libc::ENFILE] {
            let many = io::Error::from_raw_os_error(code);
            let (status, body) =
                sent(Error::failed("cannot open /secret/place").with_source(many).into()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(body["errors"][0]["code"], "UNAVAILABLE");
        }
    }

    #[tokio::test]
    async fn immutable_tag_is_bad_request() {
        let conflict = Error::conflict(ResourceKind::Image, "a:1", "is immutable");
        let (status, body) = sent(PutManifestError::Other(conflict).into()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["errors"][0]["code"], "TAG_INVALID");
        assert_eq!(body["errors"][0]["message"], "image a:1 is immutable");
    }
}
