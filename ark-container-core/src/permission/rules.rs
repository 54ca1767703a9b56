//! The built-in policies: [`StandardPolicy`], and [`MembershipsPolicy`] with the rules of a memberships file.

use async_trait::async_trait;

use super::{Decision, Policy, PolicyRequest};
use crate::error::Result;
use crate::identity::{Memberships, MembershipsFile, PrincipalKind};
use crate::model::{Effect, OrganizationId};

const ADMINISTRATOR: Decision = Decision::fixed(
    true,
    "administrator",
    "administrators of an organization may perform every action in it",
);
const EVERYONE_READS_GLOBAL: Decision =
    Decision::fixed(true, "everyone-reads-global", "everyone may read the global organization");
const DENIED_ADMINISTRATORS_CHANGE_GLOBAL: Decision = Decision::fixed(
    false,
    "administrators-change-global",
    "only administrators of the global organization may change it",
);
const NOT_A_MEMBER: Decision = Decision::fixed(
    false,
    "not-a-member",
    "principals that are not members of an organization have no access to it",
);
const MEMBER: Decision = Decision::fixed(
    true,
    "member",
    "members may read, and users among them may create repositories and push",
);
const DENIED_ADMINISTRATORS_DELETE: Decision =
    Decision::fixed(false, "administrators-delete", "only administrators may delete");
const DENIED_ROBOTS_READ: Decision =
    Decision::fixed(false, "robots-read", "robots that are members may only read");
const DENIED_INGEST_JOBS_READ: Decision =
    Decision::fixed(false, "ingest-jobs-read", "ingest jobs that are members may only read");
const ORGANIZATION_ALLOWS: Decision = Decision::fixed(
    true,
    "organization-rules",
    "the organization's own rules allow this action to members of this kind",
);
const ORGANIZATION_DENIES: Decision = Decision::fixed(
    false,
    "organization-rules",
    "the organization's own rules deny this action to members of this kind",
);

/// The standard rules of the catalog.
///
/// | principal | may |
/// |---|---|
/// | administrator of the organization, of any kind | do everything |
/// | anyone, in the [global organization](OrganizationId::GLOBAL) | read |
/// | user who is a member | read, create repositories, push |
/// | robot or ingest job that is a member | read |
/// | anyone else | nothing |
///
/// Reading includes listing, describing and pulling. Members of the global organization have the same
/// permissions there as everyone else.
///
/// ```
/// use ark_container_core::identity::single_user;
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::permission::{Action, PolicyRequest, StandardPolicy};
///
/// let robot = single_user("robot:nightly".parse()?);
/// let request = PolicyRequest::new(&robot, Action::Push, OrganizationId::TBD);
/// let decision = StandardPolicy.decision(&request);
/// assert!(!decision.is_allowed());
/// assert_eq!(decision.rule(), "robots-read");
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardPolicy;

impl StandardPolicy {
    /// Returns the decision synchronously, for policies that are based on these rules.
    pub fn decision(self, request: &PolicyRequest<'_>) -> Decision {
        let PolicyRequest { principal, action, organization, .. } = *request;
        if principal.administers(organization) {
            return ADMINISTRATOR;
        }
        if organization == OrganizationId::GLOBAL {
            return match action.effect() {
                Effect::Reads => EVERYONE_READS_GLOBAL,
                Effect::Adds | Effect::Removes => DENIED_ADMINISTRATORS_CHANGE_GLOBAL,
            };
        }
        if !principal.is_member_of(organization) {
            return NOT_A_MEMBER;
        }
        match (principal.kind(), action.effect()) {
            (_, Effect::Reads) | (PrincipalKind::User, Effect::Adds) => MEMBER,
            (PrincipalKind::User, Effect::Removes) => DENIED_ADMINISTRATORS_DELETE,
            (PrincipalKind::Robot, Effect::Adds | Effect::Removes) => DENIED_ROBOTS_READ,
            (PrincipalKind::IngestJob, Effect::Adds | Effect::Removes) => DENIED_INGEST_JOBS_READ,
        }
    }
}

#[async_trait]
impl Policy for StandardPolicy {
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        Ok(self.decision(request))
    }
}

/// The [standard rules](StandardPolicy), except for organizations that define rules in the [memberships
/// file](crate::identity::memberships).
///
/// Rules of an organization apply to members that are not administrators, and to every action except
/// deletion. So a file cannot give access to principals that are not members, restrict an administrator, or
/// allow a member to delete. Changes of the file apply without a restart.
///
/// The [origin](Decision::origin) of a decision is the rule of the organization. For a decision by a standard rule,
/// the origin is the organization's table in the file, if the file defines the principal's membership.
///
/// ```
/// use ark_container_core::identity::MembershipsFile;
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::permission::{Action, MembershipsPolicy, Policy, PolicyRequest};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ark_container_core::Result<()> {
/// # let temporary = tempfile::NamedTempFile::new().unwrap();
/// # let path = temporary.path();
/// let text = r#"
/// [[organization]]
/// id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
/// members = ["robot:build"]
/// [organization.rules]
/// robot = ["read", "push"]
/// "#;
/// # std::fs::write(path, text).unwrap();
/// let file = MembershipsFile::open(path)?;
/// let robot = file.current().principal("robot:build".parse()?);
/// let policy = MembershipsPolicy::new(file);
/// let request = PolicyRequest::new(&robot, Action::Push, OrganizationId::TBD);
/// let decision = policy.decide(&request).await?;
/// assert!(decision.is_allowed());
/// assert_eq!(decision.origin(), Some(format!("{}:6", path.display()).as_str()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MembershipsPolicy(MembershipsFile);

impl MembershipsPolicy {
    /// Creates a policy from the standard rules and the rules of the file.
    pub fn new(file: MembershipsFile) -> Self {
        Self(file)
    }
}

#[async_trait]
impl Policy for MembershipsPolicy {
    async fn decide(&self, request: &PolicyRequest<'_>) -> Result<Decision> {
        let memberships = self.0.current();
        if let Some(decision) = organization_rule(&memberships, request) {
            return Ok(decision);
        }
        let decision = StandardPolicy.decision(request);
        let is_of_the_file = [ADMINISTRATOR, MEMBER, NOT_A_MEMBER].contains(&decision)
            && memberships.confirms(request.principal, request.organization);
        Ok(match memberships.origin(request.organization) {
            Some(origin) if is_of_the_file => decision.written_at(origin.clone()),
            _ => decision,
        })
    }
}

/// Returns the decision by the organization's rules. Returns `None` if they do not apply.
fn organization_rule(memberships: &Memberships, request: &PolicyRequest<'_>) -> Option<Decision> {
    let PolicyRequest { principal, action, organization, .. } = *request;
    let is_plain_member =
        principal.is_member_of(organization) && !principal.administers(organization);
    // The parser rejects rules for these cases. This check does not depend on the parser.
    let is_fixed = organization == OrganizationId::GLOBAL || action.effect() == Effect::Removes;
    if is_fixed || !is_plain_member {
        return None;
    }
    let rule = memberships.rule(organization, principal.kind())?;
    let decision = if rule.allows(action) { ORGANIZATION_ALLOWS } else { ORGANIZATION_DENIES };
    Some(decision.written_at(rule.origin().clone()))
}
