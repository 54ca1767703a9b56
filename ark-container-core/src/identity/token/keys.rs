//! [`Keys`]: the public keys of a JSON Web Key Set that can verify a token.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The public keys of a JSON Web Key Set that can verify a token.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

/// A public key, and what it may verify.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a JSON Web Key Set. Keys of other kinds and for other uses are passed over, as the standard
    /// says.
    ///
    /// Source: <https://www.rfc-editor.org/rfc/rfc7517#section-5>
    ///
    /// # Errors
    /// What the content lacks: it is no key set, or no key in it can verify a token.
    pub(super) fn parse(content: &[u8]) -> Result<Self, &'static str> {
        let document: Document =
            serde_json::from_slice(content).map_err(|_| "it is no JSON Web Key Set")?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::parse).collect();
        if keys.is_empty() {
            return Err("it has no public key for signatures by RS, PS, ES or EdDSA");
        }
        Ok(Self(keys))
    }

    /// The key called `id`; without an `id`, the only key that there is.
    ///
    /// Of several with the same id, the one that is for `algorithm`.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let Some(id) = id else {
            return match self.0.as_slice() {
                [only] => Some(only),
                _ => None,
            };
        };
        let called = || self.0.iter().filter(|key| key.id.as_deref() == Some(id));
        called().find(|key| key.verifies(algorithm)).or_else(|| called().next())
    }
}

impl Key {
    /// The key, if it can verify a token.
    fn parse(key: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let operations = jwk.common.key_operations.as_ref();
        let verifies = operations.is_none_or(|allowed| allowed.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let named = jwk.common.key_algorithm;
        let possible = algorithms(&jwk.algorithm).iter();
        let algorithms: Vec<Algorithm> = possible
            .filter(|algorithm| named.is_none_or(|named| named == KeyAlgorithm::from(**algorithm)))
            .copied()
            .collect();
        if algorithms.is_empty() {
            return None;
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, decoding })
    }

    /// Whether signatures by this algorithm are its business.
    pub(super) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// The algorithms that a key of this form can verify. A secret key verifies nothing: whoever can check
/// its signatures can make them.
fn algorithms(form: &AlgorithmParameters) -> &'static [Algorithm] {
    match form {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => &[],
        },
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The key of RFC 7517, appendix A.1.
    fn p256(members: &[(&str, Value)]) -> Value {
        let mut key = json!({
            "kty": "EC", "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        });
        for (name, value) in members {
            key[*name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<Keys, &'static str> {
        Keys::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_key_verifies_what_its_form_and_its_algorithm_allow() {
        let keys = parse(&[
            p256(&[("kid", "plain".into())]),
            p256(&[("kid", "named".into()), ("use", "sig".into()), ("alg", "ES256".into())]),
            json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "rs384", "alg": "RS384", "n": "AQAB", "e": "AQAB"}),
        ]);
        let keys = keys.unwrap();
        let verifies = |id, algorithm| keys.find(Some(id), algorithm).unwrap().verifies(algorithm);
        for (id, good, bad) in [
            ("plain", &[Algorithm::ES256][..], &[Algorithm::ES384, Algorithm::RS256][..]),
            ("named", &[Algorithm::ES256], &[Algorithm::ES384, Algorithm::HS256]),
            ("rsa", RSA, &[Algorithm::HS256, Algorithm::ES256]),
            ("rs384", &[Algorithm::RS384], &[Algorithm::RS256, Algorithm::PS384]),
        ] {
            assert!(good.iter().all(|algorithm| verifies(id, *algorithm)), "{id}");
            assert!(!bad.iter().any(|algorithm| verifies(id, *algorithm)), "{id}");
        }
        assert!(keys.find(Some("other"), Algorithm::ES256).is_none());
        assert!(keys.find(None, Algorithm::ES256).is_none());
    }

    #[test]
    fn keys_that_cannot_verify_are_passed_over() {
        let no_use = [
            p256(&[("use", "enc".into())]),
            p256(&[("key_ops", json!(["sign"]))]),
            p256(&[("key_ops", "verify".into())]),
            p256(&[("alg", "ES384".into())]),
            p256(&[("alg", "HS256".into())]),
            p256(&[("crv", "P-521".into())]),
            p256(&[("x", "not base64!".into())]),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "new", "alg": "new"}),
            json!(7),
        ];
        for key in &no_use {
            assert!(parse(std::slice::from_ref(key)).is_err(), "{key}");
        }
        let only = p256(&[("key_ops", json!(["verify"]))]);
        let keys = parse(&[&no_use[..], &[only]].concat()).unwrap();
        assert!(keys.find(None, Algorithm::ES256).unwrap().verifies(Algorithm::ES256));
    }

    #[test]
    fn of_two_keys_with_one_id_the_algorithm_tells() {
        let rsa = json!({"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"});
        let keys = parse(&[rsa, p256(&[("kid", "1".into())])]).unwrap();
        for algorithm in [Algorithm::RS256, Algorithm::ES256] {
            assert!(keys.find(Some("1"), algorithm).unwrap().verifies(algorithm));
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for bad in ["", "{}", "[]", "{\"keys\": {}}", "<html>"] {
            assert_eq!(Keys::parse(bad.as_bytes()).unwrap_err(), "it is no JSON Web Key Set");
        }
        assert!(Keys::parse(b"{\"keys\": []}").unwrap_err().starts_with("it has no public key"));
    }
}
