//! [`TokenIssuer`]: an identity provider for tests.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::signing_key::{SigningAlgorithm, SigningKey};
use super::test_token::TestToken;
use crate::error::Result;

/// An identity provider for tests: it signs tokens, publishes its keys, and can forge.
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
    /// How many keys it no longer publishes.
    retired: usize,
    /// The keys that it still publishes and no longer signs with, oldest first.
    former: Vec<SigningKey>,
    /// The key that it signs with.
    current: SigningKey,
}

impl TokenIssuer {
    /// The issuer with this URL, whose tokens are for `audience`; it signs with ES256.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if no key can be made.
    pub fn new(issuer: &str, audience: &str) -> Result<Self> {
        Self::with_algorithm(issuer, audience, SigningAlgorithm::Es256)
    }

    /// As [`new`](Self::new), and it signs with this algorithm.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if no key can be made.
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

    /// Its URL, the claim `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom its tokens are for, their claim `aud`.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// What the key that signs now is called: `key-1`, after a rotation `key-2`, and so on.
    pub fn key_id(&self) -> String {
        key_id(self.retired + self.former.len())
    }

    /// The keys that it publishes, as a JSON Web Key Set.
    pub fn key_set_json(&self) -> String {
        let keys = self.former.iter().chain([&self.current]).enumerate();
        let keys: Vec<Value> =
            keys.map(|(index, key)| key.jwk(&key_id(self.retired + index))).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Signs with a new key from now on, and goes on publishing the former ones.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if no key can be made.
    pub fn rotate(&mut self) -> Result<()> {
        let next = SigningKey::generate(self.current.algorithm())?;
        self.former.push(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Publishes nothing but the key that signs now.
    pub fn retire_former_keys(&mut self) {
        self.retired += self.former.len();
        self.former.clear();
    }

    /// The token, signed.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) if it cannot be signed.
    pub fn token(&self, token: &TestToken) -> Result<String> {
        let message = self.message(token, self.current.algorithm().as_str());
        let signature = self.current.sign(message.as_bytes())?;
        Ok(with_signature(&message, &signature))
    }

    /// The token with the algorithm `none`, which nobody may accept.
    pub fn unsigned(&self, token: &TestToken) -> String {
        with_signature(&self.message(token, "none"), b"")
    }

    /// The token with HS256 and a secret, such as the text of a public key, which whoever confuses public
    /// keys with secrets would accept.
    pub fn signed_by_secret(&self, token: &TestToken, secret: &[u8]) -> String {
        let message = self.message(token, "HS256");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        with_signature(&message, hmac::sign(&key, message.as_bytes()).as_ref())
    }

    /// Header and claims in the form that is signed.
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
