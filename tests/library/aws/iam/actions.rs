//! Checks that the policies allow exactly the actions that the backend and a client of the registry call.

use std::collections::BTreeSet;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::ecr::{EcrBackend, PolicyDocument};
use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::identity::Principal;
use ark_container_core::model::{
    Access, OrganizationId, Organizations, Reference, RepositoryPath, Scope,
};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::{self, Conformance, HttpImages, PutImage};
use ark_container_fakes::aws::Call;
use futures_util::TryStreamExt;
use reqwest::StatusCode;
use serde_json::Value;

use super::{A, ADMINISTRATOR, B, Deployment, GLOBAL, LIFECYCLE, iam, token};
use crate::registry::server::RegistryClient;

/// The third organization has no repositories.
const ORGANIZATIONS: [OrganizationId; 3] = [A, B, OrganizationId::from_u128(0xc)];

/// Actions that AWS authorizes within a call of another action. Another test shows that both are needed.
const WITHIN: [(&str, &str); 2] = [
    ("ecr:CreateRepository", "ecr:TagResource"),
    ("sts:AssumeRoleWithWebIdentity", "sts:TagSession"),
];

/// AWS allows this call to every identity.
///
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
const FREE: &str = "sts:GetCallerIdentity";

/// Returns the actions that a policy allows.
fn allows(policy: &PolicyDocument) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(&policy.to_string()).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let statements = statements.filter(|statement| statement["Effect"] == "Allow");
    let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

/// Calls every operation on one repository and its images.
async fn visit(deployment: &Deployment, backend: &EcrBackend, path: &RepositoryPath) {
    let options = CreateOptions::default().with_lifecycle_policy(LIFECYCLE);
    backend.create_repository(path, &options).await.unwrap();
    backend.create_repository(path, &options).await.unwrap();
    let registry = deployment.cloud.aws.registry_host().as_str().parse().unwrap();
    let image = SampleImage::new("layer");
    let tag = Reference::Tag("v1".parse().unwrap());
    let images = HttpImages::new(backend.clone()).with_endpoint(registry);
    images.put(path, &tag, &image).await.unwrap();
    let scope = Scope::repository(path.clone(), Access::Push);
    let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
    let client = RegistryClient::new(registry, credentials.password.expose());
    let (blob, _) = image.blobs().next().unwrap();
    client.head(&format!("/v2/{path}/blobs/{blob}")).await.expect(StatusCode::OK);
    client.get(&format!("/v2/{path}/blobs/{blob}")).await.expect(StatusCode::OK);
    client.get(&format!("/v2/{path}/manifests/v1")).await.expect(StatusCode::OK);
    client.get(&format!("/v2/{path}/tags/list")).await.expect(StatusCode::OK);
    backend.list_images(path).try_collect::<Vec<_>>().await.unwrap();
    backend.describe_repository(path).await.unwrap();
    backend.delete_image(path, &tag).await.unwrap();
    backend.delete_repository(path, &DeleteOptions::default().with_force(true)).await.unwrap();
}

/// Fails for a permission that the code needs and the policies lack, and for one that the policies have and the code
/// does not need.
async fn check(repository_policy: bool) {
    let iam = if repository_policy { iam().with_repository_policy() } else { iam() };
    let policies = iam.policies();
    let deployment = Deployment::start_with_policies(&policies, |aws| aws).await;
    let administers = [ORGANIZATIONS.as_slice(), &[GLOBAL]].concat();
    let dora = token("user:dora", &ORGANIZATIONS, &administers);
    let text = policies.repository_policy.as_ref().map(ToString::to_string);
    let backend = deployment.bearer_with(&deployment.sign(&dora), |builder| match text {
        Some(text) => builder.with_repository_policy(text),
        None => builder,
    });
    let registry = deployment.cloud.aws.registry_host().clone();
    let images = HttpImages::new(backend.clone()).with_endpoint(registry);
    // A listing of everything includes only the organizations of the role's principal.
    let principal = Principal::new(
        "user:dora".parse().unwrap(),
        Organizations::Only(ORGANIZATIONS.into()),
        Organizations::Only(administers.iter().copied().collect()),
    );
    let guarded = Permissioned::new(backend.clone(), StandardPolicy, principal);
    conformance::all(&Conformance::new(&guarded, ORGANIZATIONS).with_images(&images)).await;
    for organization in [A, GLOBAL] {
        visit(&deployment, &backend, &format!("prod/{organization}/app").parse().unwrap()).await;
    }

    let calls = deployment.cloud.aws.calls();
    let called = |is_caller: &dyn Fn(Option<&str>) -> bool| -> BTreeSet<String> {
        let calls = calls.iter().filter(|call| is_caller(call.principal.as_deref()));
        let actions: BTreeSet<&str> = calls.map(|call| call.action.as_str()).collect();
        let within = WITHIN.into_iter().filter(|(call, _)| actions.contains(call));
        let within: Vec<&str> = within.map(|(_, action)| action).collect();
        let actions = actions.into_iter().filter(|action| *action != FREE).chain(within);
        actions.map(str::to_owned).collect()
    };
    let under = |role: &str| {
        let session = format!("assumed-role/{role}/");
        called(&|caller| caller.is_some_and(|caller| caller.contains(&session)))
    };
    let by_token = called(&|caller| caller.is_none());
    assert_eq!(allows(&policies.access_role.permissions), under("ark-access"));
    assert_eq!(allows(&policies.administrator_role.permissions), under("ark-administrator"));
    assert_eq!(allows(&policies.access_role.trust), by_token);
    assert_eq!(allows(&policies.administrator_role.trust), by_token);
    assert!(calls.iter().any(|call| call.resources == [ADMINISTRATOR]));
    let denied = calls.iter().filter(|call| {
        call.error.as_ref().is_some_and(|code| code.contains("Denied") || code == "DENIED")
    });
    let denied: Vec<&Call> = denied.collect();
    let whole_account = "arn:aws:ecr:us-east-1:095412845506:repository/*";
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0].resources, [whole_account], "a listing requests the account once");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_allow_exactly_the_called_actions() {
    check(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_policy_needs_two_more_actions() {
    check(true).await;
}
