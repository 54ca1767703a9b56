//! [`TokenVerifier`]: who asks, by a token that was verified.

use std::time::SystemTime;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::MAX_LEN;
use super::claims::{ClaimNames, Claims};
use super::key_set::KeySet;
use super::lifetime::{LEEWAY, Lifetime};
use super::refusal::Refusal;
use crate::error::Result;
use crate::identity::Principal;

/// Who asks, by tokens that it verifies: signature, times, audience, and issuer if it is told one.
///
/// This is for services that decide for others.
///
/// ```no_run
/// use ark_container_core::identity::{KeySet, TokenVerifier};
///
/// # async fn example(bearer: &str) -> ark_container_core::Result<()> {
/// let keys = KeySet::url("https://auth.example.com/.well-known/jwks.json")?;
/// let verifier = TokenVerifier::new(keys, "ark").with_issuer("https://auth.example.com");
/// let principal = verifier.verify(bearer).await?;
/// println!("{principal} asks");
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
    /// Takes tokens that are signed with one of `keys` and are for `audience`.
    pub fn new(keys: KeySet, audience: impl Into<String>) -> Self {
        Self { audience: Some(audience.into()), ..Self::for_any_audience(keys) }
    }

    /// Takes tokens that are signed with one of `keys`, whomever they are for.
    ///
    /// A token that somebody gave to another service opens this one too. It is for identity providers
    /// that sign for nobody else, and whose tokens do not say for whom they are.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc8725#section-3.9>
    pub fn for_any_audience(keys: KeySet) -> Self {
        Self { keys, audience: None, issuer: None, claim_names: ClaimNames::default() }
    }

    /// Takes only tokens that are from `issuer`, as their claim `iss` has it.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Finds the principal in these claims.
    #[must_use]
    pub fn with_claim_names(mut self, claim_names: ClaimNames) -> Self {
        self.claim_names = claim_names;
        self
    }

    /// Who asks with this token. Clocks may be 30 seconds apart.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`](crate::Error::Unauthenticated) if the token is not genuine, not for this
    /// audience or from another issuer, not good now, or names no principal. Where the keys cannot be
    /// read: [`Error::Temporary`](crate::Error::Temporary) if that may pass, else
    /// [`Error::Failed`](crate::Error::Failed).
    pub async fn verify(&self, token: &str) -> Result<Principal> {
        let judged = self.judge(token).await;
        judged.map(|(principal, _)| principal).map_err(|refusal| refusal.into_error("the token"))
    }

    /// Who asks with this token, and for how long it says so.
    pub(super) async fn judge(&self, token: &str) -> Result<(Principal, Lifetime), Refusal> {
        if token.len() > MAX_LEN {
            return Err(Refusal::token(format!("is longer than {MAX_LEN} bytes")));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| Refusal::token("is no signed JSON Web Token"))?;
        let algorithm = header.alg;
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            // Whoever can verify such a signature can make one; a public key is no secret.
            return Err(Refusal::token(format!(
                "is signed with {algorithm:?}, which is none of RS, PS, ES and EdDSA"
            )));
        }
        // Nothing that a token can call critical is known here.
        // Source: https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
        if header.crit.is_some() {
            return Err(Refusal::token("asks for an extension that is not known"));
        }
        let key = self.keys.find(header.kid.as_deref(), algorithm).await?;
        if !key.verifies(algorithm) {
            return Err(Refusal::token(format!(
                "is signed with {algorithm:?}, which its key is not for"
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
    ) -> Result<Claims, Refusal> {
        let decoded = jsonwebtoken::decode(token, key, &self.validation(algorithm));
        let claims: Map<String, Value> =
            decoded.map_err(|error| self.refusal(error.kind()))?.claims;
        Ok(Claims::verified(claims))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
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

    /// What the crate finds wrong, without what it quotes of the token.
    fn refusal(&self, problem: &ErrorKind) -> Refusal {
        let named = |setting: &Option<String>| setting.clone().unwrap_or_default();
        Refusal::Token(match problem {
            ErrorKind::InvalidSignature => "has a signature that is not genuine".to_owned(),
            ErrorKind::ExpiredSignature => "has expired".to_owned(),
            ErrorKind::ImmatureSignature => "is not good yet".to_owned(),
            ErrorKind::InvalidAudience => format!("is not for {:?}", named(&self.audience)),
            ErrorKind::InvalidIssuer => format!("is not from {:?}", named(&self.issuer)),
            ErrorKind::MissingRequiredClaim(claim) => format!("has no claim {claim:?}"),
            ErrorKind::InvalidClaimFormat(claim) => format!("has a damaged claim {claim:?}"),
            _ => "is no signed JSON Web Token".to_owned(),
        })
    }
}
