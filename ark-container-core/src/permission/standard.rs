//! [`StandardPolicy`]: the rules of the catalog.

use super::{Action, Decision, Policy};
use crate::error::Result;
use crate::identity::{Principal, PrincipalKind};
use crate::model::{Effect, OrganizationId};

pub(super) const ADMINISTRATOR: Decision = Decision::allow("administrator")
    .because("whoever administers an organization may do everything in it");
const EVERYONE_READS_GLOBAL: Decision =
    Decision::allow("everyone-reads-global").because("everyone reads the global organization");
const ADMINISTRATORS_CHANGE_GLOBAL: Decision = Decision::deny("administrators-change-global")
    .because("only its administrators change the global organization");
pub(super) const NOT_A_MEMBER: Decision = Decision::deny("not-a-member")
    .because("whoever is no member of an organization may do nothing in it");
pub(super) const MEMBER: Decision = Decision::allow("member")
    .because("members read, and users among them create repositories and push");
const ADMINISTRATORS_DELETE: Decision =
    Decision::deny("administrators-delete").because("only administrators delete");
const ROBOTS_READ: Decision =
    Decision::deny("robots-read").because("robots that are members only read");
const INGEST_JOBS_READ: Decision =
    Decision::deny("ingest-jobs-read").because("ingest jobs that are members only read");

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

/// What the rules of the catalog say.
pub(super) fn standard(
    principal: &Principal,
    action: Action,
    organization: OrganizationId,
) -> Decision {
    if principal.administers(organization) {
        return ADMINISTRATOR;
    }
    if organization == OrganizationId::GLOBAL {
        return match action.effect() {
            Effect::Reads => EVERYONE_READS_GLOBAL,
            Effect::Adds | Effect::Removes => ADMINISTRATORS_CHANGE_GLOBAL,
        };
    }
    if !principal.is_member_of(organization) {
        return NOT_A_MEMBER;
    }
    match (principal.kind(), action.effect()) {
        (_, Effect::Reads) | (PrincipalKind::User, Effect::Adds) => MEMBER,
        (PrincipalKind::User, Effect::Removes) => ADMINISTRATORS_DELETE,
        (PrincipalKind::Robot, Effect::Adds | Effect::Removes) => ROBOTS_READ,
        (PrincipalKind::IngestJob, Effect::Adds | Effect::Removes) => INGEST_JOBS_READ,
    }
}
