//! [`Permissioned`]: a backend that asks a policy first.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::{Action, Decision, Policy, audit};
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::identity::{IdentitySource, Principal};
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
#[derive(Debug)]
pub struct Permissioned<B> {
    inner: Arc<B>,
    policy: Arc<dyn Policy>,
    identity: Arc<dyn IdentitySource>,
}

impl<B: RegistryBackend> Permissioned<B> {
    /// Guards `inner` for whoever `identity` says is asking: a [`Principal`], or a source of one.
    pub fn new(inner: B, policy: Arc<dyn Policy>, identity: impl IdentitySource) -> Self {
        Self { inner: Arc::new(inner), policy, identity: Arc::new(identity) }
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

    /// Who asks now, and the policy that decides about them.
    async fn request(&self) -> Result<Request> {
        Ok(Request { policy: Arc::clone(&self.policy), principal: self.principal().await? })
    }

    /// What a listing yields once it is known who asks.
    fn listing<T: Send + 'static>(
        &self,
        list: impl FnOnce(Request) -> BoxStream<'static, Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let (policy, identity) = (Arc::clone(&self.policy), Arc::clone(&self.identity));
        let listed = async move {
            identity.principal().await.map(|principal| list(Request { policy, principal }))
        };
        stream::once(listed).try_flatten().boxed()
    }
}

impl<B> Clone for Permissioned<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            policy: Arc::clone(&self.policy),
            identity: Arc::clone(&self.identity),
        }
    }
}

/// One call: who makes it, and the policy that decides about it.
#[derive(Debug)]
struct Request {
    policy: Arc<dyn Policy>,
    principal: Arc<Principal>,
}

impl Request {
    /// Decides about an organization, or about one of its repositories, and reports it.
    fn decide(
        &self,
        action: Action,
        organization: OrganizationId,
        repository: Option<&RepositoryPath>,
    ) -> Result<Decision> {
        let decision = self.policy.decide(&self.principal, action, organization)?;
        audit::record(&self.principal, action, &organization.to_string(), repository, &decision);
        Ok(decision)
    }

    fn check_repository(&self, action: Action, path: &RepositoryPath) -> Result<()> {
        let decision = self.decide(action, path.organization(), Some(path))?;
        self.enforce(&decision, action, path)
    }

    fn check_organization(&self, action: Action, organization: OrganizationId) -> Result<()> {
        let decision = self.decide(action, organization, None)?;
        self.enforce(&decision, action, format_args!("organization {organization}"))
    }

    fn enforce(
        &self,
        decision: &Decision,
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
            audit::record(&self.principal, action, "*", None, &decision);
            return Ok(Organizations::All);
        };
        own.insert(OrganizationId::GLOBAL);
        let mut listed = BTreeSet::new();
        for organization in own {
            if self.decide(action, organization, None)?.is_allowed() {
                listed.insert(organization);
            }
        }
        Ok(Organizations::Only(listed))
    }

    /// Whether a repository that the backend inside listed may be shown.
    fn shows(&self, repository: &Repository, listed: &Organizations) -> Result<bool> {
        let organization = repository.url.path().organization();
        if !listed.contains(organization) {
            return Ok(false);
        }
        let action = Action::ListRepositories;
        Ok(self.policy.decide(&self.principal, action, organization)?.is_allowed())
    }

    /// Checks everything that credentials of this scope open.
    fn check_scope(&self, scope: &Scope) -> Result<()> {
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
        Ok(())
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
        let (inner, asked) = (Arc::clone(&self.inner), organizations.clone());
        self.listing(move |request| {
            let listed = match request.listed(&asked) {
                Ok(listed) if listed == Organizations::none() => return stream::empty().boxed(),
                Ok(listed) => listed,
                Err(denied) => return stream::iter([Err(denied)]).boxed(),
            };
            let repositories = inner.list_repositories(&listed);
            // The backend inside is not trusted to have left out what was not asked for.
            let shown = move |repository: Repository| {
                let shows = request.shows(&repository, &listed);
                std::future::ready(shows.map(|shows| shows.then_some(repository)))
            };
            repositories.try_filter_map(shown).boxed()
        })
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        self.request().await?.check_repository(Action::CreateRepository, path)?;
        self.inner.create_repository(path, options).await
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        self.request().await?.check_repository(Action::DescribeRepository, path)?;
        self.inner.describe_repository(path).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.request().await?.check_repository(Action::DeleteRepository, path)?;
        self.inner.delete_repository(path, options).await
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        self.listing(move |request| match request.check_repository(Action::ListImages, &path) {
            Ok(()) => inner.list_images(&path),
            Err(denied) => stream::iter([Err(denied)]).boxed(),
        })
    }

    async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        self.request().await?.check_repository(Action::DeleteImage, path)?;
        self.inner.delete_image(path, reference).await
    }

    async fn credentials(&self, scope: &Scope) -> Result<RegistryCredentials> {
        self.request().await?.check_scope(scope)?;
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
