//! A registry that responds as AWS ECR does (feature `_ecr_emulation`), for the fake of AWS in `tests/fakes`.
//!
//! Behaviour that AWS does not document comes from the reports that are cited next to it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;

use super::Registry;
use super::auth::{Authorize, Operation, Permit};
use super::body::{self, Body, WithHeader};
use super::dialect::{Dialect, Part};
use super::error::{ApiError, Code};
use super::route::{Resource, Target};
use crate::backend::CreateOptions;
use crate::backend::local::LocalBackend;
use crate::backend::local::store::UploadId;
use crate::backend::local::token::TokenError;
use crate::credentials::Password;
use crate::error::{Error, Result};
use crate::model::{Digest, Reference, RepositoryPath};

/// The minimum size of each part of an upload except the last.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html>
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

const CHALLENGE: &str = "Basic realm=\"https://ecr.amazonaws.com/\",service=\"ecr.amazonaws.com\"";

/// Checks the passwords of an emulated ECR registry and their permissions.
pub trait EcrAuthorizer: fmt::Debug + Send + Sync + 'static {
    /// The result of a login, such as the principal that the password was issued to.
    type Login: Send + Sync;

    /// Returns the login of a password.
    ///
    /// # Errors
    /// [`RejectedPassword`] if the password is unknown or has expired.
    fn log_in(&self, password: &Password) -> std::result::Result<Self::Login, RejectedPassword>;

    /// Returns whether the login allows an IAM action, such as `ecr:PutImage`, on a repository.
    fn allows(&self, login: &Self::Login, path: &RepositoryPath, action: &'static str) -> bool;
}

/// The reason why an emulated registry rejects a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectedPassword {
    /// The registry never issued the password.
    Unknown,
    /// The password has expired.
    Expired,
}

/// Binds a registry that serves the repositories of `backend` as ECR does.
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) if the address is in use, or is not an address of this machine.
pub fn bind_registry<A: EcrAuthorizer>(
    backend: &LocalBackend,
    address: SocketAddr,
    authorizer: Arc<A>,
    dialect: Arc<EcrDialect>,
) -> Result<Registry> {
    let authorizer = Arc::new(ByAction(authorizer));
    Registry::bind_as(backend.store().clone(), address, authorizer, dialect)
}

/// Reads the media type and the content of a manifest.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if the repository or the image does not exist.
pub fn read_manifest(
    backend: &LocalBackend,
    path: &RepositoryPath,
    digest: &Digest,
) -> Result<(String, Vec<u8>)> {
    let mut manifest = backend.store().open_manifest(path, &Reference::Digest(digest.clone()))?;
    let mut bytes = Vec::new();
    let read = manifest.file.read_to_end(&mut bytes);
    read.map_err(|error| Error::failed(format!("cannot read {digest}")).with_source(error))?;
    Ok((manifest.media_type, bytes))
}

/// Creates a repository synchronously.
///
/// # Errors
/// [`Error::Conflict`](crate::Error::Conflict) if it exists with other options.
pub fn create_repository(
    backend: &LocalBackend,
    path: &RepositoryPath,
    options: &CreateOptions,
) -> Result<()> {
    backend.store().create_repository(path, options).map(drop)
}

/// Authorizes each request by the IAM actions that it needs.
#[derive(Debug)]
struct ByAction<A>(Arc<A>);

impl<A: EcrAuthorizer> Authorize for ByAction<A> {
    fn permit(&self, password: &Password) -> std::result::Result<Box<dyn Permit>, TokenError> {
        let login = self.0.log_in(password).map_err(|rejected| match rejected {
            RejectedPassword::Unknown => TokenError::Invalid,
            RejectedPassword::Expired => TokenError::Expired,
        })?;
        Ok(Box::new(EcrPermit { authorizer: self.0.clone(), login }))
    }
}

struct EcrPermit<A: EcrAuthorizer> {
    authorizer: Arc<A>,
    login: A::Login,
}

impl<A: EcrAuthorizer> Permit for EcrPermit<A> {
    fn allows(&self, path: &RepositoryPath, operation: Operation) -> bool {
        let actions = actions(operation);
        let allowed = |action: &&'static str| self.authorizer.allows(&self.login, path, action);
        !actions.is_empty() && actions.iter().all(allowed)
    }
}

/// Returns the IAM actions that an operation needs.
///
/// AWS documents the actions of a whole push or pull. The actions of one request follow from the API
/// operations of the same name. A request without such an operation needs the actions of a pull.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>, and for pulls
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_id-based-policy-examples.html>
fn actions(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::ReadManifest | Operation::ListReferrers => &["ecr:BatchGetImage"],
        // Source: <https://github.com/containers/skopeo/issues/726>
        Operation::ListTags => &["ecr:ListImages"],
        Operation::CheckBlob => &["ecr:BatchCheckLayerAvailability"],
        // Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
        Operation::ReadBlob | Operation::MountBlob => &["ecr:GetDownloadUrlForLayer"],
        Operation::UploadStatus => &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        // The request may contain the whole blob.
        Operation::StartUpload => {
            &["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"]
        }
        Operation::SendPart => &["ecr:UploadLayerPart"],
        // The request may contain the last part.
        Operation::FinishUpload => &["ecr:UploadLayerPart", "ecr:CompleteLayerUpload"],
        Operation::PutManifest => &["ecr:PutImage"],
        Operation::DeleteManifest => &["ecr:BatchDeleteImage"],
        // ECR does not support these requests.
        Operation::DeleteBlob | Operation::CancelUpload => &[],
    }
}

/// The behaviour of the registry of an AWS account.
///
/// A part of an upload has at least 5 MiB. The limit of 20 MiB of `UploadLayerPart` applies to the API only.
/// Source: <https://github.com/jdx/mise/pull/11376>
#[derive(Debug)]
pub struct EcrDialect {
    account: String,
    mounts: AtomicBool,
    refuses_subjects: AtomicBool,
    fails_empty_put: AtomicBool,
    uploads: Mutex<HashMap<UploadId, Parts>>,
    archived: Mutex<HashSet<(RepositoryPath, Digest)>>,
}

/// The facts about the received parts of an upload that affect later parts.
#[derive(Debug, Default)]
struct Parts {
    /// The offset of the latest part.
    latest: u64,
    /// The end of the first part, once there is a second.
    first_end: Option<u64>,
    /// Whether a part other than the last is too small.
    too_small: bool,
}

impl EcrDialect {
    /// Creates the dialect of the registry of an account.
    pub fn new(account: impl Into<String>) -> Self {
        Self {
            account: account.into(),
            mounts: AtomicBool::new(false),
            refuses_subjects: AtomicBool::new(false),
            fails_empty_put: AtomicBool::new(false),
            uploads: Mutex::default(),
            archived: Mutex::default(),
        }
    }

    /// Enables or disables blob mounting, a setting of the account. The default is off.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
    pub fn set_mounts(&self, mounts: bool) {
        self.mounts.store(mounts, Ordering::Relaxed);
    }

    /// Sets whether manifests with a subject are rejected. The default is off.
    pub fn set_refuses_subjects(&self, refuses: bool) {
        self.refuses_subjects.store(refuses, Ordering::Relaxed);
    }

    /// Makes the next upload whose last request has an empty body fail.
    pub fn fail_next_empty_put(&self) {
        self.fails_empty_put.store(true, Ordering::Relaxed);
    }

    /// Archives an image, or restores it.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UpdateImageStorageClass.html>
    pub fn set_archived(&self, path: &RepositoryPath, digest: &Digest, archives: bool) {
        let image = (path.clone(), digest.clone());
        match archives {
            true => self.archived().insert(image),
            false => self.archived().remove(&image),
        };
    }

    /// Returns whether an image is archived.
    pub fn is_archived(&self, path: &RepositoryPath, digest: &Digest) -> bool {
        self.archived().contains(&(path.clone(), digest.clone()))
    }

    fn archived(&self) -> MutexGuard<'_, HashSet<(RepositoryPath, Digest)>> {
        // A panic while the set was locked leaves it consistent.
        self.archived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts<T>(&self, read: impl FnOnce(&mut HashMap<UploadId, Parts>) -> T) -> T {
        // A panic while the map was locked leaves it consistent.
        read(&mut self.uploads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns ECR's own message of an error, if there is one.
    fn message(&self, code: Code, target: &Target) -> Option<String> {
        let Target::InRepository { path: Ok(path), resource } = target else { return None };
        match (code, resource) {
            (Code::NameUnknown, _) => Some(format!(
                "The repository with name '{path}' does not exist in the registry with id '{}'",
                self.account
            )),
            (Code::ManifestUnknown, _) => Some("Requested image not found".to_owned()),
            // Source: <https://github.com/moby/buildkit/issues/3776>
            (Code::TagImmutable, Resource::Manifest(tag)) => Some(format!(
                "The image tag '{tag}' already exists in the '{path}' repository and cannot be \
                 overwritten because the repository is immutable."
            )),
            _ => None,
        }
    }
}

impl Dialect for EcrDialect {
    /// Returns plain text for an unknown password, and the error `DENIED` for an expired one.
    ///
    /// Source: <https://github.com/mdlavin/copy-docker-image/issues/5>,
    /// <https://github.com/aws/aws-cli/issues/6580>
    fn error_response(&self, error: ApiError, target: &Target) -> Response<Body> {
        match error.code() {
            Code::Unauthorized => {
                let mut response = Response::new(body::full("Not Authorized\n"));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
                    .with(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                    .with(header::WWW_AUTHENTICATE, CHALLENGE)
            }
            Code::Expired => {
                let message = "Your authorization token has expired. Reauthenticate and try again.";
                ApiError::new(StatusCode::FORBIDDEN, Code::Denied, message).into_response()
            }
            code => match self.message(code, target) {
                Some(message) => error.with_message(message).into_response(),
                None => error.into_response(),
            },
        }
    }

    /// Returns `None` for the deletion of blobs and uploads: ECR deletes only images over HTTP.
    ///
    /// Source: <https://github.com/aws/containers-roadmap/issues/1229>
    fn operation(&self, resource: &Resource, method: &Method) -> Option<Operation> {
        let deletes = method == Method::DELETE && !matches!(resource, Resource::Manifest(_));
        resource.operation(method).filter(|_| !deletes)
    }

    fn mounts(&self) -> bool {
        self.mounts.load(Ordering::Relaxed)
    }

    /// Checks the offset of a part, 0 if the client announces none. If a part is too small, the last request of the
    /// upload fails.
    ///
    /// Source: <https://github.com/apple/containerization/issues/790>,
    /// <https://github.com/dotnet/sdk-container-builds/issues/424>
    fn check_part(&self, part: &Part) -> std::result::Result<(), ApiError> {
        let Part { id, stored, is_empty, is_last, .. } = *part;
        let start = part.start.unwrap_or(0);
        if !is_empty && start != stored {
            let message = format!("First byte of the layer part is {start} instead of {stored}");
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            return Err(ApiError::new(status, Code::BlobUploadInvalid, message));
        }
        let too_small = self.parts(|uploads| {
            let parts = uploads.entry(id).or_default();
            // A part that is sent again after an interruption does not count twice.
            if !is_empty && stored > parts.latest {
                parts.first_end.get_or_insert(stored);
                parts.too_small |= stored - parts.latest < MIN_PART_BYTES;
                parts.latest = stored;
            }
            parts.too_small
        });
        if is_last && too_small {
            let message = "All layer parts except the last part should be at least 5MB";
            return Err(ApiError::bad_request(Code::BlobUploadInvalid, message));
        }
        if is_last && is_empty && self.fails_empty_put.swap(false, Ordering::Relaxed) {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(ApiError::new(status, Code::Unknown, "Internal Server Error"));
        }
        Ok(())
    }

    /// Returns false: `UploadLayerPart` takes the offsets of the first and last byte of a part, so a part is stored
    /// completely or not at all.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html>
    fn keeps_interrupted_parts(&self) -> bool {
        false
    }

    /// Source: <https://github.com/regclient/regclient/pull/82>
    fn part_status(&self) -> StatusCode {
        StatusCode::CREATED
    }

    /// Returns the end of the first part, even if later parts are stored.
    ///
    /// Source: <https://github.com/aws/containers-roadmap/issues/2831>
    fn reported_after_part(&self, id: &UploadId, size: u64) -> u64 {
        self.parts(|uploads| uploads.get(id).and_then(|parts| parts.first_end)).unwrap_or(size)
    }

    fn reported_status(&self, _size: u64) -> std::result::Result<u64, ApiError> {
        let message = "The upload could not be found";
        Err(ApiError::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, message))
    }

    /// Returns false for archived images: ECR responds as if they did not exist.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive_restore_image.html>
    fn serves(&self, path: &RepositoryPath, digest: &Digest) -> bool {
        !self.is_archived(path, digest)
    }

    /// Source: <https://github.com/aws/containers-roadmap/issues/2783>,
    /// <https://github.com/opcr-io/policy/issues/149>
    fn check_manifest(&self, bytes: &[u8]) -> std::result::Result<(), ApiError> {
        let has_subject = || {
            let manifest: Option<Value> = serde_json::from_slice(bytes).ok();
            manifest.is_some_and(|manifest| manifest.get("subject").is_some())
        };
        if self.refuses_subjects.load(Ordering::Relaxed) && has_subject() {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let message = "Invalid parameter at 'ImageManifest' failed to satisfy constraint: \
                           'Invalid JSON syntax'";
            return Err(ApiError::new(status, Code::Unsupported, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    const REPOSITORY: &str = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/app";
    const MIB: u64 = 1024 * 1024;

    fn dialect() -> EcrDialect {
        EcrDialect::new("095412845506")
    }

    fn id() -> UploadId {
        "0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    /// Returns a part at the end of the stored bytes that is neither empty nor the last.
    fn part(stored: u64) -> Part {
        Part { id: id(), stored, start: Some(stored), is_empty: false, is_last: false }
    }

    /// Returns status, content type and text of a response.
    async fn sent(response: Response<Body>) -> (StatusCode, String, String) {
        let status = response.status();
        let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, content_type, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// Returns status and error of the response to a rejected request for the path `end` below the repository.
    async fn refused(status: StatusCode, code: Code, end: &str) -> (StatusCode, Value) {
        let target = Target::parse(&format!("/v2/{REPOSITORY}/{end}"));
        let response =
            dialect().error_response(ApiError::new(status, code, "as the local registry"), &target);
        let (status, _, text) = sent(response).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        (status, body["errors"][0].clone())
    }

    async fn error_of(error: ApiError) -> (StatusCode, Value) {
        let (status, _, text) = sent(error.into_response()).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        (status, body["errors"][0].clone())
    }

    #[test]
    fn reported_size_stays_at_end_of_first_part() {
        let dialect = dialect();
        dialect.check_part(&part(0)).unwrap();
        assert_eq!(dialect.reported_after_part(&id(), 10 * MIB), 10 * MIB);
        for stored in [10 * MIB, 20 * MIB] {
            dialect.check_part(&part(stored)).unwrap();
            assert_eq!(dialect.reported_after_part(&id(), stored + 10 * MIB), 10 * MIB);
        }
    }

    #[tokio::test]
    async fn part_at_wrong_offset_has_message_of_ecr() {
        let message = "First byte of the layer part is 0 instead of 11304960";
        for start in [Some(0), None] {
            let wrong = Part { start, ..part(11_304_960) };
            let (status, error) = error_of(dialect().check_part(&wrong).unwrap_err()).await;
            assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
            assert_eq!(error, json!({ "code": "BLOB_UPLOAD_INVALID", "message": message }));
        }
    }

    #[tokio::test]
    async fn small_middle_part_fails_upload_at_its_end() {
        let dialect = dialect();
        dialect.check_part(&part(0)).unwrap();
        dialect.check_part(&part(5 * MIB)).unwrap();
        dialect.check_part(&part(10 * MIB - 1)).unwrap();
        let last = Part { is_last: true, ..part(20 * MIB) };
        let (status, error) = error_of(dialect.check_part(&last).unwrap_err()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(error["message"], "All layer parts except the last part should be at least 5MB");
    }

    #[test]
    fn last_part_may_be_small_in_either_request() {
        for is_empty in [false, true] {
            let dialect = dialect();
            dialect.check_part(&part(0)).unwrap();
            dialect.check_part(&part(5 * MIB)).unwrap();
            let start = (!is_empty).then_some(10 * MIB);
            let last = Part { start, is_empty, is_last: true, ..part(10 * MIB) };
            dialect.check_part(&last).unwrap();
        }
    }

    #[test]
    fn empty_last_part_fails_once_on_demand() {
        let dialect = dialect();
        let last = Part { is_empty: true, is_last: true, ..part(5 * MIB) };
        dialect.check_part(&last).unwrap();
        dialect.fail_next_empty_put();
        dialect.check_part(&Part { is_empty: false, ..last }).unwrap();
        dialect.check_part(&last).unwrap_err();
        dialect.check_part(&last).unwrap();
    }

    #[tokio::test]
    async fn manifest_with_subject_is_rejected_on_demand() {
        let dialect = dialect();
        let (plain, referring) = (br#"{"layers":[]}"#, br#"{"subject":{}}"#);
        dialect.check_manifest(referring).unwrap();
        dialect.set_refuses_subjects(true);
        dialect.check_manifest(plain).unwrap();
        let (status, error) = error_of(dialect.check_manifest(referring).unwrap_err()).await;
        assert_eq!(
            (status, &error["code"]),
            (StatusCode::METHOD_NOT_ALLOWED, &json!("UNSUPPORTED"))
        );
    }

    #[test]
    fn blobs_are_mounted_only_if_account_enables_it() {
        let dialect = dialect();
        assert!(!dialect.mounts());
        dialect.set_mounts(true);
        assert!(dialect.mounts());
    }

    #[test]
    fn only_images_can_be_deleted() {
        let dialect = dialect();
        let deletes = |resource: Resource| dialect.operation(&resource, &Method::DELETE);
        assert_eq!(deletes(Resource::Manifest("v1".to_owned())), Some(Operation::DeleteManifest));
        assert_eq!(deletes(Resource::Blob("sha256:0".to_owned())), None);
        assert_eq!(deletes(Resource::Upload("0".to_owned())), None);
        assert_eq!(dialect.operation(&Resource::Tags, &Method::GET), Some(Operation::ListTags));
    }

    #[tokio::test]
    async fn upload_status_is_not_found() {
        let (status, error) = error_of(dialect().reported_status(5).unwrap_err()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(error["code"], "BLOB_UPLOAD_UNKNOWN");
    }

    #[tokio::test]
    async fn errors_have_messages_of_ecr() {
        let (not_found, bad) = (StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST);
        for (status, code, end, expected) in [
            (
                not_found,
                Code::NameUnknown,
                "blobs/uploads/",
                json!({ "code": "NAME_UNKNOWN", "message": format!(
                "The repository with name '{REPOSITORY}' does not exist in the registry with id \
                 '095412845506'"
            ) }),
            ),
            (
                not_found,
                Code::ManifestUnknown,
                "manifests/v1",
                json!({ "code": "MANIFEST_UNKNOWN", "message": "Requested image not found" }),
            ),
            (
                bad,
                Code::TagImmutable,
                "manifests/v1",
                json!({ "code": "TAG_INVALID", "message": format!(
                "The image tag 'v1' already exists in the '{REPOSITORY}' repository and cannot be \
                 overwritten because the repository is immutable."
            ) }),
            ),
            (
                bad,
                Code::TagInvalid,
                "manifests/-",
                json!({ "code": "TAG_INVALID", "message": "as the local registry" }),
            ),
        ] {
            assert_eq!(refused(status, code, end).await, (status, expected));
        }
    }

    #[tokio::test]
    async fn expired_password_is_denied_and_wrong_one_unauthorized() {
        let (status, error) = refused(StatusCode::UNAUTHORIZED, Code::Expired, "tags/list").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(error["code"], "DENIED");
        let expired = "Your authorization token has expired. Reauthenticate and try again.";
        assert_eq!(error["message"], expired);

        let wrong = ApiError::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "log in");
        let response = dialect().error_response(wrong, &Target::Base);
        let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        let (status, content_type, text) = sent(response).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(
            (content_type.as_str(), text.as_str()),
            ("text/plain; charset=utf-8", "Not Authorized\n")
        );
    }
}
