//! Which tokens open which role.

use ark_container_core::testing::TestToken;
use serde_json::json;

use super::{A, ACCESS, ADMINISTRATOR, B, Deployment, GLOBAL, token};

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
async fn token_with_other_session_tags_is_denied() {
    let deployment = Deployment::start().await;
    let alice = || token("user:alice", &[A], &[B]);
    let tagged =
        |tags| alice().with_claim("https://aws.amazon.com/tags", json!({ "principal_tags": tags }));
    let no_tags: TestToken = alice().without_claim("https://aws.amazon.com/tags");
    for token in [
        no_tags,
        tagged(json!({ "organization": [A], "administers": [B] })),
        tagged(json!({ "kind": ["service"], "administers": [B] })),
        tagged(json!({ "kind": ["user"], "administers": [B], "team": ["x"] })),
    ] {
        for role in [ACCESS, ADMINISTRATOR] {
            let refused = deployment.ecr(role, &token).await.err();
            assert_eq!(refused.as_deref(), Some("AccessDenied"), "{token:?}");
        }
    }
}
