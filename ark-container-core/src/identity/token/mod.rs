//! Authentication by JSON Web Tokens: the file of a token, and the keys that verify tokens.
//!
//! A program that works for one user reads its token with a [`TokenIdentity`]. A service verifies the tokens of its
//! callers with a [`TokenVerifier`]. Only signatures of the asymmetric algorithms RS, PS, ES and EdDSA are accepted.
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

/// The maximum size of a token and of a token file. HTTP headers are usually limited to less.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A JSON Web Token whose signature has not been verified.
///
/// `Debug` does not show the token, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    lifetime: Lifetime,
}

impl Token {
    /// Parses a token. Fails if the token is not valid now.
    fn parse(text: &str) -> Result<(Self, Claims), TokenProblem> {
        let claims = Claims::unverified(text)?;
        let lifetime = claims.lifetime()?;
        lifetime.check(SystemTime::now())?;
        Ok((Self { text: text.into(), lifetime }, claims))
    }

    /// Returns the text of the token, which is a secret.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Returns the time at which the token expires.
    pub fn expires_at(&self) -> SystemTime {
        self.lifetime.expires_at()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
