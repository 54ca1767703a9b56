//! [`TokenIssuer`]: an identity provider for tests, its keys and its tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::identity::PrincipalName;
use crate::model::OrganizationId;

/// An identity provider for tests, which signs tokens, publishes its keys, and can forge tokens.
///
/// ```
/// use ark_container_core::identity::{KeySet, TokenVerifier};
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::testing::{TestToken, TokenIssuer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let key_set = folder.path().join("keys.json");
/// let issuer = TokenIssuer::new("https://auth.example.com", "ark")?;
/// std::fs::write(&key_set, issuer.key_set_json())?;
///
/// let alice = TestToken::new(&"user:alice".parse()?).with_organizations([OrganizationId::TBD]);
/// let verifier = TokenVerifier::new(KeySet::file(key_set), "ark");
/// let principal = verifier.verify(&issuer.token(&alice)?).await?;
/// assert!(principal.is_member_of(OrganizationId::TBD));
/// assert!(verifier.verify(&issuer.unsigned(&alice)).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TokenIssuer {
    issuer: String,
    audience: String,
    /// The number of keys that are no longer published.
    retired: usize,
    /// The keys that are still published but no longer sign, the oldest first.
    former: Vec<SigningKey>,
    /// The key that signs tokens.
    current: SigningKey,
}

impl TokenIssuer {
    /// Creates an issuer with this URL that issues tokens for `audience` and signs with ES256.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if no key can be generated.
    pub fn new(issuer: &str, audience: &str) -> Result<Self> {
        Self::with_algorithm(issuer, audience, SigningAlgorithm::Es256)
    }

    /// Creates an issuer as [`new`](Self::new) that signs with this algorithm.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if no key can be generated.
    pub fn with_algorithm(
        issuer: &str,
        audience: &str,
        algorithm: SigningAlgorithm,
    ) -> Result<Self> {
        Ok(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            retired: 0,
            former: Vec::new(),
            current: SigningKey::generate(algorithm)?,
        })
    }

    /// Returns the URL of the issuer, which is the claim `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the audience, which is the claim `aud` of its tokens.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Returns the id of the current key: `key-1`, after a rotation `key-2`, and so on.
    pub fn key_id(&self) -> String {
        key_id(self.retired + self.former.len())
    }

    /// Returns the published keys as a JSON Web Key Set.
    pub fn key_set_json(&self) -> String {
        let keys = self.former.iter().chain([&self.current]).enumerate();
        let keys: Vec<Value> =
            keys.map(|(index, key)| key.jwk(&key_id(self.retired + index))).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Replaces the current key by a new one. Former keys are still published.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if no key can be generated.
    pub fn rotate(&mut self) -> Result<()> {
        let next = SigningKey::generate(self.current.algorithm())?;
        self.former.push(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Stops publishing former keys.
    pub fn retire_former_keys(&mut self) {
        self.retired += self.former.len();
        self.former.clear();
    }

    /// Returns the signed token.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if the token cannot be signed.
    pub fn token(&self, token: &TestToken) -> Result<String> {
        let message = self.message(token, self.current.algorithm().as_str());
        let signature = self.current.sign(message.as_bytes())?;
        Ok(with_signature(&message, &signature))
    }

    /// Returns the token with the algorithm `none`, which every verifier must reject.
    pub fn unsigned(&self, token: &TestToken) -> String {
        with_signature(&self.message(token, "none"), b"")
    }

    /// Returns the token signed by HS256 with a secret, such as the text of a public key. A verifier that
    /// confuses public keys with secrets accepts such a token.
    pub fn signed_by_secret(&self, token: &TestToken, secret: &[u8]) -> String {
        let message = self.message(token, "HS256");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        with_signature(&message, hmac::sign(&key, message.as_bytes()).as_ref())
    }

    /// Returns the header and claims in the encoded form that is signed.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc7515#section-7.1>
    fn message(&self, token: &TestToken, algorithm: &str) -> String {
        let header = Map::from_iter([
            ("alg".to_owned(), algorithm.into()),
            ("kid".to_owned(), self.key_id().into()),
            ("typ".to_owned(), "JWT".into()),
        ]);
        let claims = Map::from_iter([
            ("iss".to_owned(), self.issuer.as_str().into()),
            ("aud".to_owned(), self.audience.as_str().into()),
        ]);
        let (header, claims) = token.filled(header, claims);
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}", encode(&header), encode(&claims))
    }
}

fn key_id(index: usize) -> String {
    format!("key-{}", index + 1)
}

fn with_signature(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The algorithm with which a [`TokenIssuer`] signs.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc7518#section-3.1>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with 2048 bits and SHA-256.
    Rs256,
    /// Ed25519.
    EdDsa,
}

impl SigningAlgorithm {
    /// Returns the name of the algorithm in tokens and key sets.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A random private key.
#[derive(Debug)]
enum SigningKey {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl SigningKey {
    fn generate(algorithm: SigningAlgorithm) -> Result<Self> {
        let key = match algorithm {
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Es256)
            }
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Self::Rs256),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().map(Self::EdDsa),
        };
        key.map_err(|error| Error::failed("the key could not be generated").with_source(error))
    }

    fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Es256(_) => SigningAlgorithm::Es256,
            Self::Rs256(_) => SigningAlgorithm::Rs256,
            Self::EdDsa(_) => SigningAlgorithm::EdDsa,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::Es256(key) => key.sign(&random, message).map(|made| made.as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature)
            }
            Self::EdDsa(key) => Ok(key.sign(message).as_ref().to_vec()),
        };
        signature.map_err(|error| Error::failed("cannot sign the token").with_source(error))
    }

    /// Returns the public key as a JSON Web Key with this id.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc7518#section-6>,
    /// <https://www.rfc-editor.org/rfc/rfc8037#section-2>
    fn jwk(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Es256(key) => {
                // An uncompressed point: the byte 4, then both coordinates.
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Self::Rs256(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)})
            }
            Self::EdDsa(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = id.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().as_str().into();
        jwk
    }
}

/// The claim with the session tags for AWS STS.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp>
const SESSION_TAGS: &str = "https://aws.amazon.com/tags";

/// The default lifetime of a token.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// The claims and header of a token, before a [`TokenIssuer`] signs it.
///
/// A token describes a principal by the default [`ClaimNames`](crate::identity::ClaimNames) and is valid
/// for an hour. Every claim and header parameter can be set or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct TestToken {
    claims: Map<String, Value>,
    header: Map<String, Value>,
}

impl TestToken {
    /// Creates a token for the principal `name`, a member of no organization.
    pub fn new(name: &PrincipalName) -> Self {
        let token = Self { claims: Map::new(), header: Map::new() };
        let now = SystemTime::now();
        token
            .with_claim("sub", name.id())
            .with_claim("kind", name.kind().as_str())
            .with_claim("iat", unix_seconds(now))
            .expiring_at(now + TOKEN_LIFETIME)
    }

    /// Makes the principal a member of `organizations`.
    #[must_use]
    pub fn with_organizations(
        self,
        organizations: impl IntoIterator<Item = OrganizationId>,
    ) -> Self {
        self.with_claim("organizations", texts(organizations))
    }

    /// Makes the principal an administrator of `organizations`.
    #[must_use]
    pub fn with_administers(self, organizations: impl IntoIterator<Item = OrganizationId>) -> Self {
        self.with_claim("administers", texts(organizations))
    }

    /// Adds session tags for AWS STS from the claims set so far: `kind`, `organization`, `organization2`
    /// and so on, `administers`, `administers2` and so on.
    #[must_use]
    pub fn with_session_tags(self) -> Self {
        let mut tags = Map::new();
        if let Some(kind) = self.claims.get("kind") {
            tags.insert("kind".to_owned(), json!([kind]));
        }
        for (claim, tag) in [("organizations", "organization"), ("administers", "administers")] {
            let organizations = self.claims.get(claim).and_then(Value::as_array);
            for (index, organization) in organizations.into_iter().flatten().enumerate() {
                let slot = if index == 0 { String::new() } else { (index + 1).to_string() };
                tags.insert(format!("{tag}{slot}"), json!([organization]));
            }
        }
        self.with_claim(SESSION_TAGS, json!({ "principal_tags": tags }))
    }

    /// Sets the expiry, in whole seconds.
    #[must_use]
    pub fn expiring_at(self, time: SystemTime) -> Self {
        self.with_claim("exp", unix_seconds(time))
    }

    /// Sets the start of validity, in whole seconds.
    #[must_use]
    pub fn not_before(self, time: SystemTime) -> Self {
        self.with_claim("nbf", unix_seconds(time))
    }

    /// Sets the claim `name`, which may be a claim that the issuer sets by default.
    #[must_use]
    pub fn with_claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Removes the claim `name`, including the issuer's default.
    #[must_use]
    pub fn without_claim(self, name: &str) -> Self {
        self.with_claim(name, Value::Null)
    }

    /// Sets the header parameter `name`, such as `kid` or `alg`, independently of the signature.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Removes the header parameter `name`, including the issuer's default.
    #[must_use]
    pub fn without_header(self, name: &str) -> Self {
        self.with_header(name, Value::Null)
    }

    /// Returns header and claims. The issuer's defaults are used for values that this token does not set.
    fn filled(&self, header: Map<String, Value>, claims: Map<String, Value>) -> (Value, Value) {
        let fill = |mut issuers: Map<String, Value>, own: &Map<String, Value>| {
            issuers.extend(own.clone());
            issuers.retain(|_, value| !value.is_null());
            Value::Object(issuers)
        };
        (fill(header, &self.header), fill(claims, &self.claims))
    }
}

fn texts(organizations: impl IntoIterator<Item = OrganizationId>) -> Vec<String> {
    organizations.into_iter().map(|organization| organization.to_string()).collect()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_tags_match_the_claims() {
        let other = OrganizationId::from_u128(1);
        let token = TestToken::new(&"user:alice".parse().unwrap())
            .with_organizations([OrganizationId::TBD, other])
            .with_administers([other])
            .with_session_tags();
        assert_eq!(
            token.claims[SESSION_TAGS],
            json!({"principal_tags": {
                "kind": ["user"],
                "organization": [OrganizationId::TBD],
                "organization2": [other],
                "administers": [other],
            }}),
        );
    }

    #[test]
    fn token_claims_precede_issuer_defaults() {
        let token = TestToken::new(&"user:alice".parse().unwrap())
            .with_claim("aud", "other")
            .without_claim("iss")
            .with_header("kid", "other")
            .without_header("typ");
        let parts =
            |names: [&str; 2]| Map::from_iter(names.map(|name| (name.into(), "ours".into())));
        let (header, claims) = token.filled(parts(["kid", "typ"]), parts(["aud", "iss"]));
        assert_eq!(header, json!({"kid": "other"}));
        assert_eq!((&claims["aud"], claims.get("iss")), (&json!("other"), None));
    }
}
