//! A fake of AWS with an administrator, and the SDK's clients for it.

use ark_container_core::backend::local::LocalBackend;
use ark_container_fakes::aws::{AccessKey, FakeAws, FakeAwsBuilder, User};
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::registry::server::{Client, OURS, THEIRS};

/// A fake that runs until it is dropped.
pub(crate) struct Cloud {
    pub(crate) aws: FakeAws,
    pub(crate) admin: User,
    _folder: tempfile::TempDir,
}

impl Cloud {
    /// A fake with nobody but an administrator.
    pub(crate) async fn start() -> Self {
        Self::start_with(|aws| aws).await
    }

    /// A fake with an administrator and more.
    pub(crate) async fn start_with(more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalBackend::open(Some(folder.path())).unwrap();
        let admin = User::administrator("admin");
        let builder = more(FakeAws::builder(store).with_user(admin.clone()));
        Self { aws: builder.start().await.unwrap(), admin, _folder: folder }
    }

    /// The SDK's configuration of who holds a key; it tries once.
    pub(crate) fn config(&self, key: &AccessKey, session_token: Option<&str>) -> SdkConfig {
        let token = session_token.map(str::to_owned);
        let credentials = Credentials::new(&key.id, &key.secret, token, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.aws.host().region().to_owned()))
            .endpoint_url(self.aws.endpoint_url())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .build()
    }

    /// ECR as a user sees it.
    pub(crate) fn ecr(&self, user: &User) -> aws_sdk_ecr::Client {
        aws_sdk_ecr::Client::new(&self.config(user.access_key(), None))
    }

    /// STS as a user sees it.
    pub(crate) fn sts(&self, user: &User) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.config(user.access_key(), None))
    }

    /// Resource Groups Tagging as a user sees it.
    pub(crate) fn tagging(&self, user: &User) -> aws_sdk_resourcegroupstagging::Client {
        aws_sdk_resourcegroupstagging::Client::new(&self.config(user.access_key(), None))
    }

    /// ECR as a session sees it.
    pub(crate) fn ecr_of(&self, session: &aws_sdk_sts::types::Credentials) -> aws_sdk_ecr::Client {
        aws_sdk_ecr::Client::new(&self.session_config(session))
    }

    /// STS as a session sees it.
    pub(crate) fn sts_of(&self, session: &aws_sdk_sts::types::Credentials) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.session_config(session))
    }

    fn session_config(&self, session: &aws_sdk_sts::types::Credentials) -> SdkConfig {
        let key = AccessKey::new(session.access_key_id(), session.secret_access_key());
        self.config(&key, Some(session.session_token()))
    }

    /// A repository of each organization.
    pub(crate) async fn create_repositories(&self) {
        let ecr = self.ecr(&self.admin);
        for name in [ours(), theirs()] {
            ecr.create_repository().repository_name(name).send().await.unwrap();
        }
    }

    /// A client of the registry that has logged in.
    pub(crate) async fn log_in(&self, ecr: &aws_sdk_ecr::Client) -> Client {
        let answer = ecr.get_authorization_token().send().await.unwrap();
        let token = answer.authorization_data()[0].authorization_token().unwrap();
        let decoded = String::from_utf8(STANDARD.decode(token).unwrap()).unwrap();
        let address = self.aws.registry_host().as_str().parse().unwrap();
        Client::new(address, decoded.strip_prefix("AWS:").unwrap())
    }
}

pub(crate) fn ours() -> String {
    format!("prod/{OURS}/app")
}

pub(crate) fn theirs() -> String {
    format!("prod/{THEIRS}/app")
}

/// The ARN of repositories.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:ecr:us-east-1:095412845506:repository/{name}")
}

pub(crate) fn policy(statements: Value) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

pub(crate) fn allow(actions: Value, resources: impl Into<Value>) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources.into() })
}

/// The code of the error that AWS answered.
#[track_caller]
pub(crate) fn code<T>(result: Result<T, impl ProvideErrorMetadata + std::fmt::Debug>) -> String {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => match error.code() {
            Some(code) => code.to_owned(),
            None => panic!("no answer of AWS: {error:?}"),
        },
    }
}

/// The message of the error that AWS answered.
#[track_caller]
pub(crate) fn message<T>(result: Result<T, impl ProvideErrorMetadata + std::fmt::Debug>) -> String {
    let error = result.err().unwrap();
    error.message().unwrap_or_else(|| panic!("{error:?}")).to_owned()
}
