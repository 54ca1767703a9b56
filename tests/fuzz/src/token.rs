//! Tokens: files, claims, verification and key sets.

use std::fmt::Debug;
use std::path::Path;
use std::sync::OnceLock;

use ark_container_core::identity::{
    ClaimNames, IdentitySource as _, KeySet, TokenFile, TokenIdentity, TokenVerifier,
};
use ark_container_core::model::{OrganizationId, Organizations};
use ark_container_core::testing::{TestToken, TokenIssuer};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::environment;

/// The placeholder of a valid token in seeds.
const GOOD: &str = "@token@";

/// An issuer with one of its tokens.
struct Issued {
    issuer: TokenIssuer,
    token: String,
}

fn issued() -> &'static Issued {
    static ISSUED: OnceLock<Issued> = OnceLock::new();
    ISSUED.get_or_init(|| {
        let issuer = TokenIssuer::new("https://auth.example", "ark").expect("a key can be created");
        let name = "user:alice".parse().expect("it is a name");
        let token = TestToken::new(&name).with_organizations([OrganizationId::TBD]);
        let token = issuer.token(&token).expect("it can be signed");
        Issued { issuer, token }
    })
}

/// Checks a token. The first line of the input names the kind of the rest: the content of a token `file`, the `claims`
/// of a token, a token to `verify`, or a set of `keys`.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((kind, rest)) = text.split_once('\n') else { return };
    let rest = rest.replace(GOOD, &issued().token);
    let folder = environment::folder();
    match kind {
        "file" => file(folder.path(), &rest),
        "claims" => claims(folder.path(), &rest),
        "verify" => verify(folder.path(), &rest),
        "keys" => keys(folder.path(), &rest),
        _ => {}
    }
}

fn file(folder: &Path, content: &str) {
    let file = TokenFile::new(environment::write(folder, "jwt.json", content.as_bytes()));
    let read = environment::runtime().block_on(file.read());
    check_hidden(&read, content.trim());
    if let Ok(token) = read {
        assert!(content.contains(token.expose()));
        check_hidden(&token, token.expose());
    }
}

/// Checks that the principal of an unverified token agrees with its claims.
fn claims(folder: &Path, claims: &str) {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let token = format!("{}.{}.c2ln", part(r#"{"alg":"ES256","typ":"JWT"}"#), part(claims));
    let file = TokenFile::new(environment::write(folder, "jwt.json", token.as_bytes()));
    let identity = TokenIdentity::unverified(file, ClaimNames::default());
    let named = environment::runtime().block_on(identity.principal());
    check_hidden(&named, &token);
    let Ok(principal) = named else { return };
    let claims: Value = serde_json::from_str(claims).expect("valid claims are JSON");
    assert!(claims["exp"].is_number());
    assert_eq!(claims["kind"], principal.kind().as_str());
    assert_eq!(claims["sub"], principal.name().id());
    let listed = |claim: &str| -> Vec<OrganizationId> {
        let list = claims[claim].as_array().into_iter().flatten();
        list.map(|id| id.as_str().and_then(|id| id.parse().ok()).expect("a GUID")).collect()
    };
    let (member_of, administers) = (listed("organizations"), listed("administers"));
    assert!(administers.iter().all(|id| principal.administers(*id)));
    let all: Organizations = member_of.into_iter().chain(administers).collect();
    assert_eq!(principal.organizations(), all);
}

/// Checks that only the issued token is valid.
fn verify(folder: &Path, token: &str) {
    let Issued { issuer, token: good } = issued();
    let keys = environment::write(folder, "keys.json", issuer.key_set_json().as_bytes());
    let verifier = TokenVerifier::new(KeySet::file(keys), "ark").with_issuer(issuer.issuer());
    let verified = environment::runtime().block_on(verifier.verify(token));
    assert_eq!(verified.is_ok(), token == good, "{verified:?}");
    check_hidden(&verified, token);
}

/// Checks that no other key verifies the issued token.
fn keys(folder: &Path, keys: &str) {
    let keys = environment::write(folder, "keys.json", keys.as_bytes());
    let verifier = TokenVerifier::new(KeySet::file(keys), "ark");
    let verified = environment::runtime().block_on(verifier.verify(&issued().token));
    assert!(verified.is_err(), "{verified:?}");
    check_hidden(&verified, &issued().token);
}

/// Checks that an output does not contain a secret. Short texts are ignored, because they may occur by chance.
fn check_hidden(shown: &impl Debug, secret: &str) {
    let shown = format!("{shown:?}");
    assert!(secret.len() < 40 || !shown.contains(secret), "{shown}");
}
