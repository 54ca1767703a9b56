//! Authentication and authorization of requests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};

use super::access::{Authorize, Operation, Permit};
use super::error::{ApiError, Code};
use super::route::Target;
use crate::backend::local::token::TokenError;
use crate::credentials::{Password, USERNAME};
use crate::model::{Access, RepositoryPath};

const CHALLENGE: &str = "Basic realm=\"ark container registry\"";

/// Authenticates a request by its password, and returns its permissions.
pub(super) fn authenticate(
    authorizer: &dyn Authorize,
    headers: &HeaderMap,
    target: &Target,
) -> Result<Box<dyn Permit>, ApiError> {
    let Some(password) = password(headers) else {
        let message = format!("log in as the user {USERNAME}: {}", login_command(target));
        return Err(unauthorized(Code::Unauthorized, message));
    };
    authorizer.permit(&password).map_err(|error| match error {
        TokenError::Expired => {
            let message = format!("the password has expired; log in again: {}", login_command(target));
            unauthorized(Code::Expired, message)
        }
        TokenError::Invalid => {
            let message = format!(
                "the password is not one of this registry, or was changed on its way; log in again: {}",
                login_command(target)
            );
            unauthorized(Code::Unauthorized, message)
        }
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

fn unauthorized(code: Code, message: String) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, message).with_header(WWW_AUTHENTICATE, CHALLENGE)
}

fn login_command(target: &Target) -> String {
    match target {
        Target::InRepository { path: Ok(path), .. } => format!(
            "ark-catalog-container-tool --login {} --organization {}",
            path.name(),
            path.organization()
        ),
        _ => "ark-catalog-container-tool --login NAME --organization GUID".to_owned(),
    }
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
    fn the_password_is_what_follows_the_first_colon() {
        assert_eq!(password_of(&basic("AWS:a:b")), Some("a:b".to_owned()));
        assert_eq!(password_of(&basic("AWS:")), Some(String::new()));
        assert_eq!(password_of(&basic("AWS:x").replace("Basic", "bAsIc")), Some("x".to_owned()));
    }

    #[test]
    fn anything_else_is_no_password() {
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
