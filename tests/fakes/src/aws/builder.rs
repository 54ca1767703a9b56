//! [`FakeAwsBuilder`]: the configuration of a fake of AWS.

use std::sync::Arc;

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::backend::local::ecr_emulation::{self, EcrDialect};
use ark_container_core::model::{EcrHost, RegistryHost};
use ark_container_core::{Error, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::aws::accounts::{Accounts, Role, User};
use crate::aws::faults::Faults;
use crate::aws::identity_provider::{IdentityProvider, KnownProvider};
use crate::aws::registries::{
    CreationTemplate, ListedRepository, Logins, Registries, RegistryAuthorizer,
};
use crate::aws::world::{Clock, Record, World};
use crate::aws::{FakeAws, server};

/// The default host, with the account of the examples in AWS's documentation.
const HOST: &str = "095412845506.dkr.ecr.us-east-1.amazonaws.com";

/// The default maximum size of a packed session policy with its session tags. AWS documents that there is such a
/// limit.
///
/// Source: `PackedPolicyTooLargeException` of
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const MAX_PACKED_BYTES: usize = 2_048;

/// The configuration of a fake of AWS; see [`FakeAws::builder`].
#[derive(Debug)]
#[must_use = "nothing is started before `start`"]
pub struct FakeAwsBuilder {
    store: LocalBackend,
    host: Option<EcrHost>,
    users: Vec<User>,
    roles: Vec<Role>,
    providers: Vec<IdentityProvider>,
    listed: Vec<ListedRepository>,
    templates: Vec<CreationTemplate>,
    packed_limit: usize,
    seed: u64,
}

impl FakeAwsBuilder {
    pub(super) fn new(store: LocalBackend) -> Self {
        Self {
            store,
            host: None,
            users: Vec::new(),
            roles: Vec::new(),
            providers: Vec::new(),
            listed: Vec::new(),
            templates: Vec::new(),
            packed_limit: MAX_PACKED_BYTES,
            seed: 0,
        }
    }

    /// Sets the host that the registry would have at AWS, with account and region. The default is the account
    /// `095412845506` in `us-east-1`.
    pub fn with_host(mut self, host: EcrHost) -> Self {
        self.host = Some(host);
        self
    }

    /// Adds a user.
    pub fn with_user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Adds a role.
    pub fn with_role(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// Adds an OpenID provider. The fake verifies its tokens as AWS does.
    pub fn with_identity_provider(mut self, provider: IdentityProvider) -> Self {
        self.providers.push(provider);
        self
    }

    /// Adds repositories that are only listed.
    pub fn with_list(mut self, repositories: impl IntoIterator<Item = ListedRepository>) -> Self {
        self.listed.extend(repositories);
        self
    }

    /// Adds a template of the repositories that ECR creates on a push. Without templates, ECR creates none.
    pub fn with_creation_template(mut self, template: CreationTemplate) -> Self {
        self.templates.push(template);
        self
    }

    /// Sets the maximum size of a packed session policy with its session tags. The default is 2,048 bytes.
    ///
    /// AWS does not document the packing. The fake counts a policy without its white space, and the key and value of a
    /// tag.
    pub fn with_packed_limit(mut self, packed_limit: usize) -> Self {
        self.packed_limit = packed_limit;
        self
    }

    /// Sets the seed for the requests that a fault with a probability affects. The default is 0.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts the fake on free ports of the loopback interface.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the fake cannot evaluate a policy or use a key set; [`Error::Failed`] if the store
    /// cannot be read or no port is free.
    pub async fn start(self) -> Result<FakeAws> {
        let host = match self.host {
            Some(host) => host,
            None => HOST.parse()?,
        };
        let providers: Result<Vec<_>> =
            self.providers.into_iter().map(KnownProvider::new).collect();
        let accounts = Accounts::new(&host, self.users, self.roles, providers?)?;
        let registries = Registries::open(self.store, host.account(), self.listed).await?;
        let registries = Arc::new(registries);
        let logins = Arc::new(Logins::default());
        let clock = Arc::new(Clock::default());

        let record = Arc::new(Record::default());
        let authorizer = RegistryAuthorizer {
            host: host.clone(),
            logins: logins.clone(),
            registries: registries.clone(),
            templates: self.templates,
            clock: clock.clone(),
            record: record.clone(),
        };
        let dialect = Arc::new(EcrDialect::new(host.account()));
        let any_port = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let registry = ecr_emulation::bind_registry(
            &registries.store,
            any_port,
            Arc::new(authorizer),
            dialect.clone(),
        )?;
        let listening = |error| Error::failed("the fake of AWS cannot listen").with_source(error);
        let listener = TcpListener::bind(any_port).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;

        let world = Arc::new(World {
            registry_host: RegistryHost::from(registry.local_addr()),
            front: Default::default(),
            host,
            clock,
            accounts,
            registries,
            dialect,
            logins,
            faults: Faults::new(self.seed),
            record,
            packed_limit: self.packed_limit,
            stale_index: Default::default(),
            requests: Default::default(),
        });
        let stop = CancellationToken::new();
        // Dropping the registry's future closes its connections.
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            if let Err(error) = registry.serve(std::future::pending()).await {
                tracing::warn!(%error, "the registry of the fake of AWS ended");
            }
        }));
        tokio::spawn(server::serve(listener, world.clone(), stop.clone()));
        Ok(FakeAws { world, address, _stop: stop.drop_guard() })
    }
}
