//! Creation of repositories: only in the organizations of the principal, and only with the organization tag.

use std::sync::atomic::{AtomicUsize, Ordering};

use ark_container_core::backend::CreateOptions;
use ark_container_core::model::{OrganizationId, RepositoryPath};
use ark_container_core::{ErrorKind, RegistryBackend as _};
use ark_container_fakes::aws::{CreationTemplate, Role};
use reqwest::StatusCode;
use serde_json::Value;

use super::{
    A, ACCESS, ADMINISTRATOR, B, Deployment, GLOBAL, LIFECYCLE, allowed, app, create_repositories,
    iam, tag, token,
};
use crate::aws::cloud::{arn, code};

const KEY: &str = "ark:organization";

async fn creates(
    ecr: &aws_sdk_ecr::Client,
    organization: OrganizationId,
    tags: &[(&str, OrganizationId)],
) -> bool {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("prod/{organization}/app{number}");
    let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
    allowed(&ecr.create_repository().repository_name(&name).set_tags(Some(tags)).send().await)
}

#[tokio::test]
async fn created_repository_is_tagged_with_its_organization() {
    let deployment = Deployment::start().await;
    let carol = deployment.ecr(ACCESS, &token("user:carol", &[A, B], &[])).await.unwrap();
    for (organization, tags, expected) in [
        (A, &[][..], false),
        (A, &[(KEY, B)], false),
        (B, &[(KEY, A)], false),
        (A, &[(KEY, GLOBAL)], false),
        // In conditions on the value of a tag, its key is case-insensitive.
        (A, &[("ARK:Organization", A)], false),
        (A, &[("team", A)], false),
        (GLOBAL, &[(KEY, GLOBAL)], false),
        (OrganizationId::from_u128(3), &[(KEY, OrganizationId::from_u128(3))], false),
        (A, &[(KEY, A), ("team", B)], true),
        (B, &[(KEY, B)], true),
    ] {
        assert_eq!(creates(&carol, organization, tags).await, expected, "{organization} {tags:?}");
    }
}

#[tokio::test]
async fn creation_is_for_members_and_global_administrators() {
    let deployment = Deployment::start().await;
    for (role, name, of, administers, created_in) in [
        (ACCESS, "robot:build", &[A][..], &[A][..], &[][..]),
        (ACCESS, "ingest-job:7", &[A], &[A], &[]),
        (ACCESS, "user:alice", &[A], &[B, GLOBAL], &[A]),
        (ACCESS, "user:dave", &[GLOBAL], &[], &[]),
        (ADMINISTRATOR, "user:dora", &[A], &[GLOBAL], &[GLOBAL]),
        (ADMINISTRATOR, "robot:keeper", &[A], &[B], &[B]),
    ] {
        let ecr = deployment.ecr(role, &token(name, of, administers)).await.unwrap();
        for organization in [A, B, GLOBAL] {
            let created = creates(&ecr, organization, &[(KEY, organization)]).await;
            assert_eq!(created, created_in.contains(&organization), "{name} {organization}");
        }
    }
}

#[tokio::test]
async fn organization_tag_cannot_change_afterwards() {
    let deployment = Deployment::start().await;
    create_repositories(&deployment).await;
    let carol = deployment.ecr(ACCESS, &token("user:carol", &[A, B], &[])).await.unwrap();
    let retag = |organization, tags: &[(&str, OrganizationId)]| {
        let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
        carol.tag_resource().resource_arn(arn(&app(organization))).set_tags(Some(tags)).send()
    };
    for tags in [&[(KEY, B)][..], &[("team", A)], &[("ARK:ORGANIZATION", A)]] {
        assert!(!allowed(&retag(A, tags).await), "{tags:?}");
    }
    assert!(!allowed(&retag(GLOBAL, &[(KEY, A)]).await));
    assert!(allowed(&retag(A, &[(KEY, A), ("team", B)]).await));
}

/// AWS authorizes these actions within a call of another action, so the recorded calls do not show them.
#[tokio::test]
async fn tags_need_actions_of_their_own() {
    let whole = iam().policies();
    let without = |document: &dyn ToString, action: &str| -> String {
        let mut document: Value = serde_json::from_str(&document.to_string()).unwrap();
        for statement in document["Statement"].as_array_mut().unwrap() {
            statement["Action"].as_array_mut().unwrap().retain(|listed| listed != action);
        }
        document.to_string()
    };
    let role = |name: &str, trust: String, permissions: String| {
        Role::new(name).with_trust_policy(trust).with_policy(permissions)
    };
    let access = &whole.access_role;
    let untagged =
        role("untagged", access.trust.to_string(), without(&access.permissions, "ecr:TagResource"));
    let closed =
        role("closed", without(&access.trust, "sts:TagSession"), access.permissions.to_string());
    let deployment =
        Deployment::start_with_policies(&whole, |aws| aws.with_role(untagged).with_role(closed))
            .await;
    let alice = token("user:alice", &[A], &[]);
    let arn = |name: &str| ACCESS.replace("ark-access", name);
    let untagged = deployment.ecr(&arn("untagged"), &alice).await.unwrap();
    assert!(!creates(&untagged, A, &[(KEY, A)]).await);
    assert_eq!(deployment.ecr(&arn("closed"), &alice).await.err().unwrap(), "AccessDenied");
}

#[tokio::test]
async fn lifecycle_policy_of_a_user_is_refused_before_creation() {
    let deployment = Deployment::start().await;
    let alice = deployment.bearer(&token("user:alice", &[A], &[]));
    let path: RepositoryPath = app(A).parse().unwrap();
    let options = CreateOptions::default().with_lifecycle_policy(LIFECYCLE);
    let error = alice.create_repository(&path, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("may not set a lifecycle policy on prod/"), "{error}");
    assert!(error.to_string().ends_with("nothing was changed"), "{error}");
    let missing = alice.describe_repository(&path).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    alice.create_repository(&path, &CreateOptions::default()).await.unwrap();
    let dora = deployment.bearer(&token("user:dora", &[A], &[A]));
    dora.create_repository(&path, &options).await.unwrap();
    let account = deployment.cloud.ecr(&deployment.cloud.admin);
    let set = account.get_lifecycle_policy().repository_name(path.to_string()).send().await;
    assert_eq!(set.unwrap().lifecycle_policy_text(), Some(LIFECYCLE));
}

#[tokio::test]
async fn repository_policy_is_set_by_an_administrator_later() {
    let policies = iam().with_repository_policy().policies();
    let deployment = Deployment::start_with_policies(&policies, |aws| aws).await;
    let text = policies.repository_policy.as_ref().unwrap().to_string();
    let path: RepositoryPath = app(A).parse().unwrap();
    let account = deployment.cloud.ecr(&deployment.cloud.admin);
    let policy = || account.get_repository_policy().repository_name(path.to_string()).send();
    let of = |name: &str, administers: &[OrganizationId]| {
        let file = deployment.sign(&token(name, &[A], administers));
        deployment.bearer_with(&file, |backend| backend.with_repository_policy(&text))
    };
    // An administrator of another organization is not an administrator of this one.
    for user in [of("user:alice", &[]), of("user:bob", &[B])] {
        user.create_repository(&path, &CreateOptions::default()).await.unwrap();
        assert_eq!(code(policy().await), "RepositoryPolicyNotFoundException");
    }
    let dora = of("user:dora", &[A]);
    dora.create_repository(&path, &CreateOptions::default()).await.unwrap();
    assert_eq!(policy().await.unwrap().policy_text(), Some(text.as_str()));
}

/// The deployment configures the template. Users report that AWS then creates a repository for any client with a
/// password, even if the push is denied.
#[tokio::test]
async fn push_creates_repository_from_the_template() {
    let template = CreationTemplate::new(format!("prod/{A}"))
        .with_tag("ark:organization", A.to_string())
        .with_lifecycle_policy(LIFECYCLE);
    let deployment = Deployment::start_with(|aws| aws.with_creation_template(template)).await;
    let account = deployment.cloud.ecr(&deployment.cloud.admin);
    for (name, of, organization, status, is_created) in [
        ("user:alice", A, A, StatusCode::ACCEPTED, true),
        ("robot:build", A, A, StatusCode::FORBIDDEN, true),
        ("user:bob", B, A, StatusCode::FORBIDDEN, true),
        ("user:bob", B, B, StatusCode::NOT_FOUND, false),
    ] {
        let ecr = deployment.ecr(ACCESS, &token(name, &[of], &[])).await.unwrap();
        let registry = deployment.cloud.log_in(&ecr).await;
        let path = format!("prod/{organization}/{}", name.replace(':', "-"));
        let started = registry.post(&format!("/v2/{path}/blobs/uploads/")).await;
        assert_eq!(started.status, status, "{name} {path}");
        let policy = account.get_lifecycle_policy().repository_name(&path).send().await;
        let tags = account.list_tags_for_resource().resource_arn(arn(&path)).send().await;
        if is_created {
            assert_eq!(policy.unwrap().lifecycle_policy_text(), Some(LIFECYCLE));
            assert_eq!(tags.unwrap().tags(), [tag("ark:organization", A)]);
        } else {
            assert_eq!(code(policy), "RepositoryNotFoundException");
        }
    }
}
