//! Sessions of roles: permissions to assume a role, and limits.

use std::time::Duration;

use ark_container_fakes::aws::cloud::{Cloud, allow, code, message, policy};
use ark_container_fakes::aws::{Role, User};
use aws_sdk_sts::operation::assume_role::builders::AssumeRoleFluentBuilder;
use aws_sdk_sts::types::Tag;
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::095412845506:role/push";

fn trusting(principal: Value, actions: Value) -> Value {
    policy(json!({ "Effect": "Allow", "Principal": principal, "Action": actions }))
}

fn all(name: &str) -> Role {
    Role::new(name).with_policy(policy(json!([allow(json!("*"), "*")])))
}

fn assume(sts: &aws_sdk_sts::Client) -> AssumeRoleFluentBuilder {
    sts.assume_role().role_arn(ROLE).role_session_name("user-alice")
}

/// Starts a fake with the role `push`, which trusts the account and allows sessions of 12 hours.
async fn start() -> Cloud {
    let account = json!({ "AWS": "arn:aws:iam::095412845506:root" });
    let role = all("push")
        .with_trust_policy(trusting(account, json!(["sts:AssumeRole", "sts:TagSession"])))
        .with_max_session(Duration::from_secs(12 * 60 * 60));
    let pusher = User::new("pusher");
    Cloud::start_with(|aws| aws.with_role(role).with_user(pusher)).await
}

#[tokio::test]
async fn role_that_trusts_account_needs_user_policy() {
    let cloud = start().await;
    assume(&cloud.sts(&cloud.admin)).send().await.unwrap();
    let refused = assume(&cloud.sts(&User::new("pusher"))).send().await;
    assert_eq!(
        message(refused),
        format!(
            "User: arn:aws:iam::095412845506:user/pusher is not authorized to perform: \
             sts:AssumeRole on resource: {ROLE} because no identity-based policy allows the \
             sts:AssumeRole action"
        )
    );
    let missing = cloud.sts(&cloud.admin).assume_role().role_arn(format!("{ROLE}2"));
    assert_eq!(code(missing.role_session_name("ab").send().await), "AccessDenied");
}

#[tokio::test]
async fn session_tags_need_tag_session_action() {
    let admin = json!({ "AWS": "arn:aws:iam::095412845506:user/admin" });
    let role = all("push").with_trust_policy(trusting(admin, json!("sts:AssumeRole")));
    let cloud = Cloud::start_with(|aws| aws.with_role(role)).await;
    let tag = Tag::builder().key("organization").value("x").build().unwrap();
    let refused = assume(&cloud.sts(&cloud.admin)).tags(tag).send().await;
    assert!(message(refused).contains("perform: sts:TagSession on resource: "));
}

#[tokio::test]
async fn session_duration_is_limited_by_role_and_chaining() {
    let cloud = start().await;
    let sts = cloud.sts(&cloud.admin);
    let duration = |seconds| assume(&sts).duration_seconds(seconds).send();
    for (seconds, problem) in
        [(899, "greater than or equal to 900"), (43_201, "less than or equal")]
    {
        let refused = duration(seconds).await;
        let text = message(refused);
        assert!(text.contains(problem), "{text}");
    }
    let long = duration(43_200).await.unwrap().credentials.unwrap();
    let chained = assume(&cloud.sts_of(&long)).duration_seconds(3_601).send().await;
    assert!(message(chained).contains("1 hour session limit for roles assumed by role chaining"));
    assume(&cloud.sts_of(&long)).duration_seconds(3_600).send().await.unwrap();
}

#[tokio::test]
async fn session_is_limited_by_its_role() {
    let admin = json!({ "AWS": "*" });
    let role = all("push").with_trust_policy(trusting(admin, json!("sts:AssumeRole")));
    let cloud = Cloud::start_with(|aws| aws.with_role(role)).await;
    let refused = assume(&cloud.sts(&cloud.admin)).duration_seconds(3_601).send().await;
    assert!(message(refused).contains("MaxSessionDuration"));
}

#[tokio::test]
async fn session_policy_and_name_have_limits() {
    let cloud = start().await;
    let sts = cloud.sts(&cloud.admin);
    let resources: Vec<String> =
        (0..30).map(|number| format!("{}{number}", "x".repeat(60))).collect();
    let long = policy(json!([allow(json!("ecr:*"), resources.clone())])).to_string();
    assert!(long.len() < 2_048);
    let fits = assume(&sts).policy(&long).send().await.unwrap();
    #[expect(deprecated, reason = "no other member has the remaining size")]
    let packed = fits.packed_policy_size().unwrap();
    assert!((90..=100).contains(&packed), "{packed}");
    let tag = |key: &str| Tag::builder().key(key).value("v".repeat(200)).build().unwrap();
    let packed = assume(&sts).policy(&long).tags(tag("a")).send().await;
    assert_eq!(code(packed), "PackedPolicyTooLarge");
    let spaces = format!("{long}{}", " ".repeat(2_048));
    assert_eq!(code(assume(&sts).policy(spaces).send().await), "PackedPolicyTooLarge");
    assert_eq!(code(assume(&sts).policy("{}").send().await), "MalformedPolicyDocument");
    let name = sts.assume_role().role_arn(ROLE).role_session_name("user:alice").send().await;
    assert!(message(name).contains("'roleSessionName'"));
    let unknown = assume(&sts).serial_number("arn:aws:iam::095412845506:mfa/a").send().await;
    assert!(message(unknown).contains("does not support the parameter SerialNumber"));
}

#[tokio::test]
async fn expired_session_is_rejected() {
    let cloud = start().await;
    let session = assume(&cloud.sts(&cloud.admin)).send().await.unwrap().credentials.unwrap();
    let ecr = cloud.ecr_of(&session);
    let client = cloud.log_in(&ecr).await;
    client.get("/v2/").await.expect(reqwest::StatusCode::OK);
    // A password ends no later than its session.
    let given = ecr.get_authorization_token().send().await.unwrap();
    let expires_at = given.authorization_data()[0].expires_at().unwrap().secs();
    assert_eq!(expires_at, session.expiration().secs());
    cloud.aws.expire_sessions();
    assert_eq!(code(ecr.describe_repositories().send().await), "ExpiredTokenException");
    assert_eq!(code(cloud.sts_of(&session).get_caller_identity().send().await), "ExpiredToken");
}
