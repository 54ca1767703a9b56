//! [`Policy`]: decides whether a principal may perform an action.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Action, Decision};
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{OrganizationId, RepositoryPath};

/// The request that a [`Policy`] decides: a principal, an action, and an organization or repository.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PolicyRequest<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The action that the caller requests.
    pub action: Action,
    /// The organization to which the action applies.
    pub organization: OrganizationId,
    /// The repository, which may not exist. `None` if the action applies to the whole organization: a
    /// listing, or credentials for an organization.
    ///
    /// A listing needs two kinds of decisions: one for the organization, and one for each repository found.
    /// A denied repository is left out.
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

    /// Returns the name of the repository or organization in errors.
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

/// The rules that decide which principal may perform which action in which organization.
///
/// A policy is called at the start of each call, at least once, so it must be fast. A policy must deny actions
/// that it does not know. A decision about a repository must not depend on whether the repository exists,
/// because a denial would reveal that.
///
/// [`policy_fn`] creates a policy from a closure.
#[async_trait]
pub trait Policy: Debug + Send + Sync + 'static {
    /// Decides whether the principal may perform the action.
    ///
    /// # Errors
    /// Any failure to decide. The call then fails with this error as its source: as
    /// [`Error::Temporary`](crate::Error::Temporary) if this error is temporary, otherwise as
    /// [`Error::Failed`](crate::Error::Failed).
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision>;
}

#[async_trait]
impl<P: Policy + ?Sized> Policy for Arc<P> {
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        (**self).decide(request).await
    }
}

/// A policy from a closure; see [`policy_fn`].
#[derive(Clone, Copy)]
pub struct PolicyFn<F>(F);

/// Creates a policy from a closure.
///
/// A policy that needs to await must implement [`Policy`] instead.
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
