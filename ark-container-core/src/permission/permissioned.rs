//! [`Permissioned`]: a backend that asks a policy first.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::request::Request;
use super::{Action, AuditFile, Policy};
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::{IdentitySource, Principal};
use crate::model::{Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage};

/// A backend that does for one principal what a [`Policy`] allows, and nothing else.
///
/// The policy is asked before the backend inside is touched, so a denial is
/// [`Error::PermissionDenied`](crate::Error::PermissionDenied) whether or not the repository exists.
/// Listings show only what may be listed: a request for an organization that is denied fails, and
/// one for [`Organizations::All`] is narrowed to those of the principal and the global one.
/// What is decided and done is recorded in the [audit](super::audit). There is no way to the backend
/// inside.
///
/// ```
/// use std::sync::Arc;
///
/// use ark_container_core::identity::single_user;
/// use ark_container_core::permission::{Permissioned, StandardPolicy};
/// use ark_container_core::{Error, RegistryBackend};
///
/// # async fn run(
/// #     backend: Arc<dyn RegistryBackend>,
/// #     path: ark_container_core::model::RepositoryPath,
/// # ) -> ark_container_core::Result<()> {
/// let robot = single_user("robot:nightly".parse()?);
/// let guarded = Permissioned::new(backend, Arc::new(StandardPolicy), robot);
/// let denied = guarded.create_repository(&path, &Default::default()).await;
/// assert!(matches!(denied, Err(Error::PermissionDenied { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Permissioned<B> {
    inner: Arc<B>,
    policy: Arc<dyn Policy>,
    identity: Arc<dyn IdentitySource>,
    audit_file: Option<AuditFile>,
}

impl<B: RegistryBackend> Permissioned<B> {
    /// Guards `inner` for whoever `identity` says is asking: a [`Principal`], or a source of one.
    pub fn new(inner: B, policy: Arc<dyn Policy>, identity: impl IdentitySource) -> Self {
        let identity = Arc::new(identity);
        Self { inner: Arc::new(inner), policy, identity, audit_file: None }
    }

    /// The same, with its [audit](super::audit) kept in a file too.
    ///
    /// What cannot be recorded is not done: where the file cannot be written, every call fails.
    pub fn with_audit(self, file: AuditFile) -> Self {
        Self { audit_file: Some(file), ..self }
    }

    /// The same backend and policy for another principal, such as the one of a service's request.
    ///
    /// It is as cheap as a clone: the backend is shared.
    pub fn for_principal(&self, principal: impl Into<Arc<Principal>>) -> Self {
        Self { identity: Arc::new(principal.into()), ..self.clone() }
    }

    /// Whom it works for now.
    ///
    /// # Errors
    /// Those of the [`IdentitySource`].
    pub async fn principal(&self) -> Result<Arc<Principal>> {
        self.identity.principal().await
    }

    /// The backend inside, with `principal` as the caller that its registry records.
    fn inner_for(&self, principal: &Arc<Principal>) -> Arc<dyn RegistryBackend> {
        self.inner.acting_as(principal).unwrap_or_else(|| Arc::clone(&self.inner) as _)
    }

    /// A call by whoever asks now.
    async fn request(&self) -> Result<Request> {
        let principal = self.principal().await?;
        Ok(Request::new(Arc::clone(&self.policy), principal, self.audit_file.as_ref()))
    }
}

impl<B> Clone for Permissioned<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            policy: Arc::clone(&self.policy),
            identity: Arc::clone(&self.identity),
            audit_file: self.audit_file.clone(),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: RegistryBackend> RegistryBackend for Permissioned<B> {
    fn host(&self) -> RegistryHost {
        self.inner.host()
    }

    fn stage(&self) -> Stage {
        self.inner.stage()
    }

    /// Returns `None`: this backend goes on to authorize its own callers, whatever the wrapper around it
    /// has authorized.
    fn acting_as(&self, _: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        None
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        let (this, asked) = (self.clone(), organizations.clone());
        listing(async move {
            let request = this.request().await?;
            let listed = request.listed(&asked).await?;
            if listed == Organizations::none() {
                return Ok(stream::empty().boxed());
            }
            let rows = this.inner_for(request.principal()).list_repositories(&listed);
            Ok(stream::try_unfold(Rows { request, listed, rows }, Rows::next).boxed())
        })
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        let request = self.request().await?;
        let change = request.begin_change(Action::CreateRepository, path).await?;
        let result = self.inner_for(request.principal()).create_repository(path, options).await;
        change.finish(&result).await;
        result
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        let request = self.request().await?;
        request.check(Action::DescribeRepository, path).await?;
        self.inner_for(request.principal()).describe_repository(path).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        let request = self.request().await?;
        let change = request.begin_change(Action::DeleteRepository, path).await?;
        let result = self.inner_for(request.principal()).delete_repository(path, options).await;
        change.finish(&result).await;
        result
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        let (this, path) = (self.clone(), path.clone());
        listing(async move {
            let request = this.request().await?;
            request.check(Action::ListImages, &path).await?;
            Ok(this.inner_for(request.principal()).list_images(&path))
        })
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        let request = self.request().await?;
        request.check(Action::ListImages, path).await?;
        self.inner_for(request.principal()).describe_image(path, reference).await
    }

    async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        let request = self.request().await?;
        let change = request.begin_change(Action::DeleteImage, path).await?.of_image(reference);
        let result = self.inner_for(request.principal()).delete_image(path, reference).await;
        change.finish(&result).await;
        result
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        let request = self.request().await?;
        request.check_scope(scope).await?;
        let inner = self.inner_for(request.principal());
        request.hand_out(inner.credentials(scope, options).await?).await
    }
}

/// What a listing yields once it is known what may be listed.
fn listing<T: Send + 'static>(
    rows: impl Future<Output = Result<BoxStream<'static, Result<T>>>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    stream::once(rows).try_flatten().boxed()
}

/// The repositories that the backend inside lists for a request.
struct Rows {
    request: Request,
    listed: Organizations,
    rows: BoxStream<'static, Result<Repository>>,
}

impl Rows {
    /// The next one that may be shown: the backend inside is not trusted to have left out what was
    /// not asked for.
    async fn next(mut self) -> Result<Option<(Repository, Self)>> {
        while let Some(row) = self.rows.try_next().await? {
            if self.request.shows(&row, &self.listed).await? {
                return Ok(Some((row, self)));
            }
        }
        Ok(None)
    }
}

impl<B: fmt::Display> fmt::Display for Permissioned<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
