//! [`Policy`]: who may do what, apart from what enforces it.

use std::fmt::{self, Debug};

use super::{Action, Decision};
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::OrganizationId;

/// Who may do what in which organization.
///
/// A policy decides by organization, never by repository, so that its answer cannot depend on
/// whether a repository exists. It is asked before anything else happens: it must be quick, and what
/// it does not know it denies.
///
/// [`policy_fn`] makes one of a closure.
pub trait Policy: Debug + Send + Sync + 'static {
    /// Whether `principal` may do `action` with the repositories of `organization`.
    ///
    /// # Errors
    /// Whatever keeps it from deciding. That is a denial: nothing is done, and the error is reported.
    fn decide(
        &self,
        principal: &Principal,
        action: Action,
        organization: OrganizationId,
    ) -> Result<Decision>;
}

/// A policy that is a closure; see [`policy_fn`].
#[derive(Clone, Copy)]
pub struct PolicyFn<F>(F);

/// The policy that decides as the closure does.
///
/// ```
/// use ark_container_core::permission::{Action, Decision, policy_fn};
///
/// let read_only = policy_fn(|principal, action, organization| {
///     let reads = matches!(action, Action::ListRepositories | Action::Pull);
///     Ok(match reads && principal.is_member_of(organization) {
///         true => Decision::allow("members-read"),
///         false => Decision::deny("read-only"),
///     })
/// });
/// ```
pub fn policy_fn<F>(decide: F) -> PolicyFn<F>
where
    F: Fn(&Principal, Action, OrganizationId) -> Result<Decision> + Send + Sync + 'static,
{
    PolicyFn(decide)
}

impl<F> Debug for PolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyFn")
    }
}

impl<F> Policy for PolicyFn<F>
where
    F: Fn(&Principal, Action, OrganizationId) -> Result<Decision> + Send + Sync + 'static,
{
    fn decide(
        &self,
        principal: &Principal,
        action: Action,
        organization: OrganizationId,
    ) -> Result<Decision> {
        (self.0)(principal, action, organization)
    }
}

/// The error of whoever asked a policy that could not decide, because of `error`.
pub(super) fn undecided(
    principal: &Principal,
    action: Action,
    resource: impl fmt::Display,
    error: Error,
) -> Error {
    let action = action.phrase();
    Error::failed(format!("cannot decide whether {principal} may {action} {resource}"))
        .with_source(error)
}
