//! [`MembershipsPolicy`]: the rules of the catalog, as a memberships file changes them.

use super::standard::{ADMINISTRATOR, MEMBER, NOT_A_MEMBER, standard};
use super::{Action, Decision, Policy};
use crate::error::Result;
use crate::identity::{Memberships, MembershipsFile, Principal};
use crate::model::{Effect, OrganizationId};

const ALLOWED: Decision = Decision::allow("organization-rules")
    .because("the organization's own rules let members of this kind do it");
const DENIED: Decision = Decision::deny("organization-rules")
    .because("the organization's own rules do not let members of this kind do it");

/// The [standard rules](super::StandardPolicy), except where an organization of the
/// [memberships file](crate::identity::memberships) has rules of its own.
///
/// Those are for the organization's members who do not administer it, and for all but deletion: no
/// file can let a stranger in, take anything from an administrator, or let a member delete. The file
/// is followed as it changes.
///
/// Decisions say where they are written: the organization's own rule, or, if the file says of the
/// principal the same as they do themselves, where the organization's members are listed.
///
/// ```
/// use ark_container_core::identity::MembershipsFile;
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::permission::{Action, MembershipsPolicy, Policy};
///
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
/// let decision = policy.decide(&robot, Action::Push, OrganizationId::TBD)?;
/// assert!(decision.is_allowed());
/// assert_eq!(decision.origin(), Some(format!("{}:6", path.display()).as_str()));
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MembershipsPolicy(MembershipsFile);

impl MembershipsPolicy {
    /// The standard rules, and those of the file.
    pub fn new(file: MembershipsFile) -> Self {
        Self(file)
    }
}

impl Policy for MembershipsPolicy {
    fn decide(
        &self,
        principal: &Principal,
        action: Action,
        organization: OrganizationId,
    ) -> Result<Decision> {
        let memberships = self.0.current();
        if let Some(decision) = own_rule(&memberships, principal, action, organization) {
            return Ok(decision);
        }
        let decision = standard(principal, action, organization);
        let is_of_the_file = [ADMINISTRATOR, MEMBER, NOT_A_MEMBER].contains(&decision)
            && memberships.confirms(principal, organization);
        Ok(match memberships.origin(organization) {
            Some(origin) if is_of_the_file => decision.written_at(origin.clone()),
            _ => decision,
        })
    }
}

/// What the organization's own rules say, where they have a say.
fn own_rule(
    memberships: &Memberships,
    principal: &Principal,
    action: Action,
    organization: OrganizationId,
) -> Option<Decision> {
    let is_plain_member =
        principal.is_member_of(organization) && !principal.administers(organization);
    // Reading a file refuses rules about these; here it does not matter how they came to be.
    let is_fixed = organization == OrganizationId::GLOBAL || action.effect() == Effect::Removes;
    if is_fixed || !is_plain_member {
        return None;
    }
    let rule = memberships.rule(organization, principal.kind())?;
    let decision = if rule.allows(action) { ALLOWED } else { DENIED };
    Some(decision.written_at(rule.origin().clone()))
}
