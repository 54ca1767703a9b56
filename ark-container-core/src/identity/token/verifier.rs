//! [`TokenVerifier`] and [`TokenIdentity`]: the principal of a token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::MAX_TOKEN_BYTES;
use super::claims::{CLOCK_LEEWAY, ClaimNames, Claims, Lifetime, TokenProblem};
use super::file::TokenFile;
use super::key_set::KeySet;
use crate::error::Result;
use crate::identity::{IdentitySource, Principal};

/// The time for which the principal of a token file is cached.
const PRINCIPAL_LIFETIME: Duration = Duration::from_secs(1);

/// A verifier for services that receive tokens. Checks the signature, lifetime, audience and, if set, the issuer.
///
/// ```no_run
/// use ark_container_core::identity::{KeySet, TokenVerifier};
///
/// # async fn example(bearer: &str) -> ark_container_core::Result<()> {
/// let keys = KeySet::url("https://auth.example.com/.well-known/jwks.json")?;
/// let verifier = TokenVerifier::new(keys, "ark").with_issuer("https://auth.example.com");
/// let principal = verifier.verify(bearer).await?;
/// println!("working for {principal}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    keys: KeySet,
    audience: Option<String>,
    issuer: Option<String>,
    claim_names: ClaimNames,
}

impl TokenVerifier {
    /// Creates a verifier that accepts tokens signed with one of `keys` and issued for `audience`.
    pub fn new(keys: KeySet, audience: impl Into<String>) -> Self {
        Self { audience: Some(audience.into()), ..Self::for_any_audience(keys) }
    }

    /// Creates a verifier that accepts tokens signed with one of `keys`, for any audience.
    ///
    /// The verifier also accepts tokens that were issued for other services. Use it only with an identity
    /// provider that serves no other service and whose tokens have no audience.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc8725#section-3.9>
    pub fn for_any_audience(keys: KeySet) -> Self {
        Self { keys, audience: None, issuer: None, claim_names: ClaimNames::default() }
    }

    /// Requires that the claim `iss` of a token is `issuer`.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the claims that describe the principal.
    #[must_use]
    pub fn with_claim_names(mut self, claim_names: ClaimNames) -> Self {
        self.claim_names = claim_names;
        self
    }

    /// Returns the principal of a token. Allows a clock difference of 30 seconds.
    ///
    /// # Errors
    /// - [`Error::Unauthenticated`](crate::Error::Unauthenticated) if the token is invalid, for another
    ///   audience or from another issuer, not valid now, or does not identify a principal
    /// - [`Error::Temporary`](crate::Error::Temporary) if the keys cannot be read and a retry may succeed
    /// - [`Error::Failed`](crate::Error::Failed) if the keys cannot be read for another reason
    pub async fn verify(&self, token: &str) -> Result<Principal> {
        let verified = self.verify_lifetime(token).await;
        verified.map(|(principal, _)| principal).map_err(|problem| problem.into_error("the token"))
    }

    /// Returns the principal and the lifetime of a token.
    pub(super) async fn verify_lifetime(
        &self,
        token: &str,
    ) -> Result<(Principal, Lifetime), TokenProblem> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenProblem::invalid(format!("is longer than {MAX_TOKEN_BYTES} bytes")));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| TokenProblem::invalid("is not a signed JSON Web Token"))?;
        let algorithm = header.alg;
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            // A party that can verify a symmetric signature can also create one.
            return Err(TokenProblem::invalid(format!(
                "is signed with {algorithm:?}, which is not one of RS, PS, ES and EdDSA"
            )));
        }
        // No critical extension is supported.
        // Source: https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
        if header.crit.is_some() {
            return Err(TokenProblem::invalid("requires an unsupported extension"));
        }
        let key = self.keys.find(header.kid.as_deref(), algorithm).await?;
        if !key.verifies(algorithm) {
            return Err(TokenProblem::invalid(format!(
                "is signed with {algorithm:?}, which its key does not support"
            )));
        }
        let claims = self.decode(token, algorithm, &key.decoding)?;
        let lifetime = claims.lifetime()?;
        lifetime.check(SystemTime::now())?;
        Ok((self.claim_names.principal(&claims)?, lifetime))
    }

    fn decode(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<Claims, TokenProblem> {
        let decoded = jsonwebtoken::decode(token, key, &self.validation(algorithm));
        let claims: Map<String, Value> =
            decoded.map_err(|error| self.problem(error.kind()))?.claims;
        Ok(Claims::verified(claims))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = CLOCK_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// Returns the problem without the parts of the token that the crate quotes.
    fn problem(&self, kind: &ErrorKind) -> TokenProblem {
        let named = |setting: &Option<String>| setting.clone().unwrap_or_default();
        TokenProblem::Invalid(match kind {
            ErrorKind::InvalidSignature => "has an invalid signature".to_owned(),
            ErrorKind::ExpiredSignature => "has expired".to_owned(),
            ErrorKind::ImmatureSignature => "is not valid yet".to_owned(),
            ErrorKind::InvalidAudience => format!("is not for {:?}", named(&self.audience)),
            ErrorKind::InvalidIssuer => format!("is not from {:?}", named(&self.issuer)),
            ErrorKind::MissingRequiredClaim(claim) => format!("has no claim {claim:?}"),
            ErrorKind::InvalidClaimFormat(claim) => format!("has an invalid claim {claim:?}"),
            _ => "is not a signed JSON Web Token".to_owned(),
        })
    }
}

/// The bearer of the token of this process, as an identity source.
///
/// The token is read again after a second, so that a long-running program uses a renewed token. A cached
/// principal is not used after the token has expired.
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
/// assert!(matches!(error, Error::Unauthenticated { .. }));
/// # }
/// ```
#[derive(Debug)]
pub struct TokenIdentity {
    file: TokenFile,
    verification: Verification,
    cache: Mutex<Option<CachedPrincipal>>,
}

/// How the token is verified.
#[derive(Debug)]
enum Verification {
    Verified(TokenVerifier),
    Unverified(ClaimNames),
}

/// The principal of the token at the last read.
#[derive(Debug, Clone)]
struct CachedPrincipal {
    principal: Arc<Principal>,
    lifetime: Lifetime,
    read: Instant,
}

impl TokenIdentity {
    /// Creates a source that verifies the token in `file`.
    pub fn verified(file: TokenFile, verifier: TokenVerifier) -> Self {
        Self { file, verification: Verification::Verified(verifier), cache: Mutex::default() }
    }

    /// Creates a source that checks the lifetime of the token in `file`, but not its signature.
    ///
    /// Use it only in a process that works for one user, when another isolation layer verifies the token,
    /// as AWS STS does.
    pub fn unverified(file: TokenFile, claim_names: ClaimNames) -> Self {
        Self { file, verification: Verification::Unverified(claim_names), cache: Mutex::default() }
    }

    /// Returns the file with the token.
    pub fn token_file(&self) -> &TokenFile {
        &self.file
    }

    /// Returns whether the token's signature is verified.
    pub fn is_verified(&self) -> bool {
        matches!(self.verification, Verification::Verified(_))
    }

    fn cached(&self) -> Option<Arc<Principal>> {
        let cached = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cached.as_ref().filter(|cached| cached.read.elapsed() < PRINCIPAL_LIFETIME)?;
        cached.lifetime.check(SystemTime::now()).ok()?;
        Some(Arc::clone(&cached.principal))
    }
}

#[async_trait]
impl IdentitySource for TokenIdentity {
    async fn principal(&self) -> Result<Arc<Principal>> {
        if let Some(principal) = self.cached() {
            return Ok(principal);
        }
        let read = Instant::now();
        let (token, claims) = self.file.read_claims().await?;
        let verified = match &self.verification {
            Verification::Verified(verifier) => verifier.verify_lifetime(token.expose()).await,
            Verification::Unverified(names) => {
                names.principal(&claims).and_then(|principal| Ok((principal, claims.lifetime()?)))
            }
        };
        let (principal, lifetime) =
            verified.map_err(|problem| problem.into_error(self.file.described()))?;
        let principal = Arc::new(principal);
        let cached = CachedPrincipal { principal: Arc::clone(&principal), lifetime, read };
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        Ok(principal)
    }
}
