//! The policy that a repository gets when it is created, under a role that allows too much.

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_fakes::aws::Role;
use serde_json::json;

use super::{A, ACCESS, B, Deployment, GLOBAL, app, iam, may, token};
use crate::aws::cloud::{allow, policy};

const NOTHING: [&str; 0] = [];
const READS: [&str; 2] = ["read", "read tags"];
const EVERYTHING: [&str; 5] = ["read", "read tags", "settle", "delete an image", "delete"];

#[tokio::test]
async fn repository_policy_overrides_a_wide_role() {
    let policies = iam().with_repository_policy().policies();
    let wide = Role::new("wide")
        .with_trust_policy(&policies.access_role.trust)
        .with_policy(policy(json!([allow(json!("ecr:*"), "*")])));
    let deployment = Deployment::start_with_policies(&policies, |aws| aws.with_role(wide)).await;
    let keeper = token("user:keeper", &[A, B], &[GLOBAL]);
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
        assert_eq!(may(&ecr, &app(B)).await, NOTHING, "{of:?}");
        assert_eq!(may(&ecr, &app(GLOBAL)).await, READS, "{of:?}");
    }
    let dora = deployment.ecr(&wide, &token("user:dora", &[B], &[GLOBAL])).await.unwrap();
    assert_eq!(may(&dora, &app(B)).await, EVERYTHING);
    assert_eq!(may(&dora, &app(GLOBAL)).await, EVERYTHING);
    // The account's own people have no organization, and are not spoken of.
    let account = deployment.cloud.ecr(&deployment.cloud.admin);
    assert_eq!(may(&account, &app(A)).await, EVERYTHING);
}
