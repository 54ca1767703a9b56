//! [`FakeAws`]: AWS for tests, in this process: ECR, its registry, Resource Groups Tagging, and STS.
//!
//! It speaks AWS's protocols on a loopback port, checks signatures, and judges by IAM policies, so
//! that what is refused at AWS is refused here. What it does not know of AWS, such as a parameter or a
//! condition, it refuses aloud. Its words and shapes are those of the service models; where AWS
//! documents nothing, the source of what it does is named in the code.
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
//! // For the SDK, the AWS command line, and whatever else reads the environment.
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

/// AWS for tests; it stops when it is dropped. See the [module](self).
#[derive(Debug)]
pub struct FakeAws {
    world: Arc<World>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl FakeAws {
    /// An AWS whose repositories keep their images in `store`.
    ///
    /// It takes in the repositories that are there when it starts. What the store does not keep, such
    /// as lifecycle policies, is gone when the fake is. The account may have repositories that are not
    /// of an organization or not of the store's stage too; these take no images.
    pub fn builder(store: LocalBackend) -> FakeAwsBuilder {
        FakeAwsBuilder::new(store)
    }

    /// Where the API of every service is: what goes into `AWS_ENDPOINT_URL`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the registry of the fake's own account is, over plain HTTP.
    pub fn registry_host(&self) -> RegistryHost {
        self.world.registry_host.clone()
    }

    /// The host that the registry would have at AWS, which tells account, region and partition.
    pub fn host(&self) -> &EcrHost {
        &self.world.host
    }

    /// What a process needs in its environment to ask this AWS as the holder of `key`.
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

    /// Returns the catalog of the account in the stage `prod`, as a user sees it. IAM alone decides what
    /// the user may do.
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

    /// Every call so far, in the order in which it was answered.
    pub fn calls(&self) -> Vec<Call> {
        self.world.record.calls().clone()
    }

    /// How many calls there were for an action, such as `ecr:DescribeRepositories`.
    pub fn count(&self, action: &str) -> usize {
        self.world.record.calls().iter().filter(|call| call.action == action).count()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.world.record.calls().clear();
    }

    /// Lets something go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.add(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Sets the clock of AWS this many seconds ahead of ours, or behind.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.world.clock.set_ahead(seconds);
    }

    /// Ends every session of a role now.
    pub fn expire_sessions(&self) {
        self.world.accounts.expire_sessions(self.world.clock.now());
    }

    /// Lets the index of tags know nothing of what is changed from now on, or lets it catch up.
    pub fn set_index_stale(&self, stale: bool) {
        self.world.set_index_stale(stale);
    }

    /// Puts a tag on an image that clients of OCI registries refuse: ECR accepts tags of 300 characters. A
    /// repository that does not exist stays as it is.
    ///
    /// Source: `ImageTag` in the service model of ECR.
    pub fn add_long_tag(&self, repository: &str, digest: &Digest, tag: impl Into<String>) {
        self.world.registries.with(self.host().account(), |repositories| {
            if let Some(repository) = repositories.get_mut(repository) {
                repository.long_tags.entry(digest.to_string()).or_default().insert(tag.into());
            }
        });
    }

    /// Gives authorization tokens with this `expiresAt` from now on, whenever they really expire.
    pub fn date_tokens(&self, expires_at: SystemTime) {
        self.world.logins.date(expires_at);
    }

    /// Gives authorization tokens that are good for this long from now on; 12 hours unless told.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.world.logins.set_lifetime(lifetime);
    }

    /// Mounts blobs across repositories from now on, or no longer: a setting of the account.
    ///
    /// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
    pub fn set_blob_mounting(&self, mounts: bool) {
        self.world.dialect.set_mounts(mounts);
    }

    /// Refuses manifests with a subject from now on, or no longer, as was reported of ECR.
    pub fn set_refuses_subjects(&self, refuses: bool) {
        self.world.dialect.set_refuses_subjects(refuses);
    }

    /// Gives logins for another host from now on, once: for one that stands in front of the registry
    /// and passes on to it.
    pub fn put_behind(&self, front: RegistryHost) {
        // It stays behind what it was put behind first.
        let _ = self.world.front.set(front);
    }

    /// Fails the next upload that ends without a byte in its last request, as was reported of ECR.
    pub fn fail_next_empty_put(&self) {
        self.world.dialect.fail_next_empty_put();
    }
}

/// A text that nobody guesses, of `BYTES` random bytes.
fn secret<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| {
        Error::failed("the operating system gave no random numbers").with_source(error)
    })?;
    Ok(STANDARD.encode(bytes))
}
