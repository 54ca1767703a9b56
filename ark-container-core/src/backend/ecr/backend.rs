//! [`EcrBackend`]: the backend for the ECR registry of an AWS account.

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
use super::web_identity::{IamRole, Sessions};
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

/// The timeout of the request for a caller whose identity is only a name in messages.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// The backend for the ECR registry of an AWS account in one region.
///
/// Clones are cheap and share their connections. AWS credentials come from the same sources as for the AWS
/// command line: environment, profiles, SSO, web identity, roles of machines and containers. A
/// [web identity token](EcrBackendBuilder::with_web_identity) replaces them. The account of the credentials
/// may differ from that of the registry, if the policies of the registry allow it. A denial then names both.
///
/// In addition to the contract of [`RegistryBackend`]:
/// - New repositories have the resource tags `ark:organization` and, for a known principal,
///   `ark:created-by`.
/// - A handle acts for one principal or for none, see [`acting_as`](Self::acting_as).
/// - An organization listing is complete if the account has at most 1,000 repositories and the caller may list
///   it. Otherwise the listing comes from the tag index (AWS Resource Groups Tagging), whose cost grows with
///   the number of organizations, not with the account. Such a listing may lack repositories without the tag
///   `ark:organization`. The index lags by seconds or minutes, except for repositories that this user created.
///   [`has_listed_incompletely`](Self::has_listed_incompletely) reports such a listing. If the index is
///   unavailable, or with a [full scan](EcrBackendBuilder::with_full_scan), the whole account is listed.
/// - An image listing includes archived images. The description of an archived image fails with
///   [`Error::NotFound`], whose source says how to restore it.
/// - An image listing has no platforms, children and subjects, because ECR does not list them.
///   [`describe_image`](RegistryBackend::describe_image) also reads the manifest (`ecr:BatchGetImage`). The
///   manifest contains the platforms of an index, but not the platform of a single image.
/// - The last tag of an image that an index refers to cannot be deleted: that is a conflict.
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
    /// The AWS caller. With a token, each principal has its own.
    caller: Arc<OnceCell<Caller>>,
}

/// The state that all handles of one backend share, for all principals.
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
    /// The account of the caller, 12 digits. The account of the registry may be another.
    pub account: String,
    /// The ARN of the user, role session or federated user.
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
    /// name this principal instead of that of the builder. Principals share connections, AWS credentials and
    /// roles, but no STS sessions or cached registry credentials. AWS grants each principal the permissions of
    /// the roles, so the program must authorize the principal itself.
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

    /// Returns the name of the principal that this handle acts for, such as `user:alice`.
    pub(super) fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// Returns the name of the STS sessions of this handle.
    pub(super) fn session_name(&self) -> String {
        session_name(self.principal())
    }

    /// Returns the host of the registry, which contains its account and region.
    pub fn ecr_host(&self) -> &EcrHost {
        &self.shared.config.host
    }

    /// Returns the configuration of the backend.
    pub(crate) fn config(&self) -> &EcrConfig {
        &self.shared.config
    }

    /// Returns the configuration of calls without a session. With a token, it contains no credentials.
    pub(super) async fn aws_config(&self) -> Result<&AwsConfig> {
        self.without_session().config(self.config()).await
    }

    pub(crate) async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        self.ecr_with(IamRole::Access).await
    }

    /// Returns an ECR client with a session of `role` if there is a token, or else with the caller's credentials.
    pub(super) async fn ecr_with(&self, role: IamRole) -> Result<aws_sdk_ecr::Client> {
        Ok(self.clients(role).await?.ecr(self.config()).await?.clone())
    }

    pub(crate) async fn sts(&self) -> Result<aws_sdk_sts::Client> {
        Ok(self.clients(IamRole::Access).await?.sts(self.config()).await?.clone())
    }

    pub(super) async fn tagging(&self) -> Result<aws_sdk_resourcegroupstagging::Client> {
        Ok(self.clients(IamRole::Access).await?.tagging(self.config()).await?.clone())
    }

    pub(super) async fn clients(&self, role: IamRole) -> Result<Arc<Clients>> {
        if let Some(file) = &self.config().web_identity {
            return self.session(file, role).await;
        }
        Ok(Arc::clone(&self.shared.clients))
    }

    /// Returns the clients that do not use the session of a token.
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

    /// Returns whether a listing of this backend or of a clone came from the tag index.
    ///
    /// Such a listing may lack repositories without the resource tag `ark:organization`, and repositories
    /// that others created or tagged in the last minutes.
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
    /// Returns the identity of the caller in AWS. With a token, that is the session of the access role.
    ///
    /// All clones share the result of one request (STS `GetCallerIdentity`, which needs no permission).
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if there are no AWS credentials, or if AWS rejects them;
    /// [`Error::Temporary`] if AWS cannot be reached.
    pub async fn caller(&self) -> Result<&Caller> {
        self.caller.get_or_try_init(|| self.fetch_caller()).await
    }

    /// Returns the identity of the caller for a message, or `None` on an error or timeout.
    pub(crate) async fn caller_in_time(&self) -> Option<&Caller> {
        let caller = tokio::time::timeout(NAME_TIMEOUT, self.caller()).await;
        caller.ok()?.inspect_err(|error| tracing::debug!(%error, "the AWS caller is unknown")).ok()
    }

    async fn fetch_caller(&self) -> Result<Caller> {
        let identity = self.sts().await?.get_caller_identity().send().await;
        let call = self.call("identify the AWS caller of");
        let identity = identity.map_err(|error| call.error(error))?;
        match (identity.account, identity.arn) {
            (Some(account), Some(arn)) => Ok(Caller { account, arn }),
            _ => Err(Error::failed("AWS returned no account or ARN of the caller")),
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
            .ecr_with(IamRole::Administrator)
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
                    return Err(Error::invalid("the scope names no organization"));
                }
            }
        }
        self.registry_credentials(scope, options).await
    }
}
