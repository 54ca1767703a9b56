//! [`explain`]: the decision of a policy, its reason, and the isolation layers that enforce it.

use std::fmt;

use super::{Action, Decision, Policy, PolicyRequest};
use crate::error::Result;
use crate::identity::PrincipalName;
use crate::model::{OrganizationId, RepositoryPath};

/// A layer that keeps organizations apart. The layers work independently of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IsolationLayer {
    /// The policy, in the process, enforced by [`Permissioned`](super::Permissioned).
    Policy,
    /// The registry, for credentials that are [narrowed to their scope](crate::credentials::Narrowing::Scoped).
    Credentials,
    /// AWS, by the IAM policies of its roles.
    Iam,
}

impl IsolationLayer {
    /// Every layer, in the order in which a request passes through them.
    pub const ALL: &'static [Self] = &[Self::Policy, Self::Credentials, Self::Iam];

    /// Returns the word for the layer in reports: `policy`, `credentials`, `iam`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Credentials => "credentials",
            Self::Iam => "iam",
        }
    }

    /// Returns whether this layer, if active, checks `action`.
    ///
    /// Credentials give registry clients access to images, but do not cover operations of a backend on
    /// repositories, or its listings.
    pub const fn enforces(self, action: Action) -> bool {
        match self {
            Self::Policy | Self::Iam => true,
            Self::Credentials => {
                matches!(action, Action::Pull | Action::Push | Action::DeleteImage)
            }
        }
    }
}

impl fmt::Display for IsolationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision of a policy, with the request and the layers that enforce it.
///
/// The [`Decision`] contains the rule, its reason and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The caller.
    pub principal: PrincipalName,
    /// The action.
    pub action: Action,
    /// The organization to which the action applies.
    pub organization: OrganizationId,
    /// The repository to which the action applies; `None` for an action on the organization.
    pub repository: Option<RepositoryPath>,
    /// The decision of the policy.
    pub decision: Decision,
    /// The active layers that check the action.
    pub isolation_layers: Vec<IsolationLayer>,
}

/// Returns the decision of the policy about a request, and its reason.
///
/// No action is performed, so nothing is recorded in the audit. No backend is called, so the result does
/// not reveal whether a repository exists. `active_layers` are the isolation layers of the deployment.
///
/// ```
/// use ark_container_core::identity::single_user;
/// use ark_container_core::model::OrganizationId;
/// use ark_container_core::permission::{
///     Action, IsolationLayer, PolicyRequest, StandardPolicy, explain,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ark_container_core::Result<()> {
/// let robot = single_user("robot:nightly".parse()?);
/// let request = PolicyRequest::new(&robot, Action::CreateRepository, OrganizationId::TBD);
/// let layers = [IsolationLayer::Policy, IsolationLayer::Credentials];
/// let explanation = explain(&StandardPolicy, &request, &layers).await?;
/// assert!(!explanation.decision.is_allowed());
/// assert_eq!(explanation.decision.rule(), "robots-read");
/// assert_eq!(explanation.decision.reason(), Some("robots that are members may only read"));
/// assert_eq!(explanation.isolation_layers, [IsolationLayer::Policy]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) if the policy cannot decide, in which case the request is denied.
pub async fn explain(
    policy: &dyn Policy,
    request: &PolicyRequest<'_>,
    active_layers: &[IsolationLayer],
) -> Result<Explanation> {
    let decision = policy.decide(request).await.map_err(|error| request.undecided(error))?;
    let PolicyRequest { principal, action, organization, repository } = *request;
    Ok(Explanation {
        principal: principal.name().clone(),
        action,
        organization,
        repository: repository.cloned(),
        decision,
        isolation_layers: active_layers.iter().copied().filter(|l| l.enforces(action)).collect(),
    })
}
