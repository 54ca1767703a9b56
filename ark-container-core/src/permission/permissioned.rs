//! [`Permissioned`]: a backend that asks a policy first.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::{Action, Decision, Policy, audit};
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{
    Access, OrganizationId, Organizations, Reference, RegistryHost, RepositoryPath, Scope,
    ScopeTarget, Stage,
};

/// A backend that does for one principal what a [`Policy`] allows, and nothing else.
///
/// The policy is asked before the backend inside is touched, so a denial is
/// [`Error::PermissionDenied`] whether or not the repository exists. Listings show only what may be
/// listed: a request for an organization that is denied fails, and one for
/// [`Organizations::All`] is narrowed to those of the principal and the global one.
/// Each decision is an [audit event](super::AUDIT_TARGET). There is no way to the backend inside.
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
#[derive(Debug, Clone)]
pub struct Permissioned<B> {
    inner: B,
    policy: Arc<dyn Policy>,
    principal: Arc<Principal>,
}

impl<B: RegistryBackend> Permissioned<B> {
    /// Guards `inner` for `principal`.
    pub fn new(inner: B, policy: Arc<dyn Policy>, principal: Principal) -> Self {
        Self { inner, policy, principal: Arc::new(principal) }
    }

    /// The same backend and policy for another principal. It costs a clone of the backend, so put an
    /// `Arc` inside where there are many principals.
    pub fn for_principal(&self, principal: Principal) -> Self
    where
        B: Clone,
    {
        Self::new(self.inner.clone(), Arc::clone(&self.policy), principal)
    }

    /// Whom it works for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Decides about an organization, or about one of its repositories, and reports it.
    fn decide(
        &self,
        action: Action,
        organization: OrganizationId,
        repository: Option<&RepositoryPath>,
    ) -> Decision {
        let decision = self.policy.decide(&self.principal, action, organization);
        audit::record(&self.principal, action, &organization.to_string(), repository, decision);
        decision
    }

    fn check_repository(&self, action: Action, path: &RepositoryPath) -> Result<()> {
        let decision = self.decide(action, path.organization(), Some(path));
        self.enforce(decision, action, path)
    }

    fn check_organization(&self, action: Action, organization: OrganizationId) -> Result<()> {
        let decision = self.decide(action, organization, None);
        self.enforce(decision, action, format_args!("organization {organization}"))
    }

    fn enforce(
        &self,
        decision: Decision,
        action: Action,
        resource: impl fmt::Display,
    ) -> Result<()> {
        if decision.is_allowed() {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            principal: self.principal.to_string(),
            action: action.phrase().to_owned(),
            resource: resource.to_string(),
        })
    }

    /// The organizations that a listing may ask the backend inside for.
    fn listed(&self, asked: &Organizations) -> Result<Organizations> {
        let action = Action::ListRepositories;
        if let Organizations::Only(asked) = asked {
            for organization in asked {
                self.check_organization(action, *organization)?;
            }
            return Ok(Organizations::Only(asked.clone()));
        }
        let Organizations::Only(mut own) = self.principal.organizations() else {
            // Which organizations there are is known only as their repositories come.
            let decision = Decision::allow("member-of-every-organization");
            audit::record(&self.principal, action, "*", None, decision);
            return Ok(Organizations::All);
        };
        own.insert(OrganizationId::GLOBAL);
        own.retain(|organization| self.decide(action, *organization, None).is_allowed());
        Ok(Organizations::Only(own))
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

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        let listed = match self.listed(organizations) {
            Ok(listed) if listed == Organizations::none() => return stream::empty().boxed(),
            Ok(listed) => listed,
            Err(denied) => return stream::iter([Err(denied)]).boxed(),
        };
        let repositories = self.inner.list_repositories(&listed);
        let (policy, principal) = (Arc::clone(&self.policy), Arc::clone(&self.principal));
        let allowed = move |repository: &Repository| {
            let organization = repository.url.path().organization();
            let decide = || policy.decide(&principal, Action::ListRepositories, organization);
            listed.contains(organization) && decide().is_allowed()
        };
        // The backend inside is not trusted to have left out what was not asked for.
        repositories.try_filter(move |repository| std::future::ready(allowed(repository))).boxed()
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        self.check_repository(Action::CreateRepository, path)?;
        self.inner.create_repository(path, options).await
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        self.check_repository(Action::DescribeRepository, path)?;
        self.inner.describe_repository(path).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.check_repository(Action::DeleteRepository, path)?;
        self.inner.delete_repository(path, options).await
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        match self.check_repository(Action::ListImages, path) {
            Ok(()) => self.inner.list_images(path),
            Err(denied) => stream::iter([Err(denied)]).boxed(),
        }
    }

    async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        self.check_repository(Action::DeleteImage, path)?;
        self.inner.delete_image(path, reference).await
    }

    async fn credentials(&self, scope: &Scope) -> Result<RegistryCredentials> {
        // Without an organization there is nothing to decide about, so nothing may be allowed.
        if scope.organization_ids().is_empty() {
            return Err(Error::invalid("the scope of the credentials names no organization"));
        }
        for action in opened_by(scope.access()) {
            match scope.target() {
                ScopeTarget::Repository(path) => self.check_repository(*action, path)?,
                ScopeTarget::Organizations(_, organizations) => {
                    for organization in organizations {
                        self.check_organization(*action, *organization)?;
                    }
                }
            }
        }
        self.inner.credentials(scope).await
    }
}

/// The actions that credentials with this access open.
fn opened_by(access: Access) -> &'static [Action] {
    match access {
        Access::Pull => &[Action::Pull],
        Access::Push => &[Action::Pull, Action::Push],
        Access::Delete => &[Action::Pull, Action::Push, Action::DeleteImage],
    }
}

impl<B: fmt::Display> fmt::Display for Permissioned<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
