//! The policies that the library writes, evaluated by the fake of AWS with tokens of an identity provider.

mod actions;
mod creation;
mod reach;

use ark_container_core::model::OrganizationId;
use ark_container_core::testing::TestToken;
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::{ImageIdentifier, Tag};
use reqwest::StatusCode;

use crate::access::deployment::{ACCESS, ADMINISTRATOR, Deployment, iam};
use crate::aws::cloud::arn;

const A: OrganizationId = OrganizationId::TBD;
const B: OrganizationId = OrganizationId::from_u128(0xb);
const GLOBAL: OrganizationId = OrganizationId::GLOBAL;

/// A repository from before organizations existed.
const LEGACY: &str = "djt-mapping-pipeline-ecr";

/// A lifecycle policy that AWS accepts.
const LIFECYCLE: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":
    "imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;

/// Returns a token with session tags for AWS.
fn token(name: &str, of: &[OrganizationId], administers: &[OrganizationId]) -> TestToken {
    TestToken::new(&name.parse().unwrap())
        .with_organizations(of.iter().copied())
        .with_administers(administers.iter().copied())
        .with_session_tags()
}

/// Creates the repository `app` of A, of B and of the global organization, and others in the account.
async fn create_repositories(deployment: &Deployment) {
    let ecr = deployment.cloud.ecr(&deployment.cloud.admin);
    for organization in [A, B, GLOBAL] {
        let create = ecr.create_repository().repository_name(app(organization));
        create.tags(tag("ark:organization", organization)).send().await.unwrap();
    }
    for name in [LEGACY.to_owned(), format!("dev/{A}/app"), format!("prod/{A}x/app")] {
        ecr.create_repository().repository_name(name).send().await.unwrap();
    }
}

fn app(organization: OrganizationId) -> String {
    format!("prod/{organization}/app")
}

fn tag(key: &str, value: impl ToString) -> Tag {
    Tag::builder().key(key).value(value.to_string()).build().unwrap()
}

/// Returns the operations that a session may call on an existing repository: read, push, untag, settle (set its
/// lifecycle policy), delete an image, delete. Each operation is performed, so deletions take effect.
async fn may(deployment: &Deployment, ecr: &aws_sdk_ecr::Client, name: &str) -> Vec<&'static str> {
    let image = ImageIdentifier::builder().image_tag("none").build();
    let read = ecr.describe_images().repository_name(name).send().await;
    let tags = ecr.list_tags_for_resource().resource_arn(arn(name)).send().await;
    let registry = deployment.cloud.log_in(ecr).await;
    let push = registry.post(&format!("/v2/{name}/blobs/uploads/")).await;
    let untag = ecr.untag_resource().resource_arn(arn(name)).tag_keys("team").send().await;
    let settle = ecr.put_lifecycle_policy().repository_name(name).lifecycle_policy_text(LIFECYCLE);
    let settle = settle.send().await;
    let delete_image = ecr.batch_delete_image().repository_name(name).image_ids(image).send().await;
    let delete = ecr.delete_repository().repository_name(name).send().await;
    let tried = [
        ("read", allowed(&read)),
        ("read tags", allowed(&tags)),
        ("push", push.status == StatusCode::ACCEPTED),
        ("untag", allowed(&untag)),
        ("settle", allowed(&settle)),
        ("delete an image", allowed(&delete_image)),
        ("delete", allowed(&delete)),
    ];
    tried.into_iter().filter_map(|(what, allowed)| allowed.then_some(what)).collect()
}

/// Returns whether AWS allowed the call. Panics if it failed for another reason than missing permissions.
#[track_caller]
fn allowed<T, E>(result: &Result<T, E>) -> bool
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    match result {
        Ok(_) => true,
        Err(error) if error.code() == Some("AccessDeniedException") => false,
        Err(error) => panic!("{error:?}"),
    }
}
