//! [`IdentityProvider`]: an OpenID provider that the fake's account trusts.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ark_container_core::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use crate::aws::protocol::ApiError;

/// The signature algorithms of STS that the fake supports.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html>
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::ES256, Algorithm::ES384];

/// An OpenID provider of the fake's account. `AssumeRoleWithWebIdentity` accepts its tokens.
///
/// The principal in trust policies is `"Federated": "arn:aws:iam::<account>:oidc-provider/<issuer>"`. The condition
/// keys for claims of tokens are `<issuer>:sub` and `<issuer>:aud`. In all of these, the issuer has no `https://`. The
/// claim `https://aws.amazon.com/tags` has the tags of the session.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>
#[derive(Debug, Clone)]
pub struct IdentityProvider {
    issuer: String,
    key_set: String,
    audiences: Vec<String>,
}

impl IdentityProvider {
    /// Creates a provider. Its tokens have `issuer`, a URL that starts with `https://`, in the claim `iss`. The tokens
    /// are signed with a key of `key_set`, the JSON text of a JWKS.
    pub fn new(issuer: impl Into<String>, key_set: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), key_set: key_set.into(), audiences: Vec::new() }
    }

    /// Adds an audience ("client ID"). Tokens for other audiences are rejected.
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }
}

/// A provider with parsed keys.
#[derive(Debug)]
pub(super) struct KnownProvider {
    issuer: String,
    /// The issuer without `https://`.
    name: String,
    keys: JwkSet,
    audiences: Vec<String>,
}

/// The content of a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// The name of the provider in policies.
    pub(super) provider: String,
    pub(super) subject: String,
    pub(super) audience: String,
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// Source: the claims that STS needs,
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html>
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(rename = "iat")]
    _issued_at: u64,
    nbf: Option<u64>,
    #[serde(default, rename = "https://aws.amazon.com/tags")]
    tags: TagsClaim,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Only([String; 1]),
}

/// The supported part of the claim. The fake does not support transitive tags.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TagsClaim {
    #[serde(default)]
    principal_tags: BTreeMap<String, [String; 1]>,
}

impl KnownProvider {
    /// Parses the configuration of a provider.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the issuer is not an HTTPS URL, or the key set is invalid.
    pub(super) fn new(provider: IdentityProvider) -> Result<Self> {
        let IdentityProvider { issuer, key_set, audiences } = provider;
        let name = issuer.strip_prefix("https://").map(str::to_owned);
        let name = name.ok_or_else(|| {
            Error::invalid(format!("the issuer {issuer:?} does not start with https://"))
        })?;
        let keys = serde_json::from_str(&key_set).map_err(|error| {
            Error::invalid(format!("the key set of {issuer} cannot be used: {error}"))
        })?;
        Ok(Self { issuer, name, keys, audiences })
    }

    fn key(&self, id: Option<&str>) -> Option<DecodingKey> {
        DecodingKey::from_jwk(self.keys.find(id?)?).ok()
    }

    /// Verifies the signature of a token and returns the claims.
    fn claims(&self, token: &str) -> Result<Claims, ApiError> {
        let header = decode_header(token).map_err(|_| invalid("The ID Token is not a JWT"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid("The signature algorithm of the token is not supported"));
        }
        let key = self.key(header.kid.as_deref()).ok_or_else(|| {
            invalid("Couldn't retrieve verification key from your identity provider")
        })?;
        let mut validation = Validation::new(header.alg);
        // The caller checks times by the clock of the fake, and audiences with AWS's errors.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = decode::<Claims>(token, &key, &validation);
        decoded.map(|token| token.claims).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::Json(error) => {
                invalid(format!("A claim of the token is missing or malformed: {error}"))
            }
            _ => invalid("The ID Token provided is not a valid JWT: its signature is wrong"),
        })
    }
}

/// Verifies a token at the time `now` and returns its content.
///
/// Source: the errors of
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
pub(super) fn verify(
    providers: &[KnownProvider],
    token: &str,
    now: SystemTime,
) -> Result<Verified, ApiError> {
    let issuer =
        issuer(token).ok_or_else(|| invalid("The ID Token provided is not a valid JWT"))?;
    let provider =
        providers.iter().find(|provider| provider.issuer == issuer).ok_or_else(|| {
            invalid(format!("No OpenIDConnect provider found in your account for {issuer}"))
        })?;
    let claims = provider.claims(token)?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if claims.exp <= now {
        let message = format!(
            "Token expired: current date/time {now} must be before the expiration date/time {}",
            claims.exp
        );
        return Err(ApiError::new("ExpiredTokenException", message));
    }
    if claims.nbf.is_some_and(|start| start > now) {
        return Err(invalid("The ID Token is not valid yet"));
    }
    let (Audience::One(audience) | Audience::Only([audience])) = claims.aud;
    if !provider.audiences.contains(&audience) {
        return Err(invalid("Incorrect token audience"));
    }
    let tags = claims.tags.principal_tags.into_iter().map(|(key, [value])| (key, value)).collect();
    Ok(Verified { provider: provider.name.clone(), subject: claims.sub, audience, tags })
}

/// Returns the unverified issuer of a token.
fn issuer(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Issuer = serde_json::from_slice(&payload).ok()?;
    Some(claims.iss)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidIdentityToken", message)
}
