//! Policies that allow and deny requests of the API and of the registry.

use ark_container_fakes::aws::cloud::{Cloud, allow, arn, code, message, ours, policy, theirs};
use ark_container_fakes::aws::{Role, User};
use ark_container_fakes::registry_client::{OURS, path, sample};
use aws_sdk_ecr::types::Tag as EcrTag;
use aws_sdk_sts::types::{Credentials, Tag};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Returns the actions of a push.
fn push_actions() -> Value {
    json!([
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ])
}

fn token() -> Value {
    allow(json!("ecr:GetAuthorizationToken"), "*")
}

fn trusting(name: &str) -> Value {
    policy(json!({
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::095412845506:user/{name}") },
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    }))
}

/// Starts a session of the role `push` with a session policy.
async fn session(cloud: &Cloud, narrowed: Option<Value>, tags: &[(&str, &str)]) -> Credentials {
    let tag = |(key, value): &(&str, &str)| Tag::builder().key(*key).value(*value).build().unwrap();
    let assumed = cloud
        .sts(&cloud.admin)
        .assume_role()
        .role_arn("arn:aws:iam::095412845506:role/push")
        .role_session_name("user-alice")
        .set_policy(narrowed.map(|narrowed| narrowed.to_string()))
        .set_tags(Some(tags.iter().map(tag).collect()))
        .send();
    assumed.await.unwrap().credentials.unwrap()
}

#[tokio::test]
async fn user_without_policy_may_only_get_caller_identity() {
    let nobody = User::new("nobody");
    let cloud = Cloud::start_with(|aws| aws.with_user(nobody.clone())).await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&nobody);
    assert_eq!(
        message(ecr.describe_repositories().repository_names(ours()).send().await),
        format!(
            "User: arn:aws:iam::095412845506:user/nobody is not authorized to perform: \
             ecr:DescribeRepositories on resource: {} because no identity-based policy allows the \
             ecr:DescribeRepositories action",
            arn(&ours())
        )
    );
    // A missing repository has the same error.
    let missing = ecr.describe_repositories().repository_names("other/x").send().await;
    assert_eq!(code(missing), "AccessDeniedException");
    assert_eq!(code(ecr.get_authorization_token().send().await), "AccessDeniedException");
    let asked = cloud.tagging(&nobody).get_resources().send().await;
    assert_eq!(code(asked), "AccessDeniedException");
    let identity = cloud.sts(&nobody).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some("arn:aws:iam::095412845506:user/nobody"));
}

#[tokio::test]
async fn session_policy_restricts_api_and_password() {
    let role = Role::new("push")
        .with_trust_policy(trusting("admin"))
        .with_policy(policy(json!([allow(json!("ecr:*"), "*")])));
    let cloud = Cloud::start_with(|aws| aws.with_role(role)).await;
    cloud.create_repositories().await;
    let narrowed = policy(json!([token(), allow(push_actions(), arn(&ours()))]));
    let session = session(&cloud, Some(narrowed), &[]).await;
    assert!(session.access_key_id().starts_with("ASIA"));
    let identity = cloud.sts_of(&session).get_caller_identity().send().await.unwrap();
    let expected = "arn:aws:sts::095412845506:assumed-role/push/user-alice";
    assert_eq!(identity.arn(), Some(expected));

    let ecr = cloud.ecr_of(&session);
    let listed = ecr.describe_repositories().send().await;
    assert!(
        message(listed).ends_with("no session policy allows the ecr:DescribeRepositories action")
    );
    let client = cloud.log_in(&ecr).await;
    client.push_image(&path(OURS, "app"), "v1", &sample(100)).await;
    for other in [theirs(), format!("prod/{OURS}/app2"), format!("prod/{OURS}/missing")] {
        let refused = client.get(&format!("/v2/{other}/manifests/v1")).await;
        refused.expect_error(StatusCode::FORBIDDEN, "DENIED");
        let refused = client.post(&format!("/v2/{other}/blobs/uploads/")).await;
        refused.expect_error(StatusCode::FORBIDDEN, "DENIED");
    }
}

#[tokio::test]
async fn condition_on_resource_tag_decides_describe() {
    let mut describe = allow(json!(["ecr:DescribeRepositories", "ecr:ListTagsForResource"]), "*");
    describe["Condition"] =
        json!({ "StringEquals": { "ecr:ResourceTag/team": "${aws:PrincipalTag/team}" } });
    let member = User::new("member").with_tag("team", "a").with_policy(policy(json!([describe])));
    let cloud = Cloud::start_with(|aws| aws.with_user(member.clone())).await;
    let admin = cloud.ecr(&cloud.admin);
    for (name, team) in [(ours(), "a"), (theirs(), "b")] {
        let tag = EcrTag::builder().key("team").value(team).build().unwrap();
        admin.create_repository().repository_name(name).tags(tag).send().await.unwrap();
    }
    let describe = |name| cloud.ecr(&member).describe_repositories().repository_names(name).send();
    describe(ours()).await.unwrap();
    assert_eq!(code(describe(theirs()).await), "AccessDeniedException");
}

#[tokio::test]
async fn repository_policy_denies_even_administrators() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let ecr = cloud.ecr(&cloud.admin);
    let unset = ecr.get_repository_policy().repository_name(ours()).send().await;
    assert_eq!(code(unset), "RepositoryPolicyNotFoundException");
    let deny = policy(json!({
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"],
        "Condition": { "StringNotEquals": { "aws:PrincipalTag/team": "${aws:PrincipalTag/x}" } },
    }));
    let set =
        |text: &str| ecr.set_repository_policy().repository_name(ours()).policy_text(text).send();
    set(&deny.to_string()).await.unwrap();
    let got = ecr.get_repository_policy().repository_name(ours()).send().await.unwrap();
    assert_eq!(got.policy_text(), Some(deny.to_string().as_str()));
    let refused = message(ecr.describe_images().repository_name(ours()).send().await);
    assert!(refused.ends_with("with an explicit deny in a resource-based policy"), "{refused}");
    ecr.describe_images().repository_name(theirs()).send().await.unwrap();

    let client = cloud.log_in(&ecr).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let denied = client.get(&format!("/v2/{}/blobs/{digest}", ours())).await;
    denied.expect_error(StatusCode::FORBIDDEN, "DENIED");
    let missing = client.get(&format!("/v2/{}/blobs/{digest}", theirs())).await;
    missing.expect_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    for bad in ["{", &policy(json!([allow(json!("ecr:*"), "*")])).to_string()] {
        assert_eq!(code(set(bad).await), "InvalidParameterException");
    }
}

#[tokio::test]
async fn repository_policy_allows_user_without_policy() {
    let reader = User::new("reader").with_policy(policy(json!([token()])));
    let cloud = Cloud::start_with(|aws| aws.with_user(reader.clone())).await;
    cloud.create_repositories().await;
    let images = |name| cloud.ecr(&reader).describe_images().repository_name(name).send();
    assert_eq!(code(images(ours()).await), "AccessDeniedException");
    let principal = json!({ "AWS": "arn:aws:iam::095412845506:user/reader" });
    let open = policy(json!({
        "Effect": "Allow", "Principal": principal, "Action": "ecr:DescribeImages",
    }));
    let admin = cloud.ecr(&cloud.admin).set_repository_policy().repository_name(ours());
    admin.policy_text(open.to_string()).send().await.unwrap();
    images(ours()).await.unwrap();
    assert_eq!(code(images(theirs()).await), "AccessDeniedException");
}

#[tokio::test]
async fn registry_requests_are_recorded_by_action() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let client = cloud.log_in(&cloud.ecr(&cloud.admin)).await;
    cloud.aws.forget_calls();
    let digest = client.push_image(&path(OURS, "app"), "v1", &sample(100)).await;
    client.get(&format!("/v2/{}/manifests/{digest}", ours())).await.expect(StatusCode::OK);
    let calls = cloud.aws.calls();
    let actions: std::collections::BTreeSet<&str> =
        calls.iter().map(|call| call.action.as_str()).collect();
    let expected = [
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    ];
    assert_eq!(Vec::from_iter(actions), expected);
    assert!(calls.iter().all(|call| call.resources == [arn(&ours())] && call.error.is_none()));
}

#[tokio::test]
async fn calls_are_recorded_with_principal_and_resource() {
    let cloud = Cloud::start().await;
    cloud.create_repositories().await;
    let calls = cloud.aws.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].action, "ecr:CreateRepository");
    assert_eq!(calls[0].resources, [arn(&ours())]);
    assert_eq!(calls[0].principal.as_deref(), Some("arn:aws:iam::095412845506:user/admin"));
    assert_eq!(calls[0].error, None);
    assert_ne!(calls[0].request_id, calls[1].request_id);
}
