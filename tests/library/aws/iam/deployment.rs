//! An account with the roles of a deployment, and people with tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ark_container_core::backend::ecr::{
    EcrBackend, EcrBackendBuilder, IamDeployment, IamPolicies, RolePolicies,
};
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{OrganizationId, Stage};
use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_fakes::aws::{FakeAwsBuilder, IdentityProvider, Role, User};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::{ImageIdentifier, Tag};

use crate::aws::cloud::{Cloud, arn};

pub(super) const ISSUER: &str = "https://auth.example.com";
pub(super) const AUDIENCE: &str = "ark";
pub(super) const ACCESS: &str = "arn:aws:iam::095412845506:role/access";
pub(super) const ADMINISTRATOR: &str = "arn:aws:iam::095412845506:role/administrator";

pub(super) const A: OrganizationId = OrganizationId::TBD;
pub(super) const B: OrganizationId = OrganizationId::from_u128(0xb);
pub(super) const GLOBAL: OrganizationId = OrganizationId::GLOBAL;

/// A repository of before there were organizations.
pub(super) const LEGACY: &str = "djt-mapping-pipeline-ecr";

/// A lifecycle policy that AWS takes.
pub(super) const LIFECYCLE: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":
    "imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;

pub(super) fn iam() -> IamDeployment {
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse().unwrap();
    IamDeployment::new(host, Stage::default(), ISSUER, AUDIENCE).unwrap()
}

/// A token with what AWS is told of its holder.
pub(super) fn token(
    name: &str,
    of: &[OrganizationId],
    administers: &[OrganizationId],
) -> TestToken {
    TestToken::new(&name.parse().unwrap())
        .with_organizations(of.iter().copied())
        .with_administers(administers.iter().copied())
        .with_session_tags()
}

pub(super) struct Deployment {
    pub(super) cloud: Cloud,
    pub(super) issuer: TokenIssuer,
    folder: tempfile::TempDir,
}

impl Deployment {
    /// The roles with the policies of the library.
    pub(super) async fn start() -> Self {
        Self::start_with(&iam().policies(), |aws| aws).await
    }

    pub(super) async fn start_with(
        policies: &IamPolicies,
        more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder,
    ) -> Self {
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
        let keys = issuer.key_set_json();
        let provider = IdentityProvider::new(ISSUER, keys).with_audience(AUDIENCE);
        let role = |name: &str, RolePolicies { trust, permissions, .. }: &RolePolicies| {
            Role::new(name).with_trust_policy(trust).with_policy(permissions)
        };
        let access = role("access", &policies.access_role);
        let administrator = role("administrator", &policies.administrator_role);
        let cloud = Cloud::start_with(|aws| {
            more(aws.with_identity_provider(provider).with_role(access).with_role(administrator))
        });
        Self { cloud: cloud.await, issuer, folder: tempfile::tempdir().unwrap() }
    }

    /// A repository `app` of A, of B and of the global organization, and others in the account.
    pub(super) async fn furnish(&self) {
        let ecr = self.cloud.ecr(&self.cloud.admin);
        for organization in [A, B, GLOBAL] {
            let create = ecr.create_repository().repository_name(app(organization));
            create.tags(tag("ark:organization", organization)).send().await.unwrap();
        }
        for name in [LEGACY.to_owned(), format!("dev/{A}/app"), format!("prod/{A}x/app")] {
            ecr.create_repository().repository_name(name).send().await.unwrap();
        }
    }

    /// The backend of whoever holds a token.
    pub(super) fn backend(
        &self,
        token: &TestToken,
        more: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
    ) -> EcrBackend {
        let path = self.folder.path().join("jwt.json");
        fs::write(&path, self.issuer.token(token).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let host = self.cloud.aws.host().clone();
        let builder = EcrBackend::builder(host, Stage::default())
            .with_endpoint_url(self.cloud.aws.endpoint_url())
            .with_web_identity(TokenFile::new(path))
            .with_role_arn(ACCESS)
            .with_administrator_role_arn(ADMINISTRATOR);
        more(builder).build()
    }

    /// ECR under a role, for whoever holds a token; else the code of AWS's refusal.
    pub(super) async fn ecr(
        &self,
        role: &str,
        token: &TestToken,
    ) -> Result<aws_sdk_ecr::Client, String> {
        let sts = self.cloud.sts(&User::new("nobody"));
        let request = sts.assume_role_with_web_identity().role_arn(role).role_session_name("test");
        let token = self.issuer.token(token).unwrap();
        match request.web_identity_token(token).send().await {
            Ok(session) => Ok(self.cloud.ecr_of(&session.credentials.unwrap())),
            Err(error) => Err(error.code().unwrap().to_owned()),
        }
    }
}

pub(super) fn app(organization: OrganizationId) -> String {
    format!("prod/{organization}/app")
}

pub(super) fn tag(key: &str, value: impl ToString) -> Tag {
    Tag::builder().key(key).value(value.to_string()).build().unwrap()
}

/// What a session may do with a repository that exists, of: read, settle (set its lifecycle), delete an
/// image, delete. It is tried: what may be deleted is gone.
pub(super) async fn may(ecr: &aws_sdk_ecr::Client, name: &str) -> Vec<&'static str> {
    let image = ImageIdentifier::builder().image_tag("none").build();
    let read = ecr.describe_images().repository_name(name).send().await;
    let tags = ecr.list_tags_for_resource().resource_arn(arn(name)).send().await;
    let settle = ecr.put_lifecycle_policy().repository_name(name).lifecycle_policy_text(LIFECYCLE);
    let settle = settle.send().await;
    let delete_image = ecr.batch_delete_image().repository_name(name).image_ids(image).send().await;
    let delete = ecr.delete_repository().repository_name(name).send().await;
    let tried = [
        ("read", allowed(&read)),
        ("read tags", allowed(&tags)),
        ("settle", allowed(&settle)),
        ("delete an image", allowed(&delete_image)),
        ("delete", allowed(&delete)),
    ];
    tried.into_iter().filter_map(|(what, allowed)| allowed.then_some(what)).collect()
}

/// Whether AWS did it; a refusal for anything but a lack of rights is a fault of the test.
#[track_caller]
pub(super) fn allowed<T, E>(result: &Result<T, E>) -> bool
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    match result {
        Ok(_) => true,
        Err(error) if error.code() == Some("AccessDeniedException") => false,
        Err(error) => panic!("{error:?}"),
    }
}
