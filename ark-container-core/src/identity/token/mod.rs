//! Who asks, by a JSON Web Token: a file that holds one, and keys that prove where it is from.
//!
//! A program that asks for itself reads its own token with a [`TokenIdentity`]; a service that decides for
//! others verifies theirs with a [`TokenVerifier`]. Only signatures by asymmetric algorithms count: RS,
//! PS, ES and EdDSA.
//!
//! Source: <https://www.rfc-editor.org/rfc/rfc7519>, <https://www.rfc-editor.org/rfc/rfc8725>

mod claims;
mod file;
mod key_set;
mod key_source;
mod keys;
mod lifetime;
mod refusal;
mod source;
mod verifier;

use std::fmt;
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

pub use claims::ClaimNames;
pub use file::TokenFile;
pub use key_set::KeySet;
pub use source::TokenIdentity;
pub use verifier::TokenVerifier;

use claims::Claims;
use lifetime::Lifetime;
use refusal::Refusal;

/// The longest token, in bytes, and the longest file with one: far more than fits into a header of HTTP.
const MAX_LEN: usize = 64 * 1024;

/// A JSON Web Token: it cannot be printed by accident, and its memory is wiped when it is dropped.
///
/// Nobody has verified it: whoever is shown it has to.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    lifetime: Lifetime,
}

impl Token {
    /// Takes a token into custody, if it has the form of one and is good by this machine's clock.
    fn parse(text: &str) -> Result<(Self, Claims), Refusal> {
        let claims = Claims::unverified(text)?;
        let lifetime = claims.lifetime()?;
        lifetime.check(SystemTime::now())?;
        Ok((Self { text: text.into(), lifetime }, claims))
    }

    /// The token itself, for the one place that must show it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// When it stops being good.
    pub fn expires_at(&self) -> SystemTime {
        self.lifetime.expires_at()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
