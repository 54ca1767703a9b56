//! Authentication by JSON Web Tokens: the file of a token, and the keys that verify tokens.
//!
//! A program that works for its own user reads the token with a [`TokenIdentity`]. A service verifies the
//! tokens of its callers with a [`TokenVerifier`]. Only signatures by asymmetric algorithms are accepted:
//! RS, PS, ES and EdDSA.
//!
//! Source: <https://www.rfc-editor.org/rfc/rfc7519>, <https://www.rfc-editor.org/rfc/rfc8725>

mod claims;
mod file;
mod key_set;
mod verifier;

use std::fmt;
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

pub use claims::ClaimNames;
pub use file::TokenFile;
pub use key_set::KeySet;
pub use verifier::{TokenIdentity, TokenVerifier};

use claims::{Claims, Lifetime, TokenProblem};

/// The longest token, and the longest file with one: more than fits into an HTTP header.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A JSON Web Token: it cannot be printed by accident, and its memory is wiped when it is dropped.
///
/// It has not been verified.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    lifetime: Lifetime,
}

impl Token {
    /// Parses a token, and fails if it is not valid now.
    fn parse(text: &str) -> Result<(Self, Claims), TokenProblem> {
        let claims = Claims::unverified(text)?;
        let lifetime = claims.lifetime()?;
        lifetime.check(SystemTime::now())?;
        Ok((Self { text: text.into(), lifetime }, claims))
    }

    /// Returns the text of the token, a secret.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Returns when it expires.
    pub fn expires_at(&self) -> SystemTime {
        self.lifetime.expires_at()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
