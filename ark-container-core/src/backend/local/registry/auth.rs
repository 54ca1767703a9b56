//! Authentication and authorization of requests: passwords, permissions and operations.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};

use super::error::{ApiError, Code};
use crate::backend::local::token::{Signer, TokenError};
use crate::credentials::{Password, USERNAME};
use crate::model::{Access, RepositoryPath, Scope};

const CHALLENGE: &str = "Basic realm=\"ark container registry\"";

/// Checks the passwords of clients.
pub(crate) trait Authorize: fmt::Debug + Send + Sync {
    /// Returns the permissions of a password.
    ///
    /// # Errors
    /// [`TokenError::Expired`] if the password has expired, [`TokenError::Invalid`] if it is invalid,
    /// [`TokenError::KeyUnreadable`] if the signing key cannot be read.
    fn permit(&self, password: &Password) -> Result<Box<dyn Permit>, TokenError>;
}

/// The permissions of a password. Existing and missing repositories have the same permissions: a client must
/// not distinguish a missing repository from one that it may not access.
pub(crate) trait Permit: Send + Sync {
    /// Returns whether the password permits `operation` in the repository `path`.
    fn allows(&self, path: &RepositoryPath, operation: Operation) -> bool;
}

/// An operation of a request in a repository. Other registries have permissions that are finer than
/// [`Access`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ReadManifest,
    PutManifest,
    DeleteManifest,
    CheckBlob,
    ReadBlob,
    DeleteBlob,
    /// Reads a blob to mount it in another repository.
    MountBlob,
    StartUpload,
    UploadStatus,
    SendPart,
    FinishUpload,
    CancelUpload,
    ListTags,
    ListReferrers,
}

impl Operation {
    /// Returns the access level that the operation needs. Push access is enough to cancel an upload.
    pub(crate) fn access(self) -> Access {
        match self {
            Self::ReadManifest
            | Self::CheckBlob
            | Self::ReadBlob
            | Self::MountBlob
            | Self::UploadStatus
            | Self::ListTags
            | Self::ListReferrers => Access::Pull,
            Self::PutManifest
            | Self::StartUpload
            | Self::SendPart
            | Self::FinishUpload
            | Self::CancelUpload => Access::Push,
            Self::DeleteManifest | Self::DeleteBlob => Access::Delete,
        }
    }
}

/// The local registry's passwords are tokens that carry their scope.
impl Authorize for Signer {
    fn permit(&self, password: &Password) -> Result<Box<dyn Permit>, TokenError> {
        self.verify(password.expose()).map(|scope| Box::new(scope) as Box<dyn Permit>)
    }
}

impl Permit for Scope {
    fn allows(&self, path: &RepositoryPath, operation: Operation) -> bool {
        self.covers(path, operation.access())
    }
}

/// Authenticates a request by its password, and returns its permissions.
pub(super) fn authenticate(
    authorizer: &dyn Authorize,
    headers: &HeaderMap,
) -> Result<Box<dyn Permit>, ApiError> {
    let Some(password) = password(headers) else {
        let message = format!("log in as the user {USERNAME}");
        return Err(unauthorized(Code::Unauthorized, message));
    };
    authorizer.permit(&password).map_err(|error| match error {
        TokenError::Expired => {
            unauthorized(Code::Expired, "the password has expired; log in again")
        }
        TokenError::Invalid => {
            let message = "the password is damaged, or another registry issued it; log in again";
            unauthorized(Code::Unauthorized, message)
        }
        TokenError::KeyUnreadable => ApiError::unavailable(&error),
    })
}

/// Denies an operation that the permit does not allow. The error does not depend on whether the
/// repository exists.
pub(super) fn authorize(
    permit: &dyn Permit,
    path: &RepositoryPath,
    operation: Operation,
) -> Result<(), ApiError> {
    if permit.allows(path, operation) {
        return Ok(());
    }
    let verb = match operation.access() {
        Access::Pull => "pull from",
        Access::Push => "push to",
        Access::Delete => "delete from",
    };
    let message = format!("these credentials may not {verb} {path}");
    Err(ApiError::new(StatusCode::FORBIDDEN, Code::Denied, message))
}

/// Returns the password of HTTP Basic authentication, if the user name is [`USERNAME`].
///
/// Source: <https://www.rfc-editor.org/rfc/rfc7617#section-2>
pub(super) fn password(headers: &HeaderMap) -> Option<Password> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    if !decoded.starts_with(USERNAME) || !decoded[USERNAME.len()..].starts_with(':') {
        return None;
    }
    decoded.drain(..=USERNAME.len());
    Some(Password::new(decoded))
}

fn unauthorized(code: Code, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, message).with_header(WWW_AUTHENTICATE, CHALLENGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password_of(header: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        password(&headers).map(|password| password.expose().to_owned())
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn password_follows_first_colon() {
        assert_eq!(password_of(&basic("AWS:a:b")), Some("a:b".to_owned()));
        assert_eq!(password_of(&basic("AWS:")), Some(String::new()));
        assert_eq!(password_of(&basic("AWS:x").replace("Basic", "bAsIc")), Some("x".to_owned()));
    }

    #[test]
    fn malformed_header_has_no_password() {
        for header in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Bearer QVdTOng=",
            &basic("AWS"),
            &basic("aws:x"),
            &basic("AWSX:x"),
            &basic(":x"),
            &format!("Basic {}", STANDARD.encode(b"AWS:\xff")),
        ] {
            assert_eq!(password_of(header), None, "{header}");
        }
        assert!(password(&HeaderMap::new()).is_none());
    }
}
