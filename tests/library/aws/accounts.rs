//! Callers of other accounts, and roles with conditions on the caller.

use ark_container_core::backend::ecr::{EcrBackend, EcrBackendBuilder};
use ark_container_core::model::{Access, Scope, Stage};
use ark_container_core::{ErrorKind, RegistryBackend};
use ark_container_fakes::aws::{Role, User};
use ark_container_fakes::registry_client::{OURS, RegistryClient, THEIRS, path, sample};
use aws_config::retry::RetryConfig;
use futures_util::TryStreamExt;
use reqwest::StatusCode;
use serde_json::json;

use super::cloud::{Cloud, allow, policy};

const OTHER_ACCOUNT: &str = "111122223333";

/// Returns the backend of the fake's account for a user, with the retries of the SDK.
fn backend(
    cloud: &Cloud,
    user: &User,
    more: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
) -> EcrBackend {
    let config = cloud.config(user.access_key(), None).into_builder();
    let builder = EcrBackend::builder(cloud.aws.host().clone(), Stage::default())
        .with_sdk_config(config.retry_config(RetryConfig::standard()).build());
    more(builder).build()
}

#[tokio::test]
async fn other_account_reads_if_both_accounts_allow_it() {
    let reader = User::administrator("reader").with_account(OTHER_ACCOUNT);
    let cloud = Cloud::start_with(|aws| aws.with_user(reader.clone())).await;
    cloud.create_repositories().await;
    let admin = cloud.ecr(&cloud.admin);
    let (ours, theirs) = (path(OURS, "app"), path(THEIRS, "app"));
    cloud.log_in(&admin).await.push_image(&ours, "v1", &sample(10)).await;
    let open = policy(json!({
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{OTHER_ACCOUNT}:root") },
        "Action": ["ecr:Describe*", "ecr:ListTagsForResource", "ecr:BatchGetImage"],
    }));
    let set = admin.set_repository_policy().repository_name(ours.to_string());
    set.policy_text(open.to_string()).send().await.unwrap();
    cloud.aws.forget_calls();

    let backend = backend(&cloud, &reader, |backend| backend);
    assert_eq!(backend.describe_repository(&ours).await.unwrap().url.path(), &ours);
    let images: Vec<_> = backend.list_images(&ours).try_collect().await.unwrap();
    assert_eq!(images.len(), 1);
    let scope = Scope::repository(ours.clone(), Access::Pull);
    let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
    let registry = cloud.aws.registry_host().as_str().parse().unwrap();
    let client = RegistryClient::new(registry, credentials.password.expose());
    client.get(&format!("/v2/{ours}/manifests/v1")).await.expect(StatusCode::OK);
    let denied = client.get(&format!("/v2/{theirs}/manifests/v1")).await;
    denied.expect_error(StatusCode::FORBIDDEN, "DENIED");

    let error = backend.describe_repository(&theirs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = error.to_string();
    for part in ["no resource-based policy allows", "in the account 095412845506", OTHER_ACCOUNT] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(cloud.aws.count("sts:GetCallerIdentity"), 0);
}

#[tokio::test]
async fn role_is_assumed_with_external_id_and_source_identity() {
    let mut trust = json!({
        "Effect": "Allow",
        "Principal": { "AWS": "arn:aws:iam::095412845506:root" },
        "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
    });
    trust["Condition"] =
        json!({ "StringEquals": { "sts:ExternalId": "catalog", "sts:SourceIdentity": "alice" } });
    let role = Role::new("central")
        .with_trust_policy(policy(trust))
        .with_policy(policy(json!([allow(json!("ecr:*"), "*")])));
    let cloud = Cloud::start_with(|aws| aws.with_role(role)).await;
    let login = async |more: fn(EcrBackendBuilder) -> EcrBackendBuilder| {
        let backend = backend(&cloud, &cloud.admin, |backend| {
            more(backend.with_role_arn("arn:aws:iam::095412845506:role/central"))
        });
        let scope = Scope::repository(path(OURS, "app"), Access::Pull);
        let login = backend.credentials(&scope, &Default::default()).await;
        login.map(drop).map_err(|error| error.kind())
    };
    let denied = Err(ErrorKind::PermissionDenied);
    assert_eq!(login(|backend| backend).await, denied);
    assert_eq!(login(|backend| backend.with_external_id("catalog")).await, denied);
    let both = |backend: EcrBackendBuilder| {
        backend.with_external_id("catalog").with_source_identity("alice")
    };
    assert_eq!(login(both).await, Ok(()));
}
