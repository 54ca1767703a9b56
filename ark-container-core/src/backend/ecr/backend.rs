//! [`EcrBackend`]: an account's registry as a backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::OnceCell;

use super::builder::{EcrBackendBuilder, EcrConfig};
use super::clients::{AwsConfig, Clients};
use super::listing_cache::{Fact, ListingCache};
use super::principal_text::session_name;
use super::web_identity::{Rights, Sessions};
use super::{create, images, repositories, tag_index};
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::cache::CredentialsCache;
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::{Error, ResourceKind, Result};
use crate::identity::Principal;
use crate::model::{
    Digest, EcrHost, Organizations, Reference, RegistryHost, RepositoryPath, Scope, ScopeTarget,
    Stage,
};

/// How long a caller who is only to be named is asked for.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// The repositories of an AWS account's registry in one region.
///
/// Clones are cheap and share their connections. AWS credentials come from where the AWS command
/// line takes them: environment, profiles, SSO, web identity, the roles of machines and containers.
/// Who has a token instead needs none: see [`web_identity`](EcrBackendBuilder::with_web_identity).
/// Everything is asked of the registry of the host, whose account may be another than that of the
/// credentials if its policies allow that; a denial then names both.
///
/// Beyond the contract:
/// - What it creates has the resource tags `ark:organization` and, where the principal is known,
///   `ark:created-by`.
/// - A handle acts for one principal or for none, see [`acting_as`](Self::acting_as).
/// - A listing of particular organizations is complete in an account of at most 1,000 repositories that the
///   caller may list. In others it is that of the tag index (AWS Resource Groups Tagging), whose cost grows
///   with the organizations and not with the account. A repository without the tag `ark:organization` may be
///   missing then, and the index lags by seconds or minutes, except for what this user created:
///   [`has_listed_incompletely`](Self::has_listed_incompletely) tells. Where the index cannot be asked, or
///   with a [full scan](EcrBackendBuilder::with_full_scan), the whole account is read instead.
/// - A listing of images has those in the archive too. Describing such an image fails with
///   [`Error::NotFound`], whose source says how to restore it.
/// - A listing has images without platforms, children and subject, which ECR does not tell there.
///   [`describe_image`](RegistryBackend::describe_image) also reads the manifest (`ecr:BatchGetImage`); it
///   tells the platforms of an index, and not the one of a single image.
/// - An image that an index refers to does not lose its last tag: that is a conflict.
///
/// ```
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::backend::ecr::EcrBackend;
/// use ark_container_core::model::Stage;
///
/// let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse()?;
/// let backend = EcrBackend::builder(host, Stage::default()).with_profile("builds").build();
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EcrBackend {
    shared: Arc<Shared>,
    /// The name of the principal that this handle acts for.
    principal: Option<Arc<str>>,
    /// The AWS caller, which by token differs between principals.
    caller: Arc<OnceCell<Caller>>,
}

/// State of all handles of one backend, whichever principal they act for.
#[derive(Debug)]
struct Shared {
    config: EcrConfig,
    clients: Arc<Clients>,
    sessions: Sessions,
    cache: CredentialsCache,
    listing_cache: ListingCache,
}

/// The identity of the caller in AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The account, 12 digits; it may be another than the registry's.
    pub account: String,
    /// The user, role session or federated user, as an ARN.
    pub arn: String,
}

impl EcrBackend {
    /// Returns a builder of a backend. Only the host and the stage are required.
    pub fn builder(host: EcrHost, stage: Stage) -> EcrBackendBuilder {
        EcrBackendBuilder::new(host, stage)
    }

    pub(super) fn new(config: EcrConfig, principal: Option<Arc<str>>) -> Self {
        let cache = match &config.cache_directory {
            Some(directory) => CredentialsCache::open(directory),
            None => CredentialsCache::in_memory(),
        };
        let host = config.host.registry_host();
        let shared = Shared {
            listing_cache: ListingCache::new(host, config.cache_directory.as_deref()),
            config,
            clients: Arc::default(),
            sessions: Sessions::default(),
            cache,
        };
        Self { shared: Arc::new(shared), principal, caller: Arc::default() }
    }

    /// Returns a handle of the same backend that acts for `principal`.
    ///
    /// STS sessions, the resource tag `ark:created-by`, errors and registry credentials of the handle
    /// name this principal instead of the one that the builder set. Two principals share neither STS
    /// sessions nor cached registry credentials. They share connections, AWS credentials and roles:
    /// AWS permits what the roles permit, so the program decides what a principal may do.
    #[must_use = "the handle acts for the principal, not the backend that it comes from"]
    pub fn acting_as(&self, principal: &Arc<Principal>) -> Self {
        let name = principal.name().to_string();
        if self.principal() == Some(name.as_str()) {
            return self.clone();
        }
        // Without a token, AWS sees the same caller for every principal.
        let caller = match self.config().web_identity {
            Some(_) => Arc::default(),
            None => Arc::clone(&self.caller),
        };
        Self { shared: Arc::clone(&self.shared), principal: Some(name.into()), caller }
    }

    /// The name of the principal that this handle acts for, such as `user:alice`.
    pub(super) fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// The name of the STS sessions of this handle.
    pub(super) fn session_name(&self) -> String {
        session_name(self.principal())
    }

    /// The host of the registry, and what it says of the account.
    pub fn ecr_host(&self) -> &EcrHost {
        &self.shared.config.host
    }

    /// Returns the configuration of the backend.
    pub(crate) fn config(&self) -> &EcrConfig {
        &self.shared.config
    }

    /// Returns the configuration of calls without a session. It has no credentials if calls are made by token.
    pub(super) async fn aws_config(&self) -> Result<&AwsConfig> {
        self.without_session().config(self.config()).await
    }

    pub(crate) async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        self.ecr_with(Rights::Access).await
    }

    /// Returns a client of ECR: under the role with these rights if there is a token, or else as the caller.
    pub(super) async fn ecr_with(&self, rights: Rights) -> Result<aws_sdk_ecr::Client> {
        Ok(self.clients(rights).await?.ecr(self.config()).await?.clone())
    }

    pub(crate) async fn sts(&self) -> Result<aws_sdk_sts::Client> {
        Ok(self.clients(Rights::Access).await?.sts(self.config()).await?.clone())
    }

    pub(super) async fn tagging(&self) -> Result<aws_sdk_resourcegroupstagging::Client> {
        Ok(self.clients(Rights::Access).await?.tagging(self.config()).await?.clone())
    }

    pub(super) async fn clients(&self, rights: Rights) -> Result<Arc<Clients>> {
        if let Some(file) = &self.config().web_identity {
            return self.session(file, rights).await;
        }
        Ok(Arc::clone(&self.shared.clients))
    }

    /// Returns the clients without the session of a token.
    pub(super) fn without_session(&self) -> &Clients {
        &self.shared.clients
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    pub(super) fn cache(&self) -> &CredentialsCache {
        &self.shared.cache
    }

    pub(super) fn listing_cache(&self) -> &ListingCache {
        &self.shared.listing_cache
    }

    /// Returns whether a listing of this backend or of a clone came from the tag index, so that
    /// repositories may be missing in it: those without the resource tag `ark:organization`, and those that
    /// others created or tagged in the last minutes.
    pub fn has_listed_incompletely(&self) -> bool {
        self.listing_cache().is_incomplete()
    }

    pub(super) fn has_stage_of(&self, path: &RepositoryPath) -> bool {
        *path.stage() == self.config().stage
    }

    pub(super) fn check_stage(&self, stage: &Stage) -> Result<()> {
        if *stage == self.config().stage {
            return Ok(());
        }
        Err(Error::invalid(format!("{self} has the stage {}, not {stage}", self.config().stage)))
    }
}

impl EcrBackend {
    /// Returns the identity of the caller in AWS, asked once for all clones (STS GetCallerIdentity, which needs no
    /// permission). By token, it is the session of the access role.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without AWS credentials or with some that AWS does not take;
    /// [`Error::Temporary`] if AWS cannot be reached.
    pub async fn caller(&self) -> Result<&Caller> {
        self.caller.get_or_try_init(|| self.ask_for_caller()).await
    }

    /// Returns the identity of the caller where it is only a name: if AWS tells it at once.
    pub(crate) async fn caller_in_time(&self) -> Option<&Caller> {
        let caller = tokio::time::timeout(NAME_TIMEOUT, self.caller()).await;
        caller.ok()?.inspect_err(|error| tracing::debug!(%error, "the caller has no name")).ok()
    }

    async fn ask_for_caller(&self) -> Result<Caller> {
        let identity = self.sts().await?.get_caller_identity().send().await;
        let identity = identity.map_err(|error| self.call("ask AWS who calls").error(error))?;
        match (identity.account, identity.arn) {
            (Some(account), Some(arn)) => Ok(Caller { account, arn }),
            _ => Err(Error::failed("AWS does not say who calls")),
        }
    }
}

impl fmt::Display for EcrBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ecr://{}/{}", self.config().host, self.config().stage)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RegistryBackend for EcrBackend {
    fn host(&self) -> RegistryHost {
        self.ecr_host().registry_host().clone()
    }

    fn stage(&self) -> Stage {
        self.config().stage.clone()
    }

    fn acting_as(&self, principal: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        Some(Arc::new(EcrBackend::acting_as(self, principal)))
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        match organizations {
            Organizations::Only(some) if some.is_empty() => stream::empty().boxed(),
            Organizations::Only(some) if !self.config().full_scan => {
                tag_index::list(self.clone(), some.clone())
            }
            organizations => repositories::scan(self.clone(), organizations.clone(), None),
        }
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        self.check_stage(path.stage())?;
        let created = create::create(self, path, options).await?;
        self.listing_cache().add(Fact::Created(path)).await;
        Ok(created)
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        self.check_stage(path.stage())?;
        Ok(self.describe(path).await?.repository)
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.check_stage(path.stage())?;
        let deleted = self
            .ecr_with(Rights::Administrator)
            .await?
            .delete_repository()
            .registry_id(self.ecr_host().account())
            .repository_name(path.to_string())
            .force(options.force)
            .send()
            .await;
        match deleted {
            Ok(_) => {
                self.listing_cache().remove(Fact::Created(path)).await;
                Ok(())
            }
            Err(error) => match error.as_service_error() {
                Some(e) if e.is_repository_not_empty_exception() => {
                    let problem = images::count(self, path).await;
                    Err(Error::conflict(ResourceKind::Repository, path, problem))
                }
                _ => Err(self.call_on("delete the repository", path).error(error)),
            },
        }
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        match self.check_stage(path.stage()) {
            Ok(()) => images::list(self.clone(), path.clone()),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        self.check_stage(path.stage())?;
        images::describe(self, path, reference).await
    }

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        self.check_stage(path.stage())?;
        images::delete(self, path, reference).await
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        match scope.target() {
            ScopeTarget::Repository(path) => self.check_stage(path.stage())?,
            ScopeTarget::Organizations(stage, organizations) => {
                self.check_stage(stage)?;
                if organizations.is_empty() {
                    return Err(Error::invalid("a scope names at least one organization"));
                }
            }
        }
        self.registry_credentials(scope, options).await
    }
}
