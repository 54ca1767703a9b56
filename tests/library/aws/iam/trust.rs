//! Which tokens open which role.

use ark_container_core::testing::{TestToken, TokenIssuer};
use serde_json::json;

use super::deployment::{A, ACCESS, ADMINISTRATOR, AUDIENCE, B, Deployment, GLOBAL, ISSUER, token};

#[tokio::test]
async fn roles_are_for_every_kind_and_administrators() {
    let deployment = Deployment::start().await;
    for name in ["user:alice", "robot:build", "ingest-job:7"] {
        let plain = token(name, &[A], &[]);
        deployment.ecr(ACCESS, &plain).await.unwrap();
        assert_eq!(deployment.ecr(ADMINISTRATOR, &plain).await.err().unwrap(), "AccessDenied");
        let administrator = token(name, &[A], &[A, GLOBAL]);
        deployment.ecr(ACCESS, &administrator).await.unwrap();
        deployment.ecr(ADMINISTRATOR, &administrator).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_that_says_something_else_opens_nothing() {
    let mut deployment = Deployment::start().await;
    let alice = || token("user:alice", &[A], &[B]);
    let tagged =
        |tags| alice().with_claim("https://aws.amazon.com/tags", json!({ "principal_tags": tags }));
    let no_tags: TestToken = alice().without_claim("https://aws.amazon.com/tags");
    for (refused, token) in [
        ("AccessDenied", no_tags),
        ("AccessDenied", tagged(json!({ "organization": [A], "administers": [B] }))),
        ("AccessDenied", tagged(json!({ "kind": ["service"], "administers": [B] }))),
        ("AccessDenied", tagged(json!({ "kind": ["user"], "administers": [B], "team": ["x"] }))),
        ("InvalidIdentityToken", alice().with_claim("aud", "another")),
        ("InvalidIdentityToken", alice().with_claim("iss", "https://auth.example.org")),
    ] {
        for role in [ACCESS, ADMINISTRATOR] {
            assert_eq!(deployment.ecr(role, &token).await.err().unwrap(), refused, "{token:?}");
        }
    }
    // Whoever has other keys and says the same.
    deployment.issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
    assert_eq!(deployment.ecr(ACCESS, &alice()).await.err().unwrap(), "InvalidIdentityToken");
}
