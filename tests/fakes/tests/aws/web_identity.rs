//! Accepted and rejected tokens of AssumeRoleWithWebIdentity.

use std::time::{Duration, SystemTime};

use ark_container_core::testing::{SigningAlgorithm, TestToken, TokenIssuer};
use ark_container_fakes::aws::cloud::{Cloud, allow, code, message, policy};
use ark_container_fakes::aws::{IdentityProvider, Role, User};
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentityError, AssumeRoleWithWebIdentityOutput,
};
use serde_json::json;

const ROLE: &str = "arn:aws:iam::095412845506:role/access";

/// A fake with a role for tokens of kind `user` that an issuer has signed for `ark`.
struct Trusting {
    cloud: Cloud,
    issuer: TokenIssuer,
}

impl Trusting {
    async fn start(algorithm: SigningAlgorithm) -> Self {
        let issuer = TokenIssuer::with_algorithm("https://id.example.com/a", "ark", algorithm);
        let issuer = issuer.unwrap();
        let trust = policy(json!({
            "Effect": "Allow",
            "Principal": {
                "Federated": "arn:aws:iam::095412845506:oidc-provider/id.example.com/a"
            },
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
            "Condition": {
                "StringEquals": { "id.example.com/a:aud": "ark" },
                "StringLike": { "aws:RequestTag/kind": "us*" },
                "Null": { "aws:RequestTag/administers": "true" },
            },
        }));
        let role = Role::new("access")
            .with_trust_policy(trust)
            .with_policy(policy(json!([allow(json!("*"), "*")])));
        let provider = IdentityProvider::new(issuer.issuer(), issuer.key_set_json());
        let provider = provider.with_audience("ark").with_audience("other");
        let cloud =
            Cloud::start_with(|aws| aws.with_role(role).with_identity_provider(provider)).await;
        Self { cloud, issuer }
    }

    async fn assume(
        &self,
        token: &str,
    ) -> Result<AssumeRoleWithWebIdentityOutput, SdkError<AssumeRoleWithWebIdentityError>> {
        // The request is not signed, so the user does not matter.
        let sts = self.cloud.sts(&User::new("unknown"));
        let request = sts.assume_role_with_web_identity().role_arn(ROLE);
        request.role_session_name("user-alice").web_identity_token(token).send().await
    }

    async fn assume_signed(&self, token: &TestToken) -> String {
        code(self.assume(&self.issuer.token(token).unwrap()).await)
    }
}

fn alice() -> TestToken {
    TestToken::new(&"user:alice".parse().unwrap()).with_session_tags()
}

#[tokio::test]
async fn token_of_trusted_provider_gets_a_session() {
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
        let aws = Trusting::start(algorithm).await;
        let session = aws.assume(&aws.issuer.token(&alice()).unwrap()).await.unwrap();
        assert_eq!(session.audience(), Some("ark"));
        assert!(session.provider().unwrap().ends_with(":oidc-provider/id.example.com/a"));
        let ecr = aws.cloud.ecr_of(&session.credentials.unwrap());
        ecr.describe_repositories().send().await.unwrap();
    }
}

#[tokio::test]
async fn forged_token_is_rejected() {
    let aws = Trusting::start(SigningAlgorithm::Es256).await;
    let stranger = TokenIssuer::new(aws.issuer.issuer(), "ark").unwrap();
    let public_key = aws.issuer.key_set_json();
    let good = aws.issuer.token(&alice()).unwrap();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let robot = aws.issuer.token(&TestToken::new(&"robot:bob".parse().unwrap())).unwrap();
    let forged = [
        stranger.token(&alice()).unwrap(),
        aws.issuer.unsigned(&alice()),
        aws.issuer.signed_by_secret(&alice(), public_key.as_bytes()),
        format!("{}.{signature}", robot.rsplit_once('.').unwrap().0),
        format!("{signed}."),
        signed.to_owned(),
        "no token".to_owned(),
    ];
    for token in forged {
        assert_eq!(code(aws.assume(&token).await), "InvalidIdentityToken", "{token}");
    }
    for token in [
        alice().with_header("alg", "RS256"),
        alice().with_header("alg", "none"),
        alice().with_header("kid", "key-2"),
        alice().without_header("kid"),
    ] {
        assert_eq!(aws.assume_signed(&token).await, "InvalidIdentityToken");
    }
}

#[tokio::test]
async fn token_with_other_claims_is_rejected() {
    let aws = Trusting::start(SigningAlgorithm::Es256).await;
    let ago = SystemTime::now() - Duration::from_secs(1);
    let later = SystemTime::now() + Duration::from_secs(600);
    for (token, expected) in [
        (alice().expiring_at(ago), "ExpiredTokenException"),
        (alice().not_before(later), "InvalidIdentityToken"),
        (alice().with_claim("aud", "stranger"), "InvalidIdentityToken"),
        (alice().with_claim("aud", json!(["ark", "other"])), "InvalidIdentityToken"),
        (alice().with_claim("iss", "https://id.example.com"), "InvalidIdentityToken"),
        (alice().without_claim("sub"), "InvalidIdentityToken"),
        (alice().without_claim("exp"), "InvalidIdentityToken"),
        // The account accepts the audience, but the role does not trust it.
        (alice().with_claim("aud", "other"), "AccessDenied"),
        (TestToken::new(&"user:alice".parse().unwrap()), "AccessDenied"),
        (TestToken::new(&"robot:bob".parse().unwrap()).with_session_tags(), "AccessDenied"),
    ] {
        assert_eq!(aws.assume_signed(&token).await, expected, "{token:?}");
    }
    let tags = json!({ "principal_tags": { "kind": ["user"], "a": ["x".repeat(257)] } });
    let long = alice().with_claim("https://aws.amazon.com/tags", tags);
    assert_eq!(aws.assume_signed(&long).await, "ValidationError");
    let tags = json!({ "principal_tags": { "kind": ["user"], "administers": ["x"] } });
    let administrator = alice().with_claim("https://aws.amazon.com/tags", tags);
    assert_eq!(aws.assume_signed(&administrator).await, "AccessDenied");
}

#[tokio::test]
async fn token_expires_by_the_clock_of_aws() {
    let aws = Trusting::start(SigningAlgorithm::Es256).await;
    let token = alice().expiring_at(SystemTime::now() + Duration::from_secs(60));
    let token = aws.issuer.token(&token).unwrap();
    aws.assume(&token).await.unwrap();
    aws.cloud.aws.set_clock_ahead(120);
    assert!(message(aws.assume(&token).await).starts_with("Token expired: current date/time "));
}
