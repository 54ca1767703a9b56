//! [`Policy`]: who may do what, apart from what enforces it.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Action, Decision};
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{OrganizationId, RepositoryPath};

/// The question that a [`Policy`] answers: may the principal do the action there?
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PolicyRequest<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The action that the caller wants to do.
    pub action: Action,
    /// The organization whose repositories the action is about.
    pub organization: OrganizationId,
    /// The repository, which may not exist. `None` if the action is about the whole organization:
    /// a listing, or credentials for an organization.
    ///
    /// A listing is decided twice: first for the organization, then for each repository found, which is
    /// left out where that is denied.
    pub repository: Option<&'a RepositoryPath>,
}

impl<'a> PolicyRequest<'a> {
    /// Creates a request about all repositories of an organization.
    pub fn new(principal: &'a Principal, action: Action, organization: OrganizationId) -> Self {
        Self { principal, action, organization, repository: None }
    }

    /// Creates a request about one repository.
    pub fn for_repository(
        principal: &'a Principal,
        action: Action,
        repository: &'a RepositoryPath,
    ) -> Self {
        let organization = repository.organization();
        Self { repository: Some(repository), ..Self::new(principal, action, organization) }
    }

    /// Returns the repository or organization as errors name it.
    pub(super) fn resource(&self) -> String {
        match self.repository {
            Some(repository) => repository.to_string(),
            None => format!("organization {}", self.organization),
        }
    }

    /// Returns the error of a request that the policy could not decide, because of `cause`.
    pub(super) fn undecided(&self, cause: Error) -> Error {
        let Self { principal, action, .. } = self;
        let (phrase, resource) = (action.phrase(), self.resource());
        let message = format!("cannot decide whether {principal} may {phrase} {resource}");
        match cause.is_temporary() {
            true => Error::temporary(message).with_source(cause),
            false => Error::failed(message).with_source(cause),
        }
    }
}

/// The rules that say who may do what in which organization.
///
/// A policy is asked before anything else happens, at least once for each call: it must be quick. It denies
/// what it does not know. A decision about a repository must not depend on whether the repository exists,
/// because a denial would reveal that.
///
/// [`policy_fn`] makes a policy of a closure.
#[async_trait]
pub trait Policy: Debug + Send + Sync + 'static {
    /// Decides whether the principal may do the action.
    ///
    /// # Errors
    /// Any failure to decide. The call is not made, and its error is
    /// [`Error::Temporary`](crate::Error::Temporary) if this error is, else
    /// [`Error::Failed`](crate::Error::Failed), with this error as its source.
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision>;
}

#[async_trait]
impl<P: Policy + ?Sized> Policy for Arc<P> {
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        (**self).decide(request).await
    }
}

/// A policy that is a closure; see [`policy_fn`].
#[derive(Clone, Copy)]
pub struct PolicyFn<F>(F);

/// Creates a policy that decides as the closure does.
///
/// A policy that waits for something implements [`Policy`] itself.
///
/// ```
/// use ark_container_core::permission::{Action, Decision, policy_fn};
///
/// let read_only = policy_fn(|request| {
///     let reads = matches!(request.action, Action::ListRepositories | Action::Pull);
///     Ok(match reads && request.principal.is_member_of(request.organization) {
///         true => Decision::allow("members-read"),
///         false => Decision::deny("read-only"),
///     })
/// });
/// ```
pub fn policy_fn<F>(decide: F) -> PolicyFn<F>
where
    F: Fn(&PolicyRequest<'_>) -> Result<Decision> + Send + Sync + 'static,
{
    PolicyFn(decide)
}

impl<F> Debug for PolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyFn")
    }
}

#[async_trait]
impl<F> Policy for PolicyFn<F>
where
    F: Fn(&PolicyRequest<'_>) -> Result<Decision> + Send + Sync + 'static,
{
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        (self.0)(request)
    }
}
