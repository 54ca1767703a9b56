//! [`Permissioned`]: a backend that checks each call against a policy.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::audit::{AuditedResource, CallAudit, PendingChange};
use super::{Action, AuditFile, Decision, Policy, PolicyRequest};
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::{Error, Result};
use crate::identity::{IdentitySource, Principal};
use crate::model::{
    Access, Digest, OrganizationId, Organizations, Reference, RegistryHost, RepositoryPath, Scope,
    ScopeTarget, Stage,
};

/// A backend that performs for one principal only the actions that a [`Policy`] allows.
///
/// The policy is checked before the inner backend is called. So a denied call returns
/// [`Error::PermissionDenied`](crate::Error::PermissionDenied) whether or not the repository exists. A listing of a
/// denied organization fails. A listing of [`Organizations::All`] is limited to the organizations of the principal
/// and the global one. Repositories that the policy denies are left out. Decisions and changes are recorded in the
/// [audit](super::audit). No method returns the unguarded inner backend.
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
/// let guarded = Permissioned::new(backend, StandardPolicy, robot);
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
    /// Guards `inner` for a [`Principal`], or for the principal of another identity source.
    pub fn new(inner: B, policy: impl Policy, identity: impl IdentitySource) -> Self {
        Self {
            inner: Arc::new(inner),
            policy: Arc::new(policy),
            identity: Arc::new(identity),
            audit_file: None,
        }
    }

    /// Also writes the [audit](super::audit) to a file.
    ///
    /// A call that cannot be recorded is not made: if the file cannot be written, every call fails.
    pub fn with_audit(self, file: AuditFile) -> Self {
        Self { audit_file: Some(file), ..self }
    }

    /// Returns the same backend and policy for another principal, such as the caller of a service.
    ///
    /// The cost is that of a clone: the backend is shared. The method [`RegistryBackend::acting_as`] is
    /// different: it passes the principal to the registry for its records, and authorizes nothing.
    pub fn for_principal(&self, principal: impl Into<Arc<Principal>>) -> Self {
        Self { identity: Arc::new(principal.into()), ..self.clone() }
    }

    /// Returns the current principal of the [`IdentitySource`].
    ///
    /// # Errors
    /// Those of the [`IdentitySource`].
    pub async fn principal(&self) -> Result<Arc<Principal>> {
        self.identity.principal().await
    }

    /// Starts the audit record of a push that a program makes directly in the registry, with credentials of
    /// this backend. The record makes pushes and copies part of the [audit](super::audit).
    ///
    /// Use one record for each tag. The permission is checked when the credentials are requested.
    ///
    /// ```
    /// # use ark_container_core::permission::Permissioned;
    /// # use ark_container_core::model::{Digest, Reference, RepositoryPath};
    /// # use ark_container_core::{RegistryBackend, Result};
    /// # async fn run<B: RegistryBackend>(
    /// #     backend: &Permissioned<B>,
    /// #     path: &RepositoryPath,
    /// #     reference: &Reference,
    /// #     push: impl AsyncFnOnce(&RepositoryPath, &Reference) -> Result<Digest>,
    /// # ) -> Result<()> {
    /// let mut change = backend.begin_push(path).await?;
    /// change.set_reference(reference);
    /// let pushed = push(path, reference).await;
    /// if let Ok(digest) = &pushed {
    ///     change.set_digest(digest);
    /// }
    /// change.finish(&pushed).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the [`IdentitySource`].
    pub async fn begin_push(&self, path: &RepositoryPath) -> Result<PendingChange> {
        Ok(self.begin_call().await?.audit.begin_change(Action::Push, path))
    }

    /// Starts a call by the current principal.
    async fn begin_call(&self) -> Result<Call> {
        let principal = self.principal().await?;
        let audit = CallAudit::begin(self.audit_file.as_ref(), &principal);
        Ok(Call { policy: Arc::clone(&self.policy), principal, audit })
    }

    /// Returns the inner backend. Its registry records the principal of `call` as the caller.
    fn inner_for(&self, call: &Call) -> Arc<dyn RegistryBackend> {
        self.inner.acting_as(&call.principal).unwrap_or_else(|| Arc::clone(&self.inner) as _)
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

    /// Returns `None`: this backend authorizes its own callers, even if the wrapper around it has already
    /// authorized them.
    fn acting_as(&self, _: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        None
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        let (this, asked) = (self.clone(), organizations.clone());
        listing(async move {
            let call = this.begin_call().await?;
            let listed = call.listable(&asked).await?;
            if listed == Organizations::none() {
                return Ok(stream::empty().boxed());
            }
            let rows = this.inner_for(&call).list_repositories(&listed);
            Ok(stream::try_unfold(Rows { call, listed, rows }, Rows::next).boxed())
        })
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        let call = self.begin_call().await?;
        if options.lifecycle_policy.is_some() {
            // A lifecycle policy deletes images, also in a repository that exists.
            call.check(Action::DeleteImage, path).await?;
        }
        let change = call.begin_change(Action::CreateRepository, path).await?;
        let result = self.inner_for(&call).create_repository(path, options).await;
        change.finish(&result).await;
        result
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        let call = self.begin_call().await?;
        call.check(Action::DescribeRepository, path).await?;
        self.inner_for(&call).describe_repository(path).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        let call = self.begin_call().await?;
        let change = call.begin_change(Action::DeleteRepository, path).await?;
        let result = self.inner_for(&call).delete_repository(path, options).await;
        change.finish(&result).await;
        result
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        let (this, path) = (self.clone(), path.clone());
        listing(async move {
            let call = this.begin_call().await?;
            call.check(Action::ListImages, &path).await?;
            Ok(this.inner_for(&call).list_images(&path))
        })
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        let call = self.begin_call().await?;
        call.check(Action::ListImages, path).await?;
        self.inner_for(&call).describe_image(path, reference).await
    }

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let call = self.begin_call().await?;
        let mut change = call.begin_change(Action::DeleteImage, path).await?;
        change.set_reference(reference);
        let result = self.inner_for(&call).delete_image(path, reference).await;
        if let Ok(Some(digest)) = &result {
            change.set_digest(digest);
        }
        change.finish(&result).await;
        result
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        let call = self.begin_call().await?;
        call.check_scope(scope).await?;
        let inner = self.inner_for(&call);
        call.hand_out(inner.credentials(scope, options).await?).await
    }
}

impl<B: fmt::Display> fmt::Display for Permissioned<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Returns the stream of `rows`, once the policy has decided.
fn listing<T: Send + 'static>(
    rows: impl Future<Output = Result<BoxStream<'static, Result<T>>>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    stream::once(rows).try_flatten().boxed()
}

/// The repositories that the inner backend lists, without those that the policy denies.
struct Rows {
    call: Call,
    listed: Organizations,
    rows: BoxStream<'static, Result<Repository>>,
}

impl Rows {
    async fn next(mut self) -> Result<Option<(Repository, Self)>> {
        while let Some(row) = self.rows.try_next().await? {
            if self.call.shows(&row, &self.listed).await? {
                return Ok(Some((row, self)));
            }
        }
        Ok(None)
    }
}

/// One call: its principal, its policy and its audit record.
#[derive(Debug)]
struct Call {
    policy: Arc<dyn Policy>,
    principal: Arc<Principal>,
    audit: CallAudit,
}

impl Call {
    fn on_repository<'a>(&'a self, action: Action, path: &'a RepositoryPath) -> PolicyRequest<'a> {
        PolicyRequest::for_repository(&self.principal, action, path)
    }

    fn on_organization(&self, action: Action, organization: OrganizationId) -> PolicyRequest<'_> {
        PolicyRequest::new(&self.principal, action, organization)
    }

    /// Fails unless the policy allows `action` on one repository.
    async fn check(&self, action: Action, path: &RepositoryPath) -> Result<()> {
        self.require(self.on_repository(action, path)).await
    }

    /// Checks an action that changes a repository, and starts its audit record.
    async fn begin_change(&self, action: Action, path: &RepositoryPath) -> Result<PendingChange> {
        self.check(action, path).await?;
        Ok(self.audit.clone().begin_change(action, path))
    }

    /// Checks every action that credentials of this scope allow.
    async fn check_scope(&self, scope: &Scope) -> Result<()> {
        // A scope without an organization would pass without any check.
        if scope.organization_ids().is_empty() {
            return Err(Error::invalid("the scope of the credentials contains no organization"));
        }
        for action in allowed_by(scope.access()) {
            match scope.target() {
                ScopeTarget::Repository(path) => self.check(*action, path).await?,
                ScopeTarget::Organizations(_, organizations) => {
                    for organization in organizations {
                        self.require(self.on_organization(*action, *organization)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Records credentials before the caller receives them.
    async fn hand_out(&self, credentials: RegistryCredentials) -> Result<RegistryCredentials> {
        self.audit.credentials(&credentials).await?;
        Ok(credentials)
    }

    /// Returns the organizations whose repositories the inner backend may list.
    async fn listable(&self, asked: &Organizations) -> Result<Organizations> {
        let action = Action::ListRepositories;
        if let Organizations::Only(asked) = asked {
            for organization in asked {
                self.require(self.on_organization(action, *organization)).await?;
            }
            return Ok(Organizations::Only(asked.clone()));
        }
        let Organizations::Only(mut own) = self.principal.organizations() else {
            // The organizations are unknown until their repositories are listed.
            let decision = Decision::allow("member-of-every-organization");
            self.audit.decision(action, AuditedResource::EveryOrganization, &decision).await?;
            return Ok(Organizations::All);
        };
        own.insert(OrganizationId::GLOBAL);
        let mut listed = BTreeSet::new();
        for organization in own {
            if self.decide(self.on_organization(action, organization)).await?.is_allowed() {
                listed.insert(organization);
            }
        }
        Ok(Organizations::Only(listed))
    }

    /// Returns whether a repository from the inner backend may be listed. The inner backend is not trusted
    /// to list the requested organizations only.
    async fn shows(&self, repository: &Repository, listed: &Organizations) -> Result<bool> {
        let path = repository.url.path();
        if !listed.contains(path.organization()) {
            return Ok(false);
        }
        match self.policy.decide(&self.on_repository(Action::ListRepositories, path)).await {
            Ok(decision) => Ok(decision.is_allowed()),
            Err(error) => {
                let listing = self.on_organization(Action::ListRepositories, path.organization());
                Err(self.report_undecided(&listing, error).await)
            }
        }
    }

    async fn require(&self, request: PolicyRequest<'_>) -> Result<()> {
        let decision = self.decide(request).await?;
        if decision.is_allowed() {
            return Ok(());
        }
        let (phrase, resource) = (request.action.phrase(), request.resource());
        Err(Error::permission_denied(&self.principal, phrase, resource).with_decision(decision))
    }

    /// Gets the decision of the policy, and records it.
    async fn decide(&self, request: PolicyRequest<'_>) -> Result<Decision> {
        match self.policy.decide(&request).await {
            Ok(decision) => {
                self.audit.decision(request.action, (&request).into(), &decision).await?;
                Ok(decision)
            }
            Err(error) => Err(self.report_undecided(&request, error).await),
        }
    }

    /// Records that the policy could not decide. Returns the error of the call.
    async fn report_undecided(&self, request: &PolicyRequest<'_>, error: Error) -> Error {
        match self.audit.undecided(request.action, request.into(), &error).await {
            Ok(()) => request.undecided(error),
            Err(unrecorded) => unrecorded,
        }
    }
}

/// Returns the actions that credentials with this access level allow.
fn allowed_by(access: Access) -> &'static [Action] {
    match access {
        Access::Pull => &[Action::Pull],
        Access::Push => &[Action::Pull, Action::Push],
        Access::Delete => &[Action::Pull, Action::Push, Action::DeleteImage],
    }
}
