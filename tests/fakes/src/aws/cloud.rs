//! [`Cloud`]: a fake of AWS with an administrator, and the SDK's clients for it.

#![expect(clippy::unwrap_used, reason = "the functions that tests share are tests too")]

use ark_container_core::backend::local::LocalBackend;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::aws::{AccessKey, FakeAws, FakeAwsBuilder, User};
use crate::registry_client::{OURS, RegistryClient, THEIRS};

/// A fake that runs until it is dropped.
#[derive(Debug)]
pub struct Cloud {
    /// The fake.
    pub aws: FakeAws,
    /// The administrator.
    pub admin: User,
    _folder: tempfile::TempDir,
}

impl Cloud {
    /// Starts a fake with an administrator.
    pub async fn start() -> Self {
        Self::start_with(|aws| aws).await
    }

    /// Starts a fake with an administrator and the changes of `more`.
    pub async fn start_with(more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalBackend::open(Some(folder.path())).unwrap();
        let admin = User::administrator("admin");
        let builder = more(FakeAws::builder(store).with_user(admin.clone()));
        Self { aws: builder.start().await.unwrap(), admin, _folder: folder }
    }

    /// Returns the configuration of an SDK client that holds a key. The client retries as the SDK does.
    pub fn config(&self, key: &AccessKey, session_token: Option<&str>) -> SdkConfig {
        let token = session_token.map(str::to_owned);
        let credentials = Credentials::new(&key.id, &key.secret, token, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.aws.host().region().to_owned()))
            .endpoint_url(self.aws.endpoint_url())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    /// Returns a client of ECR for a user.
    pub fn ecr(&self, user: &User) -> aws_sdk_ecr::Client {
        aws_sdk_ecr::Client::new(&self.config(user.access_key(), None))
    }

    /// Returns a client of STS for a user.
    pub fn sts(&self, user: &User) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.config(user.access_key(), None))
    }

    /// Returns a client of Resource Groups Tagging for a user.
    pub fn tagging(&self, user: &User) -> aws_sdk_resourcegroupstagging::Client {
        aws_sdk_resourcegroupstagging::Client::new(&self.config(user.access_key(), None))
    }

    /// Returns a client of ECR for a session.
    pub fn ecr_of(&self, session: &aws_sdk_sts::types::Credentials) -> aws_sdk_ecr::Client {
        aws_sdk_ecr::Client::new(&self.session_config(session))
    }

    /// Returns a client of STS for a session.
    pub fn sts_of(&self, session: &aws_sdk_sts::types::Credentials) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.session_config(session))
    }

    fn session_config(&self, session: &aws_sdk_sts::types::Credentials) -> SdkConfig {
        let key = AccessKey::new(session.access_key_id(), session.secret_access_key());
        self.config(&key, Some(session.session_token()))
    }

    /// Creates the repository `app` in both organizations.
    pub async fn create_repositories(&self) {
        let ecr = self.ecr(&self.admin);
        for name in [ours(), theirs()] {
            ecr.create_repository().repository_name(name).send().await.unwrap();
        }
    }

    /// Returns a client of the registry with the password that `ecr` returns.
    pub async fn log_in(&self, ecr: &aws_sdk_ecr::Client) -> RegistryClient {
        let answer = ecr.get_authorization_token().send().await.unwrap();
        let token = answer.authorization_data()[0].authorization_token().unwrap();
        let decoded = String::from_utf8(STANDARD.decode(token).unwrap()).unwrap();
        let address = self.aws.registry_host().as_str().parse().unwrap();
        RegistryClient::new(address, decoded.strip_prefix("AWS:").unwrap())
    }
}

/// Returns the configuration of an administrator's clients that do not retry.
pub fn one_attempt(cloud: &Cloud) -> SdkConfig {
    let config = cloud.config(cloud.admin.access_key(), None).into_builder();
    config.retry_config(RetryConfig::disabled()).build()
}

/// Returns the path of the caller's repository.
pub fn ours() -> String {
    format!("prod/{OURS}/app")
}

/// Returns the path of another organization's repository.
pub fn theirs() -> String {
    format!("prod/{THEIRS}/app")
}

/// Returns the ARN of a repository.
pub fn arn(name: &str) -> String {
    format!("arn:aws:ecr:us-east-1:095412845506:repository/{name}")
}

/// Returns a policy of these statements.
pub fn policy(statements: Value) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Returns a statement that allows these actions.
pub fn allow(actions: Value, resources: impl Into<Value>) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources.into() })
}

/// Returns the code of an error response of AWS.
#[track_caller]
pub fn code<T>(result: Result<T, impl ProvideErrorMetadata + std::fmt::Debug>) -> String {
    match result {
        Ok(_) => panic!("the request succeeded"),
        Err(error) => match error.code() {
            Some(code) => code.to_owned(),
            None => panic!("no response of AWS: {error:?}"),
        },
    }
}

/// Returns the message of an error response of AWS.
#[track_caller]
pub fn message<T>(result: Result<T, impl ProvideErrorMetadata + std::fmt::Debug>) -> String {
    let error = result.err().unwrap();
    error.message().unwrap_or_else(|| panic!("{error:?}")).to_owned()
}
