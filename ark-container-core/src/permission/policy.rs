//! [`Policy`]: who may do what, apart from what enforces it.

use std::fmt::Debug;

use super::Action;
use crate::identity::{Principal, PrincipalKind};
use crate::model::OrganizationId;

/// What a [`Policy`] answers: whether it is allowed, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    allowed: bool,
    rule: &'static str,
}

impl Decision {
    /// Allowed by `rule`.
    pub const fn allow(rule: &'static str) -> Self {
        Self { allowed: true, rule }
    }

    /// Denied by `rule`.
    pub const fn deny(rule: &'static str) -> Self {
        Self { allowed: false, rule }
    }

    /// Whether it is allowed.
    pub const fn is_allowed(self) -> bool {
        self.allowed
    }

    /// The rule that decided, in a word or two with hyphens, for the audit.
    pub const fn rule(self) -> &'static str {
        self.rule
    }
}

/// Who may do what in which organization.
///
/// A policy decides by organization, never by repository, so that its answer cannot depend on
/// whether a repository exists. It is asked before anything else happens: it must be quick, and what
/// it does not know it denies.
pub trait Policy: Debug + Send + Sync + 'static {
    /// Whether `principal` may do `action` with the repositories of `organization`.
    fn decide(
        &self,
        principal: &Principal,
        action: Action,
        organization: OrganizationId,
    ) -> Decision;
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
/// let decision = StandardPolicy.decide(&robot, Action::Push, OrganizationId::TBD);
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
    ) -> Decision {
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
