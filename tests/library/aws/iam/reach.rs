//! The sessions that tokens get, and the repositories that AWS alone lets them access.

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::model::{Access, OrganizationId, RepositoryPath, Scope};
use ark_container_core::testing::{SampleImage, TestToken};
use ark_container_fakes::aws::Role;
use reqwest::StatusCode;
use serde_json::json;

use super::{
    A, ACCESS, ADMINISTRATOR, B, Deployment, GLOBAL, LEGACY, app, create_repositories, iam, may,
    token,
};
use crate::aws::cloud::{allow, policy};
use crate::registry::server::RegistryClient;

const READS: [&str; 2] = ["read", "read tags"];
const PUSHES: [&str; 3] = ["read", "read tags", "push"];
const EVERYTHING: [&str; 7] =
    ["read", "read tags", "push", "untag", "settle", "delete an image", "delete"];
const NOTHING: [&str; 0] = [];

/// Returns repositories without an organization: of another stage, with a suffixed GUID, and from before
/// organizations.
fn unowned_repositories() -> [String; 3] {
    [LEGACY.to_owned(), format!("dev/{A}/app"), format!("prod/{A}x/app")]
}

#[tokio::test]
async fn members_push_to_their_own_and_read_global() {
    let deployment = Deployment::start().await;
    create_repositories(&deployment).await;
    for (name, of, in_a, in_b) in [
        ("user:alice", &[A][..], &PUSHES[..], &NOTHING[..]),
        ("user:bob", &[B], &NOTHING, &PUSHES),
        ("user:carol", &[A, B], &PUSHES, &PUSHES),
        ("user:nobody", &[], &NOTHING, &NOTHING),
        ("robot:build", &[A], &READS, &NOTHING),
        ("ingest-job:7", &[B], &NOTHING, &READS),
        // The identity provider cannot grant membership of the global organization either.
        ("user:dave", &[GLOBAL], &NOTHING, &NOTHING),
    ] {
        // This role has no administrators.
        let ecr = deployment.ecr(ACCESS, &token(name, of, &[A, B, GLOBAL])).await.unwrap();
        assert_eq!(may(&deployment, &ecr, &app(A)).await, in_a, "{name}");
        assert_eq!(may(&deployment, &ecr, &app(B)).await, in_b, "{name}");
        assert_eq!(may(&deployment, &ecr, &app(GLOBAL)).await, READS, "{name}");
        for stray in unowned_repositories() {
            assert_eq!(may(&deployment, &ecr, &stray).await, NOTHING, "{name} {stray}");
        }
    }
}

#[tokio::test]
async fn administrators_delete_in_their_organizations() {
    let everything = ["push", "settle", "delete an image", "delete"];
    for (administers, deleted) in
        [(&[A][..], &[A][..]), (&[B, GLOBAL], &[B, GLOBAL]), (&[GLOBAL], &[GLOBAL])]
    {
        let deployment = Deployment::start().await;
        create_repositories(&deployment).await;
        let dora = token("user:dora", &[A, B], administers);
        let ecr = deployment.ecr(ADMINISTRATOR, &dora).await.unwrap();
        for organization in [A, B, GLOBAL] {
            let expected = if deleted.contains(&organization) { &everything[..] } else { &NOTHING };
            assert_eq!(
                may(&deployment, &ecr, &app(organization)).await,
                expected,
                "{administers:?}"
            );
        }
        for stray in unowned_repositories() {
            assert_eq!(may(&deployment, &ecr, &stray).await, NOTHING, "{administers:?} {stray}");
        }
    }
}

#[tokio::test]
async fn session_reaches_ten_organizations_at_most() {
    let deployment = Deployment::start().await;
    let organizations: Vec<OrganizationId> = (1..=11).map(OrganizationId::from_u128).collect();
    let ecr = deployment.cloud.ecr(&deployment.cloud.admin);
    for organization in &organizations {
        ecr.create_repository().repository_name(app(*organization)).send().await.unwrap();
    }
    let alice = token("user:alice", &organizations, &organizations);
    for (role, may_what) in
        [(ACCESS, &PUSHES[..]), (ADMINISTRATOR, &["push", "settle", "delete an image", "delete"])]
    {
        let ecr = deployment.ecr(role, &alice).await.unwrap();
        for organization in &organizations[..9] {
            assert_eq!(
                may(&deployment, &ecr, &app(*organization)).await,
                may_what,
                "{organization}"
            );
        }
        assert_eq!(may(&deployment, &ecr, &app(organizations[10])).await, NOTHING);
    }
    // The tags leave room for the session policy of a login.
    let backend = deployment.bearer(&alice);
    let scope = Scope::repository(app(organizations[9]).parse().unwrap(), Access::Delete);
    backend.credentials(&scope, &Default::default()).await.unwrap();
}

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

#[tokio::test]
async fn repository_policy_overrides_a_wide_role() {
    let policies = iam().with_repository_policy().policies();
    let wide = Role::new("wide")
        .with_trust_policy(&policies.access_role.trust)
        .with_policy(policy(json!([allow(json!("ecr:*"), "*")])));
    let deployment = Deployment::start_with_policies(&policies, |aws| aws.with_role(wide)).await;
    let keeper = token("user:keeper", &[A, B], &[A, B, GLOBAL]);
    let text = policies.repository_policy.as_ref().unwrap();
    let keeper = deployment.bearer_with(&deployment.sign(&keeper), |backend| {
        backend.with_repository_policy(text.to_string())
    });
    for organization in [A, B, GLOBAL] {
        let path = app(organization).parse().unwrap();
        keeper.create_repository(&path, &CreateOptions::default()).await.unwrap();
        keeper.create_repository(&path, &CreateOptions::default()).await.unwrap();
    }
    let wide = ACCESS.replace("ark-access", "wide");
    for of in [&[A][..], &[A, GLOBAL], &[]] {
        let ecr = deployment.ecr(&wide, &token("user:alice", of, &[])).await.unwrap();
        assert_eq!(may(&deployment, &ecr, &app(B)).await, NOTHING, "{of:?}");
        assert_eq!(may(&deployment, &ecr, &app(GLOBAL)).await, READS, "{of:?}");
    }
    let dora = deployment.ecr(&wide, &token("user:dora", &[B], &[GLOBAL])).await.unwrap();
    assert_eq!(may(&deployment, &dora, &app(B)).await, EVERYTHING);
    assert_eq!(may(&deployment, &dora, &app(GLOBAL)).await, EVERYTHING);
    // The policy does not apply to users of the account, who have no organization.
    let account = deployment.cloud.ecr(&deployment.cloud.admin);
    assert_eq!(may(&deployment, &account, &app(A)).await, EVERYTHING);
}

#[tokio::test]
async fn password_for_pulling_lists_tags_and_referrers() {
    let deployment = Deployment::start().await;
    let path = app(A).parse().unwrap();
    deployment.create_with_images([RepositoryPath::clone(&path)]).await;
    let backend = deployment.bearer(&token("robot:build", &[A], &[]));
    let scope = Scope::repository(path, Access::Pull);
    let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
    let registry = deployment.cloud.aws.registry_host().as_str().parse().unwrap();
    let client = RegistryClient::new(registry, credentials.password.expose());
    let v1 = SampleImage::new("v1").digest();
    for end in ["tags/list".to_owned(), format!("referrers/{v1}")] {
        client.get(&format!("/v2/{}/{end}", app(A))).await.expect(StatusCode::OK);
    }
}
