//! [`Deployment`]: an AWS account with the roles of the documentation, and backends behind its isolation layers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::ecr::{
    EcrBackend, EcrBackendBuilder, IamDeployment, IamPolicies, RolePolicies,
};
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{Reference, RepositoryPath, Stage};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::conformance::{HttpImages, PutImage as _};
use ark_container_core::testing::{SampleImage, TestToken, TokenIssuer};
use ark_container_fakes::aws::{FakeAwsBuilder, IdentityProvider, Role, User};
use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use tempfile::TempDir;

use super::matrix::{Layers, Person};
use crate::aws::cloud::Cloud;

pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const AUDIENCE: &str = "ark";

pub(crate) const ACCESS: &str = "arn:aws:iam::095412845506:role/ark-access";
pub(crate) const ADMINISTRATOR: &str = "arn:aws:iam::095412845506:role/ark-administrator";

/// Returns the deployment that the policies are written for.
pub(crate) fn iam() -> IamDeployment {
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse().unwrap();
    IamDeployment::new(host, Stage::default(), ISSUER, AUDIENCE).unwrap()
}

/// A deployment as the documentation describes it: roles with the policies that the library writes, an identity
/// provider, and an administrator of the account.
pub(crate) struct Deployment {
    pub(crate) cloud: Cloud,
    pub(crate) issuer: TokenIssuer,
    tokens: TempDir,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        Self::start_with(|aws| aws).await
    }

    /// Starts a deployment with more resources in the account.
    pub(crate) async fn start_with(more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder) -> Self {
        Self::start_with_policies(&iam().policies(), more).await
    }

    /// Starts a deployment whose roles have these policies.
    pub(crate) async fn start_with_policies(
        policies: &IamPolicies,
        more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder,
    ) -> Self {
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
        let provider = IdentityProvider::new(ISSUER, issuer.key_set_json()).with_audience(AUDIENCE);
        let access = role("ark-access", &policies.access_role);
        let administrator = role("ark-administrator", &policies.administrator_role);
        let cloud = Cloud::start_with(|aws| {
            more(aws.with_identity_provider(provider).with_role(access).with_role(administrator))
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

    /// Returns ECR clients in the sessions that a person's token gets. Behind the policy alone, there are no sessions.
    pub(crate) async fn sessions(
        &self,
        layers: Layers,
        person: &Person,
    ) -> Vec<aws_sdk_ecr::Client> {
        let mut sessions = Vec::new();
        if layers != Layers::Policy {
            for role in [ACCESS, ADMINISTRATOR] {
                sessions.extend(self.ecr(role, &person.token()).await);
            }
        }
        sessions
    }

    /// Returns a backend with the permissions of the account's administrator.
    pub(crate) fn administrator(&self) -> EcrBackend {
        let config = self.cloud.config(self.cloud.admin.access_key(), None);
        EcrBackend::builder(self.cloud.aws.host().clone(), Stage::default())
            .with_sdk_config(config)
            .build()
    }

    /// Returns the backend of the bearer of a token.
    pub(crate) fn bearer(&self, token: &TestToken) -> EcrBackend {
        self.bearer_with(&self.sign(token), |builder| builder)
    }

    /// Returns the backend of the bearer of an encoded token.
    pub(crate) fn bearer_of(&self, token: &str) -> EcrBackend {
        self.bearer_with(&self.token_file(token), |builder| builder)
    }

    /// Returns the backend of the bearer of a token file, with further options.
    pub(crate) fn bearer_with(
        &self,
        token_file: &Path,
        more: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder,
    ) -> EcrBackend {
        let builder = EcrBackend::builder(self.cloud.aws.host().clone(), Stage::default())
            .with_endpoint_url(self.cloud.aws.endpoint_url())
            .with_web_identity(TokenFile::new(token_file))
            .with_role_arn(ACCESS)
            .with_administrator_role_arn(ADMINISTRATOR);
        more(builder).build()
    }

    /// Returns a client of ECR in a session of the bearer of a token, or the code of the refusal by AWS.
    pub(crate) async fn ecr(
        &self,
        role_arn: &str,
        token: &TestToken,
    ) -> Result<aws_sdk_ecr::Client, String> {
        let sts = self.cloud.sts(&User::new("nobody"));
        let request = sts.assume_role_with_web_identity().role_arn(role_arn);
        let request = request.role_session_name("test");
        let token = self.issuer.token(token).unwrap();
        match request.web_identity_token(token).send().await {
            Ok(session) => Ok(self.cloud.ecr_of(&session.credentials.unwrap())),
            Err(error) => Err(error.code().unwrap().to_owned()),
        }
    }

    /// Signs a token and writes it to a new file.
    pub(crate) fn sign(&self, token: &TestToken) -> PathBuf {
        self.token_file(&self.issuer.token(token).unwrap())
    }

    /// Writes a token to a new file.
    pub(crate) fn token_file(&self, token: &str) -> PathBuf {
        let file = tempfile::NamedTempFile::new_in(self.tokens.path()).unwrap();
        fs::write(file.path(), token).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        file.keep().unwrap().1
    }

    /// Creates repositories, each with an image tagged `v1` and `v2`.
    pub(crate) async fn create_with_images(&self, paths: impl IntoIterator<Item = RepositoryPath>) {
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

fn role(name: &str, policies: &RolePolicies) -> Role {
    Role::new(name)
        .with_trust_policy(&policies.trust)
        .with_policy(&policies.permissions)
        .with_max_session(Duration::from_secs(12 * 60 * 60))
}
