//! Identities by token: rejected tokens, and tokens that are renewed during a run.

mod key_sets;

use std::error::Error as _;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::Error;
use ark_container_core::identity::{
    ClaimNames, IdentitySource, KeySet, TokenFile, TokenIdentity, TokenVerifier,
};
use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{SigningAlgorithm, TestToken, TokenIssuer};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::server::pass;

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "ark";

fn issuer() -> TokenIssuer {
    TokenIssuer::new(ISSUER, AUDIENCE).unwrap()
}

/// Returns a token of this user, a member of the standard organization.
fn user(name: &str) -> TestToken {
    TestToken::new(&format!("user:{name}").parse().unwrap())
        .with_organizations([OrganizationId::TBD])
}

/// Replaces a file atomically, with mode 0600.
fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, path).unwrap();
}

/// Returns all texts of an error: its own, those of its causes, and its fields.
fn everything(error: &Error) -> String {
    let mut said = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(next) = cause {
        write!(said, " {next} {next:?}").unwrap();
        cause = next.source();
    }
    said
}

const MINUTE: Duration = Duration::from_secs(60);

/// A key set with the keys of an issuer.
struct TrustedKeys {
    keys: KeySet,
    _folder: TempDir,
}

impl TrustedKeys {
    fn new(issuer: &TokenIssuer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        fs::write(&file, issuer.key_set_json()).unwrap();
        Self { keys: KeySet::file(file), _folder: folder }
    }

    fn verifier(&self) -> TokenVerifier {
        TokenVerifier::new(self.keys.clone(), AUDIENCE).with_issuer(ISSUER)
    }

    /// Returns why the token is rejected, and asserts that the error has no part of the token.
    async fn refusal(&self, token: &str) -> String {
        let error = self.verifier().verify(token).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        let said = everything(&error);
        for part in token.split('.').filter(|part| part.len() > 10) {
            assert!(!said.contains(part), "{said} quotes {part}");
        }
        let message = error.to_string();
        message.strip_prefix("not authenticated: the token ").unwrap().to_owned()
    }
}

#[tokio::test]
async fn valid_tokens_of_every_algorithm_are_accepted() {
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa] {
        let issuer = TokenIssuer::with_algorithm(ISSUER, AUDIENCE, algorithm).unwrap();
        let judge = TrustedKeys::new(&issuer);
        for token in [
            user("alice"),
            user("alice").without_header("kid"),
            user("alice").without_header("typ"),
            user("alice").with_claim("aud", json!(["other", AUDIENCE])),
            user("alice").expiring_at(SystemTime::now() - Duration::from_secs(20)),
            user("alice").not_before(SystemTime::now() + Duration::from_secs(20)),
        ] {
            let signed = issuer.token(&token).unwrap();
            let principal = judge.verifier().verify(&signed).await.unwrap();
            assert_eq!(principal.to_string(), "user:alice", "{token:?}");
        }
    }
}

#[tokio::test]
async fn token_signed_by_another_key_is_rejected() {
    let judge = TrustedKeys::new(&issuer());
    let forger = issuer();
    let own_key: Value = serde_json::from_str(&forger.key_set_json()).unwrap();
    for token in [
        user("alice"),
        user("alice").without_header("kid"),
        // A key in the token's header is not judge.
        user("alice").with_header("jwk", own_key["keys"][0].clone()),
        user("alice").with_header("jku", "https://forger.example.com/keys"),
        user("alice").with_header("x5u", "https://forger.example.com/certificate"),
    ] {
        let forged = forger.token(&token).unwrap();
        assert_eq!(judge.refusal(&forged).await, "has an invalid signature", "{token:?}");
    }
}

#[tokio::test]
async fn changed_claims_are_rejected() {
    let issuer = issuer();
    let judge = TrustedKeys::new(&issuer);
    let [alice, carol] = ["alice", "carol"].map(|name| issuer.token(&user(name)).unwrap());
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (alice, carol) = (parts(&alice), parts(&carol));
    let mixed = [&alice[0], &carol[1], &alice[2]].map(String::as_str).join(".");
    assert_eq!(judge.refusal(&mixed).await, "has an invalid signature");
    let unsigned = format!("{}.{}.", alice[0], alice[1]);
    assert_eq!(judge.refusal(&unsigned).await, "has an invalid signature");
}

#[tokio::test]
async fn unsigned_token_is_rejected() {
    let issuer = issuer();
    let judge = TrustedKeys::new(&issuer);
    for none in ["none", "None", "NONE", "nOnE"] {
        let token = issuer.unsigned(&user("alice").with_header("alg", none));
        assert_eq!(judge.refusal(&token).await, "is not a signed JSON Web Token", "{none}");
    }
}

#[tokio::test]
async fn token_signed_by_the_public_key_is_rejected() {
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa] {
        let issuer = TokenIssuer::with_algorithm(ISSUER, AUDIENCE, algorithm).unwrap();
        let judge = TrustedKeys::new(&issuer);
        let keys = issuer.key_set_json();
        let key = serde_json::from_str::<Value>(&keys).unwrap()["keys"][0].clone();
        let bytes = |name: &str| {
            let text = key[name].as_str().unwrap_or_default();
            URL_SAFE_NO_PAD.decode(text).unwrap()
        };
        let point = [&[4][..], &bytes("x"), &bytes("y")].concat();
        for secret in
            [keys.as_bytes(), key.to_string().as_bytes(), &point, &bytes("x"), &bytes("n"), b""]
        {
            let token = issuer.signed_by_secret(&user("alice"), secret);
            assert_eq!(
                judge.refusal(&token).await,
                "is signed with HS256, which is not one of RS, PS, ES and EdDSA"
            );
        }
    }
}

#[tokio::test]
async fn token_is_verified_with_its_named_key() {
    let mut issuer = issuer();
    issuer.rotate().unwrap();
    let judge = TrustedKeys::new(&issuer);
    let swapped = issuer.token(&user("alice").with_header("kid", "key-1")).unwrap();
    assert_eq!(judge.refusal(&swapped).await, "has an invalid signature");
    let unknown = issuer.token(&user("alice").with_header("kid", "../key-2")).unwrap();
    assert!(judge.refusal(&unknown).await.starts_with("is signed with a key that is not in "));
    let unnamed = issuer.token(&user("alice").without_header("kid")).unwrap();
    assert!(judge.refusal(&unnamed).await.starts_with("does not say which of the keys in "));
}

#[tokio::test]
async fn key_verifies_only_its_algorithm() {
    let issuer = issuer();
    let judge = TrustedKeys::new(&issuer);
    for other in ["ES384", "RS256", "PS512", "EdDSA"] {
        let token = issuer.token(&user("alice").with_header("alg", other)).unwrap();
        assert_eq!(
            judge.refusal(&token).await,
            format!("is signed with {other}, which its key does not support")
        );
    }
}

#[tokio::test]
async fn expired_and_foreign_claims_are_rejected() {
    let issuer = issuer();
    let judge = TrustedKeys::new(&issuer);
    let now = SystemTime::now();
    let alice = || user("alice");
    let cases: [(TestToken, &str); 13] = [
        (alice().expiring_at(now - MINUTE), "has expired"),
        (alice().without_claim("exp"), "has no claim \"exp\""),
        (alice().with_claim("exp", "4000000000"), "has no claim \"exp\""),
        (alice().with_claim("exp", 1e300), "has no claim \"exp\""),
        (alice().not_before(now + MINUTE), "is not valid yet"),
        (alice().with_claim("nbf", "soon"), "has an invalid claim \"nbf\""),
        (alice().with_claim("aud", "other"), "is not for \"ark\""),
        (alice().with_claim("aud", json!(["other", "ark2"])), "is not for \"ark\""),
        (alice().without_claim("aud"), "has no claim \"aud\""),
        (
            alice().with_claim("iss", "https://auth.example.com.evil"),
            "is not from \"https://auth.example.com\"",
        ),
        (alice().without_claim("iss"), "has no claim \"iss\""),
        (
            alice().without_claim("kind"),
            "has no claim \"kind\"; if another claim holds the kind, name it in the setting \
             identity.claims.kind",
        ),
        (alice().with_header("crit", json!(["exp"])), "requires an unsupported extension"),
    ];
    for (token, problem) in cases {
        let signed = issuer.token(&token).unwrap();
        assert_eq!(judge.refusal(&signed).await, problem, "{token:?}");
    }
}

#[tokio::test]
async fn malformed_token_is_rejected() {
    let issuer = issuer();
    let judge = TrustedKeys::new(&issuer);
    let token = issuer.token(&user("alice")).unwrap();
    let more = format!("{token}.{token}");
    for bad in ["", ".", "..", "hunter2-hunter2", "\0", "ä.ö.ü", &more] {
        assert_eq!(judge.refusal(bad).await, "is not a signed JSON Web Token", "{bad:?}");
    }
    let long = user("alice").with_claim("more", "x".repeat(64 * 1024));
    let long = issuer.token(&long).unwrap();
    assert_eq!(judge.refusal(&long).await, "is longer than 65536 bytes");
}

#[tokio::test]
async fn any_audience_is_opt_in() {
    let issuer = TokenIssuer::new(ISSUER, "another service").unwrap();
    let judge = TrustedKeys::new(&issuer);
    let token = issuer.token(&user("alice")).unwrap();
    assert_eq!(judge.refusal(&token).await, "is not for \"ark\"");
    let any = TokenVerifier::for_any_audience(judge.keys.clone());
    assert_eq!(any.verify(&token).await.unwrap().to_string(), "user:alice");
    let none = issuer.token(&user("alice").without_claim("aud")).unwrap();
    assert_eq!(any.verify(&none).await.unwrap().to_string(), "user:alice");
}

const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A folder with a token file, and the identity of its token.
struct UserFolder {
    path: PathBuf,
    identity: TokenIdentity,
    _folder: TempDir,
}

impl UserFolder {
    /// Returns an identity without verification of the token.
    fn unverified() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt.json");
        let identity = TokenIdentity::unverified(TokenFile::new(&path), ClaimNames::default());
        Self { path, identity, _folder: folder }
    }

    /// Returns an identity whose tokens are verified with the keys of `issuer`.
    fn verified(issuer: &TokenIssuer) -> Self {
        let run = Self::unverified();
        let keys = run.path.with_file_name("keys.json");
        replace(&keys, &issuer.key_set_json());
        let verifier = TokenVerifier::new(KeySet::file(keys), AUDIENCE);
        let identity = TokenIdentity::verified(TokenFile::new(&run.path), verifier);
        Self { identity, ..run }
    }

    fn has(&self, issuer: &TokenIssuer, token: &TestToken) {
        let token = issuer.token(token).unwrap();
        replace(&self.path, &format!("{{\"jwt\": \"{token}\"}}"));
    }

    async fn asks(&self) -> String {
        self.identity.principal().await.unwrap().to_string()
    }

    async fn refusal(&self) -> String {
        let error = self.identity.principal().await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        everything(&error)
    }
}

#[tokio::test]
async fn renewed_token_is_read_during_a_run() {
    let issuer = issuer();
    for run in [UserFolder::unverified(), UserFolder::verified(&issuer)] {
        run.has(&issuer, &user("alice"));
        assert_eq!(run.asks().await, "user:alice");
        let organizations = [OrganizationId::from_u128(1)];
        run.has(&issuer, &user("alice").with_organizations(organizations));
        pass(FILE_CHECK_INTERVAL).await;
        let alice = run.identity.principal().await.unwrap();
        assert!(alice.is_member_of(organizations[0]) && !alice.is_member_of(OrganizationId::TBD));

        run.has(&issuer, &user("bob"));
        pass(FILE_CHECK_INTERVAL).await;
        assert_eq!(run.asks().await, "user:bob");

        fs::remove_file(&run.path).unwrap();
        pass(FILE_CHECK_INTERVAL).await;
        assert!(run.refusal().await.contains("there is no token: the file "));
    }
}

#[tokio::test]
async fn token_that_expires_during_a_run_is_rejected() {
    let issuer = issuer();
    for run in [UserFolder::unverified(), UserFolder::verified(&issuer)] {
        // With the leeway, the token is valid for one to two more seconds.
        let expired = SystemTime::now() - Duration::from_secs(28);
        run.has(&issuer, &user("alice").expiring_at(expired));
        assert_eq!(run.asks().await, "user:alice");
        let deadline = Instant::now() + Duration::from_secs(20);
        while run.identity.principal().await.is_ok() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(run.refusal().await.contains("expired"), "{}", run.refusal().await);
    }
}

#[tokio::test]
async fn forged_token_file_is_rejected_with_a_key_set() {
    let (ours, forger) = (issuer(), issuer());
    let run = UserFolder::verified(&ours);
    assert!(run.identity.is_verified());
    run.has(&forger, &user("alice"));
    let refusal = run.refusal().await;
    let path = run.path.display();
    let expected = format!("not authenticated: the token in {path} has an invalid signature");
    assert!(refusal.starts_with(&expected), "{refusal}");
    run.has(&ours, &user("alice"));
    assert_eq!(run.asks().await, "user:alice");
}

#[tokio::test]
async fn own_token_is_accepted_without_a_key_set() {
    let run = UserFolder::unverified();
    assert!(!run.identity.is_verified());
    run.has(&issuer(), &user("alice"));
    assert_eq!(run.asks().await, "user:alice");
    run.has(&issuer(), &user("alice").without_claim("kind"));
    pass(FILE_CHECK_INTERVAL).await;
    assert!(run.refusal().await.contains("has no claim \"kind\""));
    replace(&run.path, &issuer().unsigned(&user("alice")));
    assert!(run.refusal().await.contains("is not a signed JSON Web Token"));
}

#[tokio::test]
async fn verifier_reads_configured_claims() {
    let issuer = issuer();
    let run = UserFolder::verified(&issuer);
    let keys = KeySet::file(run.path.with_file_name("keys.json"));
    let names = ClaimNames::default().with_kind("custom:kind").with_subject("email");
    let verifier = TokenVerifier::new(keys, AUDIENCE).with_claim_names(names);
    let token = user("0b1").with_claim("custom:kind", "robot").with_claim("email", "nightly");
    let principal = verifier.verify(&issuer.token(&token).unwrap()).await.unwrap();
    assert_eq!(principal.to_string(), "robot:nightly");
}
