//! [`TokenIdentity`]: who asks, by the token of this process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;

use super::claims::ClaimNames;
use super::file::TokenFile;
use super::lifetime::Lifetime;
use super::verifier::TokenVerifier;
use crate::error::Result;
use crate::identity::{IdentitySource, Principal};

/// How soon a renewed token is noticed.
const NOTICE: Duration = Duration::from_secs(1);

/// Who asks, by the token of this process.
///
/// The token is looked at again when a second has passed, so that a renewed one is noticed in a long
/// run, and is good for as long as it says.
///
/// ```
/// use ark_container_core::identity::{ClaimNames, IdentitySource, TokenFile, TokenIdentity};
/// use ark_container_core::Error;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let file = TokenFile::new("/nowhere/jwt.json");
/// let identity = TokenIdentity::unverified(file, ClaimNames::default());
/// let error = identity.principal().await.unwrap_err();
/// assert!(matches!(error, Error::Unauthenticated { .. }), "log in, and ask again");
/// # }
/// ```
#[derive(Debug)]
pub struct TokenIdentity {
    file: TokenFile,
    proof: Proof,
    known: Mutex<Option<Known>>,
}

/// How far the token is trusted.
#[derive(Debug)]
enum Proof {
    Verified(TokenVerifier),
    Unverified(ClaimNames),
}

/// Who the token said it was.
#[derive(Debug, Clone)]
struct Known {
    principal: Arc<Principal>,
    lifetime: Lifetime,
    read: Instant,
}

impl TokenIdentity {
    /// Whoever the token in `file` says, if `verifier` takes it.
    pub fn verified(file: TokenFile, verifier: TokenVerifier) -> Self {
        Self { file, proof: Proof::Verified(verifier), known: Mutex::default() }
    }

    /// Whoever the token in `file` says, at its word.
    ///
    /// This is for a process that decides for nobody but itself, where a wall behind it verifies the
    /// token, as AWS STS does. Its times are checked.
    pub fn unverified(file: TokenFile, claim_names: ClaimNames) -> Self {
        Self { file, proof: Proof::Unverified(claim_names), known: Mutex::default() }
    }

    /// The file with the token.
    pub fn token_file(&self) -> &TokenFile {
        &self.file
    }

    /// Whether the token's signature is verified.
    pub fn is_verified(&self) -> bool {
        matches!(self.proof, Proof::Verified(_))
    }

    fn known(&self) -> Option<Arc<Principal>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().filter(|known| known.read.elapsed() < NOTICE)?;
        known.lifetime.check(SystemTime::now()).ok()?;
        Some(Arc::clone(&known.principal))
    }
}

#[async_trait]
impl IdentitySource for TokenIdentity {
    async fn principal(&self) -> Result<Arc<Principal>> {
        if let Some(principal) = self.known() {
            return Ok(principal);
        }
        let read = Instant::now();
        let (token, claims) = self.file.read_claims().await?;
        let judged = match &self.proof {
            Proof::Verified(verifier) => verifier.judge(token.expose()).await,
            Proof::Unverified(names) => {
                names.principal(&claims).and_then(|principal| Ok((principal, claims.lifetime()?)))
            }
        };
        let (principal, lifetime) =
            judged.map_err(|refusal| refusal.into_error(self.file.described()))?;
        let principal = Arc::new(principal);
        let known = Known { principal: Arc::clone(&principal), lifetime, read };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(principal)
    }
}
