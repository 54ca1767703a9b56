//! The token of this process, during its run.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::Error;
use ark_container_core::identity::{
    ClaimNames, IdentitySource, KeySet, TokenFile, TokenIdentity, TokenVerifier,
};
use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{TestToken, TokenIssuer};
use tempfile::TempDir;

use super::{AUDIENCE, everything, issuer, replace, user};
use crate::registry::server::pass;

const NOTICE: Duration = Duration::from_secs(1);

/// A user's folder with the token in it, and who they are by it.
struct Run {
    path: PathBuf,
    identity: TokenIdentity,
    _folder: TempDir,
}

impl Run {
    /// Believes the token.
    fn unverified() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt.json");
        let identity = TokenIdentity::unverified(TokenFile::new(&path), ClaimNames::default());
        Self { path, identity, _folder: folder }
    }

    /// Has the tokens of `issuer` verified.
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
    for run in [Run::unverified(), Run::verified(&issuer)] {
        run.has(&issuer, &user("alice"));
        assert_eq!(run.asks().await, "user:alice");
        let organizations = [OrganizationId::from_u128(1)];
        run.has(&issuer, &user("alice").with_organizations(organizations));
        pass(NOTICE).await;
        let alice = run.identity.principal().await.unwrap();
        assert!(alice.is_member_of(organizations[0]) && !alice.is_member_of(OrganizationId::TBD));

        run.has(&issuer, &user("bob"));
        pass(NOTICE).await;
        assert_eq!(run.asks().await, "user:bob");

        fs::remove_file(&run.path).unwrap();
        pass(NOTICE).await;
        assert!(run.refusal().await.contains("there is no token, as the file "));
    }
}

#[tokio::test]
async fn token_that_expires_during_a_run_is_rejected() {
    let issuer = issuer();
    for run in [Run::unverified(), Run::verified(&issuer)] {
        // With the leeway there are between one and two seconds left.
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
    let run = Run::verified(&ours);
    assert!(run.identity.is_verified());
    run.has(&forger, &user("alice"));
    let refusal = run.refusal().await;
    let path = run.path.display();
    let expected =
        format!("not authenticated: the token in {path} has a signature that is not genuine");
    assert!(refusal.starts_with(&expected), "{refusal}");
    run.has(&ours, &user("alice"));
    assert_eq!(run.asks().await, "user:alice");
}

#[tokio::test]
async fn own_token_is_accepted_without_a_key_set() {
    let run = Run::unverified();
    assert!(!run.identity.is_verified());
    run.has(&issuer(), &user("alice"));
    assert_eq!(run.asks().await, "user:alice");
    run.has(&issuer(), &user("alice").without_claim("kind"));
    pass(NOTICE).await;
    assert!(run.refusal().await.contains("has no claim \"kind\""));
    replace(&run.path, &issuer().unsigned(&user("alice")));
    assert!(run.refusal().await.contains("is no signed JSON Web Token"));
}

#[tokio::test]
async fn verifier_reads_configured_claims() {
    let issuer = issuer();
    let run = Run::verified(&issuer);
    let keys = KeySet::file(run.path.with_file_name("keys.json"));
    let names = ClaimNames::default().with_kind("custom:kind").with_subject("email");
    let verifier = TokenVerifier::new(keys, AUDIENCE).with_claim_names(names);
    let token = user("0b1").with_claim("custom:kind", "robot").with_claim("email", "nightly");
    let principal = verifier.verify(&issuer.token(&token).unwrap()).await.unwrap();
    assert_eq!(principal.to_string(), "robot:nightly");
}
