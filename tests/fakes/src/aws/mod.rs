//! [`FakeAws`]: a fake of AWS in the process of a test: ECR with its registry, Resource Groups Tagging, and STS.
//!
//! The fake serves the protocols of AWS on a loopback port. Requests that AWS rejects are rejected: the fake verifies
//! signatures and evaluates IAM policies. An unsupported parameter, condition or policy element is an error.
//! Requests, responses and errors follow the service models. The code names the source of behaviour that AWS does not
//! document.
//!
//! ```
//! use ark_container_core::backend::local::LocalBackend;
//! use ark_container_fakes::aws::{FakeAws, User};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let alice = User::administrator("alice");
//! let store = LocalBackend::open(Some(folder))?;
//! let aws = FakeAws::builder(store).with_user(alice.clone()).start().await?;
//!
//! // For the SDK, the AWS CLI and other programs that read the environment.
//! let environment = aws.environment(alice.access_key());
//! assert!(environment.contains(&("AWS_ENDPOINT_URL", aws.endpoint_url())));
//! # Ok(())
//! # }
//! ```

mod accounts;
mod builder;
pub mod cloud;
mod ecr;
mod faults;
mod iam;
mod identity_provider;
mod policy;
mod protocol;
mod registries;
mod server;
mod sigv4;
mod sts;
mod tagging;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ark_container_core::backend::ecr::EcrBackend;
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::{Digest, EcrHost, RegistryHost, Stage};
use ark_container_core::{Catalog, Error, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::DropGuard;

pub use crate::aws::accounts::{AccessKey, Role, User};
pub use crate::aws::builder::FakeAwsBuilder;
pub use crate::aws::faults::Fault;
pub use crate::aws::identity_provider::IdentityProvider;
pub use crate::aws::registries::{CreationTemplate, ListedRepository};
pub use crate::aws::world::Call;

use crate::aws::world::World;

/// A fake of AWS for tests, which stops on drop. See the [module](self).
#[derive(Debug)]
pub struct FakeAws {
    world: Arc<World>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl FakeAws {
    /// Returns a builder of a fake that stores the images of its repositories in `store`.
    ///
    /// The fake starts with the repositories in the store. Settings that the store does not support, such as lifecycle
    /// policies, end with the fake. The account can also have repositories without an organization or of another stage
    /// than the store's. Such repositories accept no images.
    pub fn builder(store: LocalBackend) -> FakeAwsBuilder {
        FakeAwsBuilder::new(store)
    }

    /// Returns the URL of the API of all services, for `AWS_ENDPOINT_URL`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the host of the registry of the fake's own account. The registry serves plain HTTP.
    pub fn registry_host(&self) -> RegistryHost {
        self.world.registry_host.clone()
    }

    /// Returns the host that the registry would have at AWS, with account, region and partition.
    pub fn host(&self) -> &EcrHost {
        &self.world.host
    }

    /// Returns the environment variables of a process that calls the fake with `key`.
    pub fn environment(&self, key: &AccessKey) -> [(&'static str, String); 6] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint_url()),
            ("AWS_ACCESS_KEY_ID", key.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", key.secret.clone()),
            ("AWS_REGION", self.world.host.region().to_owned()),
            ("AWS_DEFAULT_REGION", self.world.host.region().to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Returns the configuration of an AWS SDK client that holds `key`. The client retries as the SDK does.
    pub fn sdk_config(&self, key: &AccessKey) -> SdkConfig {
        let credentials = Credentials::new(&key.id, &key.secret, None, None, "fake");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.host().region().to_owned()))
            .endpoint_url(self.endpoint_url())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    /// Returns the catalog of the account in the stage `prod` with the access key of a user. Only IAM restricts the
    /// user.
    ///
    /// ```
    /// use ark_container_core::Error;
    /// use ark_container_core::backend::local::LocalBackend;
    /// use ark_container_core::model::OrganizationId;
    /// use ark_container_fakes::aws::{FakeAws, User};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// let (alice, nobody) = (User::administrator("alice"), User::new("nobody"));
    /// let builder = FakeAws::builder(LocalBackend::open(Some(folder))?);
    /// let aws = builder.with_user(alice.clone()).with_user(nobody.clone()).start().await?;
    ///
    /// let catalog = aws.catalog(&alice).in_organization(OrganizationId::TBD);
    /// catalog.create("catalog/extract-video").await?;
    /// let catalog = aws.catalog(&nobody).in_organization(OrganizationId::TBD);
    /// let denied = catalog.describe("catalog/extract-video").await;
    /// assert!(matches!(denied, Err(Error::PermissionDenied { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn catalog(&self, user: &User) -> Catalog {
        let backend = EcrBackend::builder(self.host().clone(), Stage::default())
            .with_sdk_config(self.sdk_config(user.access_key()))
            .build();
        Catalog::from_backend_as_administrator(backend)
    }

    /// Returns all calls so far in the order of their responses.
    pub fn calls(&self) -> Vec<Call> {
        self.world.record.calls().clone()
    }

    /// Returns the number of calls of an action, such as `ecr:DescribeRepositories`.
    pub fn count(&self, action: &str) -> usize {
        self.world.record.calls().iter().filter(|call| call.action == action).count()
    }

    /// Clears the record of calls.
    pub fn forget_calls(&self) {
        self.world.record.calls().clear();
    }

    /// Adds a fault for later requests.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.add(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Sets the clock of the fake this many seconds ahead of the system clock, or behind if negative.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.world.clock.set_ahead(seconds);
    }

    /// Expires all sessions of roles.
    pub fn expire_sessions(&self) {
        self.world.accounts.expire_sessions(self.world.clock.now());
    }

    /// Freezes the tag index, so that it omits later changes, or updates it.
    pub fn set_index_stale(&self, stale: bool) {
        self.world.set_index_stale(stale);
    }

    /// Adds a tag to an image that is too long for clients of OCI registries: ECR accepts tags of 300 characters. A
    /// missing repository is ignored.
    ///
    /// Source: `ImageTag` in the service model of ECR.
    pub fn add_long_tag(&self, repository: &str, digest: &Digest, tag: impl Into<String>) {
        self.world.registries.with(self.host().account(), |repositories| {
            if let Some(repository) = repositories.get_mut(repository) {
                repository.long_tags.entry(digest.to_string()).or_default().insert(tag.into());
            }
        });
    }

    /// Sets the `expiresAt` of later authorization tokens. Their actual expiry does not change.
    pub fn date_tokens(&self, expires_at: SystemTime) {
        self.world.logins.date(expires_at);
    }

    /// Sets the lifetime of later authorization tokens. The default is 12 hours.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.world.logins.set_lifetime(lifetime);
    }

    /// Enables or disables blob mounting across repositories, a setting of the account. The default is off.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
    pub fn set_blob_mounting(&self, mounts: bool) {
        self.world.dialect.set_mounts(mounts);
    }

    /// Sets whether manifests with a subject are rejected, as was reported of ECR. The default is off.
    pub fn set_refuses_subjects(&self, refuses: bool) {
        self.world.dialect.set_refuses_subjects(refuses);
    }

    /// Sets the host in later logins to a proxy in front of the registry. Only the first call has an effect.
    pub fn put_behind(&self, front: RegistryHost) {
        // An error means that the host is set already.
        let _ = self.world.front.set(front);
    }

    /// Makes the next upload fail whose last request has an empty body, as was reported of ECR.
    pub fn fail_next_empty_put(&self) {
        self.world.dialect.fail_next_empty_put();
    }
}

/// Returns a secret of `BYTES` random bytes in Base64.
fn secret<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| {
        Error::failed("cannot get random bytes of the operating system").with_source(error)
    })?;
    Ok(STANDARD.encode(bytes))
}
