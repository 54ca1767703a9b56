//! [`Policy`]: who may do what, apart from what enforces it.

use std::fmt::{self, Debug};
use std::sync::Arc;

use super::Action;
use crate::error::Result;
use crate::identity::{Principal, PrincipalKind};
use crate::model::OrganizationId;

/// What a [`Policy`] answers: whether it is allowed, by which rule, and where that rule is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    allowed: bool,
    rule: &'static str,
    origin: Option<Arc<str>>,
}

impl Decision {
    /// Allowed by `rule`.
    pub const fn allow(rule: &'static str) -> Self {
        Self { allowed: true, rule, origin: None }
    }

    /// Denied by `rule`.
    pub const fn deny(rule: &'static str) -> Self {
        Self { allowed: false, rule, origin: None }
    }

    /// The same decision, by a rule that is written at `origin`, such as `memberships.toml:12`.
    pub fn written_at(mut self, origin: Arc<str>) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Whether it is allowed.
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The rule that decided, in a word or two with hyphens, for the audit.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }

    /// Where the rule is written; `None` for one that the policy has by itself.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

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

/// The rules of the catalog.
///
/// | principal | may |
/// |---|---|
/// | administrator of the organization, of any kind | do everything |
/// | anyone, in the [global organization](OrganizationId::GLOBAL) | read |
/// | user who is a member | read, create repositories, push |
/// | robot or ingest job that is a member | read |
/// | anyone else | nothing |
///
/// To read is to list, to describe and to pull. Membership of the global organization gives no more
/// than everyone has.
///
/// ```
/// use ark_container_core::identity::single_user;
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::permission::{Action, Policy, StandardPolicy};
///
/// let robot = single_user("robot:nightly".parse()?);
/// let decision = StandardPolicy.decide(&robot, Action::Push, OrganizationId::TBD)?;
/// assert!(!decision.is_allowed());
/// assert_eq!(decision.rule(), "robots-read");
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardPolicy;

impl Policy for StandardPolicy {
    fn decide(
        &self,
        principal: &Principal,
        action: Action,
        organization: OrganizationId,
    ) -> Result<Decision> {
        Ok(standard(principal, action, organization))
    }
}

fn standard(principal: &Principal, action: Action, organization: OrganizationId) -> Decision {
    if principal.administers(organization) {
        return Decision::allow("administrator");
    }
    if organization == OrganizationId::GLOBAL {
        return match effect(action) {
            Effect::Reads => Decision::allow("everyone-reads-global"),
            Effect::Adds | Effect::Removes => Decision::deny("administrators-change-global"),
        };
    }
    if !principal.is_member_of(organization) {
        return Decision::deny("not-a-member");
    }
    match (principal.kind(), effect(action)) {
        (PrincipalKind::User, Effect::Reads | Effect::Adds) => Decision::allow("member"),
        (PrincipalKind::User, Effect::Removes) => Decision::deny("administrators-delete"),
        (PrincipalKind::Robot, Effect::Reads) => Decision::allow("member"),
        (PrincipalKind::Robot, Effect::Adds | Effect::Removes) => Decision::deny("robots-read"),
        (PrincipalKind::IngestJob, Effect::Reads) => Decision::allow("member"),
        (PrincipalKind::IngestJob, Effect::Adds | Effect::Removes) => {
            Decision::deny("ingest-jobs-read")
        }
    }
}

/// What an action does to an organization, as far as the rules tell actions apart.
enum Effect {
    Reads,
    Adds,
    Removes,
}

fn effect(action: Action) -> Effect {
    match action {
        Action::ListRepositories
        | Action::DescribeRepository
        | Action::ListImages
        | Action::Pull => Effect::Reads,
        Action::CreateRepository | Action::Push => Effect::Adds,
        Action::DeleteRepository | Action::DeleteImage => Effect::Removes,
    }
}
