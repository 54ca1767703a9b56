//! [`Deployment`]: an AWS account with the roles of the documentation, and backends behind its isolation layers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::ecr::{
    EcrBackend, EcrBackendBuilder, IamDeployment, RolePolicies,
};
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{OrganizationId, Reference, RepositoryPath, Stage};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::conformance::{HttpImages, PutImage as _};
use ark_container_core::testing::{SampleImage, TestToken, TokenIssuer};
use ark_container_fakes::aws::{FakeAwsBuilder, IdentityProvider, Role};
use tempfile::TempDir;

use super::matrix::{Layers, Person};
use crate::aws::cloud::Cloud;

pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const AUDIENCE: &str = "ark";

const ACCESS: &str = "ark-access";
const ADMINISTRATOR: &str = "ark-administrator";

/// A deployment as the documentation describes it: the roles with the policies that the library
/// writes, an identity provider, and an administrator of the account.
pub(crate) struct Deployment {
    pub(crate) cloud: Cloud,
    pub(crate) issuer: TokenIssuer,
    tokens: TempDir,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        Self::start_with(|aws| aws).await
    }

    /// The same, with more in the account.
    pub(crate) async fn start_with(more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder) -> Self {
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
        let provider = IdentityProvider::new(ISSUER, issuer.key_set_json()).with_audience(AUDIENCE);
        let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse().unwrap();
        let iam = IamDeployment::new(host, Stage::default(), ISSUER, AUDIENCE).unwrap().policies();
        let roles = [(ACCESS, &iam.access_role), (ADMINISTRATOR, &iam.administrator_role)];
        let roles = roles.map(|(name, policies)| role(name, policies));
        let cloud = Cloud::start_with(|aws| {
            let aws = roles.into_iter().fold(aws, |aws, role| aws.with_role(role));
            more(aws.with_identity_provider(provider))
        });
        Self { cloud: cloud.await, issuer, tokens: tempfile::tempdir().unwrap() }
    }

    /// Returns the backend of a person behind these isolation layers.
    pub(crate) fn backend(&self, layers: Layers, person: &Person) -> Arc<dyn RegistryBackend> {
        let guarded = |inner: EcrBackend| {
            Arc::new(Permissioned::new(inner, StandardPolicy, person.principal()))
        };
        match layers {
            Layers::Policy => guarded(self.administrator()),
            Layers::Aws => Arc::new(self.bearer(&person.token())),
            Layers::Both => guarded(self.bearer(&person.token())),
        }
    }

    /// Everything, as the administrator of the account.
    pub(crate) fn administrator(&self) -> EcrBackend {
        let config = self.cloud.config(self.cloud.admin.access_key(), None);
        EcrBackend::builder(self.cloud.aws.host().clone(), Stage::default())
            .with_sdk_config(config)
            .build()
    }

    /// What AWS allows to the bearer of a token.
    pub(crate) fn bearer(&self, token: &TestToken) -> EcrBackend {
        self.bearer_of(&self.issuer.token(token).unwrap())
    }

    /// The same for the text of a token.
    pub(crate) fn bearer_of(&self, token: &str) -> EcrBackend {
        self.bearer_with(&self.token_file(token), |builder| builder)
    }

    /// The same for a file, and what else the backend is told.
    pub(crate) fn bearer_with(
        &self,
        token_file: &Path,
        more: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
    ) -> EcrBackend {
        let arn = |role| format!("arn:aws:iam::{}:role/{role}", self.cloud.aws.host().account());
        let builder = EcrBackend::builder(self.cloud.aws.host().clone(), Stage::default())
            .with_endpoint_url(self.cloud.aws.endpoint_url())
            .with_web_identity(TokenFile::new(token_file))
            .with_role_arn(arn(ACCESS))
            .with_administrator_role_arn(arn(ADMINISTRATOR));
        more(builder).build()
    }

    /// Writes a token to a file of its own.
    pub(crate) fn token_file(&self, token: &str) -> PathBuf {
        let file = tempfile::NamedTempFile::new_in(self.tokens.path()).unwrap();
        fs::write(file.path(), token).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        file.keep().unwrap().1
    }

    /// Creates repositories with an image each, under the tags `v1` and `v2`.
    pub(crate) async fn furnish(&self, paths: impl IntoIterator<Item = RepositoryPath>) {
        let backend = Arc::new(self.administrator());
        let registry = self.cloud.aws.registry_host().clone();
        let images = HttpImages::new(backend.clone()).with_endpoint(registry);
        let image = SampleImage::new("v1");
        for path in paths {
            backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
            for (tag, image) in [("v1", &image), ("v2", &SampleImage::new("v2"))] {
                images.put(&path, &Reference::Tag(tag.parse().unwrap()), image).await.unwrap();
            }
        }
    }
}

/// The path of a repository.
pub(crate) fn path(organization: OrganizationId, name: &str) -> RepositoryPath {
    RepositoryPath::new(Stage::default(), organization, name.parse().unwrap()).unwrap()
}

fn role(name: &str, policies: &RolePolicies) -> Role {
    Role::new(name)
        .with_trust_policy(&policies.trust)
        .with_policy(&policies.permissions)
        .with_max_session(Duration::from_secs(12 * 60 * 60))
}
