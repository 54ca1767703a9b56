//! [`EcrBackend`]: an account's registry as a backend.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::OnceCell;

use super::account::Caller;
use super::builder::{EcrBackendBuilder, EcrConfig};
use super::clients::Clients;
use super::selector::Selector;
use super::web_identity::{Rights, Sessions};
use super::{create, images, index, list};
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::RegistryCredentials;
use crate::credentials::cache::CredentialsCache;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{
    EcrHost, Organizations, Reference, RegistryHost, RepositoryPath, Scope, ScopeTarget, Stage,
};

/// The repositories of an AWS account's registry in one region.
///
/// Clones are cheap and share their connections. AWS credentials come from where the AWS command
/// line takes them: environment, profiles, SSO, web identity, the roles of machines and containers.
/// Who has a token instead needs none: see [`web_identity`](EcrBackendBuilder::web_identity).
/// Everything is asked of the account that the credentials are for; where that is not the registry's,
/// the first call says so with [`Error::InvalidInput`].
///
/// Beyond the contract:
/// - What it creates has the resource tags `ark:organization` and, where the principal is known,
///   `ark:created-by`.
/// - A listing of particular organizations asks the index of resource tags (AWS Resource Groups
///   Tagging), whose cost grows with the organizations and not with the account. The index may be some
///   seconds or minutes behind; a repository without the tag `ark:organization`, such as one that was
///   created by other means, is absent from it. Where AWS does not permit the index, or after
///   [`full_scan`](EcrBackendBuilder::full_scan), the whole account is read instead.
/// - Images come without platforms, which ECR does not tell in a listing.
/// - An image that an index refers to does not lose its last tag: that is a conflict.
///
/// ```
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::backend::ecr::EcrBackend;
/// use ark_container_core::model::Stage;
///
/// let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse()?;
/// let backend = EcrBackend::builder(host, Stage::default()).profile("builds").build();
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EcrBackend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: EcrConfig,
    clients: Arc<Clients>,
    sessions: Sessions,
    caller: OnceCell<Caller>,
    selector: OnceCell<Selector>,
    cache: CredentialsCache,
}

impl EcrBackend {
    /// Says how the registry is reached; nothing more than the location need be said.
    pub fn builder(host: EcrHost, stage: Stage) -> EcrBackendBuilder {
        EcrBackendBuilder::new(host, stage)
    }

    pub(super) fn new(config: EcrConfig) -> Self {
        let cache = match &config.cache_directory {
            Some(directory) => CredentialsCache::open(directory),
            None => CredentialsCache::in_memory(),
        };
        Self(Arc::new(Inner {
            config,
            clients: Arc::default(),
            sessions: Sessions::default(),
            caller: OnceCell::new(),
            selector: OnceCell::new(),
            cache,
        }))
    }

    /// The host of the registry, and what it says of the account.
    pub fn ecr_host(&self) -> &EcrHost {
        &self.0.config.host
    }

    /// What the backend was told.
    pub(crate) fn config(&self) -> &EcrConfig {
        &self.0.config
    }

    /// How the SDK is configured, with credentials that are fetched when they are needed; with none
    /// where there is a token.
    pub(crate) async fn sdk_config(&self) -> &SdkConfig {
        self.without_session().await.sdk_config(self.config()).await
    }

    pub(crate) async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        self.ecr_with(Rights::Access).await
    }

    /// ECR under the role that has these rights, where there is a token; else as the caller.
    pub(super) async fn ecr_with(&self, rights: Rights) -> Result<aws_sdk_ecr::Client> {
        Ok(self.clients(rights).await?.ecr(self.config()).await.clone())
    }

    pub(crate) async fn sts(&self) -> Result<aws_sdk_sts::Client> {
        Ok(self.clients(Rights::Access).await?.sts(self.config()).await.clone())
    }

    pub(super) async fn tagging(&self) -> Result<aws_sdk_resourcegroupstagging::Client> {
        Ok(self.clients(Rights::Access).await?.tagging(self.config()).await.clone())
    }

    pub(super) async fn clients(&self, rights: Rights) -> Result<Arc<Clients>> {
        if let Some(file) = &self.config().web_identity {
            return self.session(file, rights).await;
        }
        self.without_session().await;
        Ok(Arc::clone(&self.0.clients))
    }

    /// The clients that have no session of a token's.
    pub(super) async fn without_session(&self) -> &Clients {
        if self.config().web_identity.is_none() {
            // Known before the SDK looks, so that what it finds is that, or has changed since.
            self.selector().await;
        }
        &self.0.clients
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Whose AWS credentials this backend had when it was first used.
    pub(super) async fn selector(&self) -> &Selector {
        self.0.selector.get_or_init(|| self.read_selector()).await
    }

    pub(super) fn cache(&self) -> &CredentialsCache {
        &self.0.cache
    }

    pub(super) fn caller_cell(&self) -> &OnceCell<Caller> {
        &self.0.caller
    }

    pub(super) fn check_stage(&self, stage: &Stage) -> Result<()> {
        if *stage == self.config().stage {
            return Ok(());
        }
        Err(Error::invalid(format!("{self} has the stage {}, not {stage}", self.config().stage)))
    }
}

impl fmt::Display for EcrBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ecr://{}/{}", self.0.config.host, self.0.config.stage)
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

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        match organizations {
            Organizations::Only(some) if some.is_empty() => stream::empty().boxed(),
            Organizations::Only(some) if !self.config().full_scan => {
                index::list(self.clone(), some.clone())
            }
            organizations => list::scan(self.clone(), organizations.clone()),
        }
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        self.check_stage(path.stage())?;
        create::create(self, path, options).await
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
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(e) if e.is_repository_not_empty_exception() => {
                    Err(Error::conflict(ResourceKind::Repository, path, "has images"))
                }
                _ => Err(self.call_on("delete the repository", path).failed(error).await),
            },
        }
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        match self.check_stage(path.stage()) {
            Ok(()) => images::list(self.clone(), path.clone()),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        self.check_stage(path.stage())?;
        images::delete(self, path, reference).await
    }

    async fn credentials(&self, scope: &Scope) -> Result<RegistryCredentials> {
        match scope.target() {
            ScopeTarget::Repository(path) => self.check_stage(path.stage())?,
            ScopeTarget::Organizations(stage, organizations) => {
                self.check_stage(stage)?;
                if organizations.is_empty() {
                    return Err(Error::invalid("a scope names at least one organization"));
                }
            }
        }
        self.registry_credentials(scope).await
    }
}
