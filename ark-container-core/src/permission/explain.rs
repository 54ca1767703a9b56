//! [`explain`]: why a policy decides as it does, and what else would stand in the way.

use std::fmt;

use super::policy::undecided;
use super::{Action, Decision, Policy};
use crate::error::Result;
use crate::identity::{Principal, PrincipalName};
use crate::model::OrganizationId;

/// What keeps one organization out of another's. Each holds where the others fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wall {
    /// The policy, in the process that guards its backend with
    /// [`Permissioned`](super::Permissioned).
    Policy,
    /// The registry, for credentials that are
    /// [narrowed to their scope](crate::credentials::Narrowing::Scoped).
    Credentials,
    /// AWS, by the IAM policies of its roles.
    Iam,
}

impl Wall {
    /// Every wall, in the order in which a request meets them.
    pub const ALL: [Self; 3] = [Self::Policy, Self::Credentials, Self::Iam];

    /// The word for it in reports: `policy`, `credentials`, `iam`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Credentials => "credentials",
            Self::Iam => "iam",
        }
    }

    /// Whether `action` meets it, where it is up.
    ///
    /// Credentials open images to clients of the registry, so they are no wall before what a backend
    /// does with repositories, nor before its listings.
    pub const fn enforces(self, action: Action) -> bool {
        match self {
            Self::Policy | Self::Iam => true,
            Self::Credentials => {
                matches!(action, Action::Pull | Action::Push | Action::DeleteImage)
            }
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision, and what there is to say about it.
///
/// The rule, what it says and where it is written are in the [`Decision`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Who would ask.
    pub principal: PrincipalName,
    /// What they would ask to do.
    pub action: Action,
    /// In which organization.
    pub organization: OrganizationId,
    /// What the policy decides.
    pub decision: Decision,
    /// The walls which `action` meets, of those that are up.
    pub walls: Vec<Wall>,
}

/// Why `principal` may, or may not, do `action` with the repositories of `organization`.
///
/// Nothing is done, so nothing is audited; no backend is asked, so the answer says nothing about
/// which repositories exist. `up` are the walls of the deployment that is asked about.
///
/// ```
/// use ark_container_core::identity::single_user;
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::permission::{Action, StandardPolicy, Wall, explain};
///
/// let robot = single_user("robot:nightly".parse()?);
/// let up = [Wall::Policy, Wall::Credentials];
/// let explanation =
///     explain(&StandardPolicy, &robot, Action::CreateRepository, OrganizationId::TBD, &up)?;
/// assert!(!explanation.decision.is_allowed());
/// assert_eq!(explanation.decision.rule(), "robots-read");
/// assert_eq!(explanation.decision.reason(), Some("robots that are members only read"));
/// assert_eq!(explanation.walls, [Wall::Policy]);
/// # Ok::<(), ark_container_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) if the policy cannot decide, which is a denial.
pub fn explain(
    policy: &dyn Policy,
    principal: &Principal,
    action: Action,
    organization: OrganizationId,
    up: &[Wall],
) -> Result<Explanation> {
    let decision = policy.decide(principal, action, organization).map_err(|error| {
        let resource = format_args!("organization {organization}");
        undecided(principal, action, resource, error)
    })?;
    let walls = up.iter().copied().filter(|wall| wall.enforces(action)).collect();
    Ok(Explanation { principal: principal.name().clone(), action, organization, decision, walls })
}
