//! [`Request`]: one call, and what its caller may do.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::audit::{CallAudit, Change, Subject};
use super::policy::undecided;
use super::{Action, AuditFile, Decision, Policy};
use crate::backend::Repository;
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{Access, OrganizationId, Organizations, RepositoryPath, Scope, ScopeTarget};

/// One call: who makes it, the policy that decides about it, and the record of that.
#[derive(Debug)]
pub(super) struct Request {
    policy: Arc<dyn Policy>,
    principal: Arc<Principal>,
    audit: CallAudit,
}

/// What a policy is asked about.
#[derive(Debug, Clone, Copy)]
enum Resource<'a> {
    Repository(&'a RepositoryPath),
    Organization(OrganizationId),
}

impl Resource<'_> {
    fn organization(self) -> OrganizationId {
        match self {
            Self::Repository(path) => path.organization(),
            Self::Organization(organization) => organization,
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(path) => path.fmt(f),
            Self::Organization(organization) => write!(f, "organization {organization}"),
        }
    }
}

impl<'a> From<Resource<'a>> for Subject<'a> {
    fn from(resource: Resource<'a>) -> Self {
        match resource {
            Resource::Repository(path) => Self::Repository(path),
            Resource::Organization(organization) => Self::Organization(organization),
        }
    }
}

impl Request {
    /// A call by `principal`, which is recorded in `audit_file` too where there is one.
    pub(super) fn new(
        policy: Arc<dyn Policy>,
        principal: Arc<Principal>,
        audit_file: Option<&AuditFile>,
    ) -> Self {
        let audit = CallAudit::begin(audit_file, &principal);
        Self { policy, principal, audit }
    }

    /// The caller.
    pub(super) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Denies unless the policy allows `action` on one repository.
    pub(super) async fn check(&self, action: Action, path: &RepositoryPath) -> Result<()> {
        self.require(action, Resource::Repository(path)).await
    }

    /// The same for an action that changes something, whose result is to be recorded.
    pub(super) async fn begin_change(
        &self,
        action: Action,
        path: &RepositoryPath,
    ) -> Result<Change> {
        self.check(action, path).await?;
        Ok(self.audit.change(action, path))
    }

    /// Checks everything that credentials of this scope open.
    pub(super) async fn check_scope(&self, scope: &Scope) -> Result<()> {
        // Without an organization there is nothing to decide about, so nothing may be allowed.
        if scope.organization_ids().is_empty() {
            return Err(Error::invalid("the scope of the credentials names no organization"));
        }
        for action in opened_by(scope.access()) {
            match scope.target() {
                ScopeTarget::Repository(path) => self.check(*action, path).await?,
                ScopeTarget::Organizations(_, organizations) => {
                    for organization in organizations {
                        self.require(*action, Resource::Organization(*organization)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Records credentials that are about to be handed out.
    pub(super) async fn hand_out(
        &self,
        credentials: RegistryCredentials,
    ) -> Result<RegistryCredentials> {
        self.audit.credentials(&credentials).await?;
        Ok(credentials)
    }

    /// The organizations that a listing may ask the backend inside for.
    pub(super) async fn listed(&self, asked: &Organizations) -> Result<Organizations> {
        let action = Action::ListRepositories;
        if let Organizations::Only(asked) = asked {
            for organization in asked {
                self.require(action, Resource::Organization(*organization)).await?;
            }
            return Ok(Organizations::Only(asked.clone()));
        }
        let Organizations::Only(mut own) = self.principal.organizations() else {
            // Which organizations there are is known only as their repositories come.
            let decision = Decision::allow("member-of-every-organization");
            self.audit.decision(action, Subject::EveryOrganization, &decision).await?;
            return Ok(Organizations::All);
        };
        own.insert(OrganizationId::GLOBAL);
        let mut listed = BTreeSet::new();
        for organization in own {
            if self.decide(action, Resource::Organization(organization)).await?.is_allowed() {
                listed.insert(organization);
            }
        }
        Ok(Organizations::Only(listed))
    }

    /// Whether a repository that the backend inside listed may be shown.
    pub(super) async fn shows(
        &self,
        repository: &Repository,
        listed: &Organizations,
    ) -> Result<bool> {
        let organization = repository.url.path().organization();
        if !listed.contains(organization) {
            return Ok(false);
        }
        let (action, resource) = (Action::ListRepositories, Resource::Organization(organization));
        match self.policy.decide(&self.principal, action, organization) {
            Ok(decision) => Ok(decision.is_allowed()),
            Err(error) => Err(self.report_undecided(action, resource, error).await),
        }
    }

    async fn require(&self, action: Action, resource: Resource<'_>) -> Result<()> {
        let decision = self.decide(action, resource).await?;
        if decision.is_allowed() {
            return Ok(());
        }
        let denied = Error::permission_denied(&self.principal, action.phrase(), resource);
        Err(denied.with_decision(decision))
    }

    /// Asks the policy, and records what it answers.
    async fn decide(&self, action: Action, resource: Resource<'_>) -> Result<Decision> {
        match self.policy.decide(&self.principal, action, resource.organization()) {
            Ok(decision) => {
                self.audit.decision(action, resource.into(), &decision).await?;
                Ok(decision)
            }
            Err(error) => Err(self.report_undecided(action, resource, error).await),
        }
    }

    /// Records that the policy could not decide, and makes that the error of the call.
    async fn report_undecided(
        &self,
        action: Action,
        resource: Resource<'_>,
        error: Error,
    ) -> Error {
        match self.audit.undecided(action, resource.into(), &error).await {
            Ok(()) => undecided(&self.principal, action, resource, error),
            Err(unrecorded) => unrecorded,
        }
    }
}

/// The actions that credentials with this access open.
fn opened_by(access: Access) -> &'static [Action] {
    match access {
        Access::Pull => &[Action::Pull],
        Access::Push => &[Action::Pull, Action::Push],
        Access::Delete => &[Action::Pull, Action::Push, Action::DeleteImage],
    }
}
