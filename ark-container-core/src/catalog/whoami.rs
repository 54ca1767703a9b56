//! [`WhoAmI`]: the caller of a catalog, its organizations and its permissions.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Catalog;
use super::identity::ChosenIdentity;
use super::registry::OpenRegistry;
use super::settings::Settings;
use crate::backend::RegistryBackend as _;
use crate::error::{Error, Result};
use crate::identity::{Principal, PrincipalKind, PrincipalName, single_user};
use crate::model::{
    Access, OrganizationId, Organizations, RegistryHost, RepositoryPath, RoleArn, Scope,
};
use crate::permission::{Action, Explanation, IsolationLayer, PolicyRequest, explain};

/// The caller, its identity and organizations, and the registry.
///
/// The serialized form is the JSON report of the command line.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WhoAmI {
    /// The caller.
    pub principal: PrincipalName,
    /// The kind of the caller.
    pub kind: PrincipalKind,
    /// The identity, and the setting that selected it.
    pub identity: IdentityReport,
    /// The caller's organizations.
    pub organizations: Vec<Membership>,
    /// The memberships file in use.
    pub memberships_file: Option<String>,
    /// The audit file.
    pub audit_file: Option<String>,
    /// The registry location, such as `local:/srv/registry`.
    pub registry: String,
    /// The host that clients push to and pull from.
    pub host: RegistryHost,
    /// The host at which a local registry is currently served.
    pub served_at: Option<RegistryHost>,
    /// The caller in AWS; `None` for a registry elsewhere.
    pub aws: Option<AwsReport>,
    /// The reach of the credentials for one repository.
    pub credentials_narrowed_to: CredentialsReach,
    /// The active isolation layers, in the order in which a request passes through them.
    #[serde(serialize_with = "layer_words")]
    pub isolation_layers: Vec<IsolationLayer>,
}

/// An identity, for a report.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IdentityReport {
    /// The identity.
    pub identity: ChosenIdentity,
    /// The location of the keys that verify the token's signature, if it is verified.
    pub key_set: Option<String>,
}

impl Serialize for IdentityReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            kind: &'static str,
            origin: String,
            token_file: Option<String>,
            key_set: Option<&'a str>,
        }
        let (kind, token_file) = match &self.identity {
            ChosenIdentity::Token { file, .. } => ("token", Some(file.display().to_string())),
            ChosenIdentity::AwsCaller { .. } => ("aws_caller", None),
            ChosenIdentity::LocalUser { .. } => ("local_user", None),
            ChosenIdentity::Program => ("program", None),
        };
        let origin = self.identity.origin().to_string();
        Fields { kind, origin, token_file, key_set: self.key_set.as_deref() }.serialize(serializer)
    }
}

/// The membership of a caller in an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Membership {
    /// The organization; `None`, serialized as `*`, for every organization.
    #[serde(serialize_with = "organization_or_star")]
    pub organization: Option<OrganizationId>,
    /// Whether the caller administers the organization.
    pub administrator: bool,
}

fn layer_words<S: Serializer>(layers: &[IsolationLayer], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(layers.iter().map(|layer| layer.as_str()))
}

fn organization_or_star<S: Serializer>(
    organization: &Option<OrganizationId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match organization {
        Some(organization) => serializer.collect_str(organization),
        None => serializer.serialize_str("*"),
    }
}

/// The caller in AWS, and the settings of calls to AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AwsReport {
    /// The account of the AWS credentials.
    pub account: String,
    /// The ARN of the caller.
    pub arn: String,
    /// The profile of the settings.
    pub profile: Option<String>,
    /// The role for narrowed credentials.
    pub role_arn: Option<RoleArn>,
    /// The role in which a caller with a token administers.
    pub administrator_role_arn: Option<RoleArn>,
    /// Whether a request for credentials fails if they cannot be narrowed.
    pub require_scoped: bool,
}

/// The reach of the credentials for one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CredentialsReach {
    /// The requested repository only.
    Repository,
    /// Everything that the caller's own identity can access.
    Caller,
}

/// The object of an action: an organization, from its [`OrganizationId`], or a repository, from its
/// [`RepositoryPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// All repositories of an organization.
    Organization(OrganizationId),
    /// One repository, whether or not it exists.
    Repository(RepositoryPath),
}

impl From<OrganizationId> for Resource {
    fn from(organization: OrganizationId) -> Self {
        Self::Organization(organization)
    }
}

impl From<RepositoryPath> for Resource {
    fn from(path: RepositoryPath) -> Self {
        Self::Repository(path)
    }
}

impl Catalog {
    /// Returns a report on the caller, its identity and organizations, and the registry.
    ///
    /// # Errors
    /// See [`principal`](Self::principal). On AWS also the errors of STS `GetCallerIdentity`.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        let principal = self.principal().await?;
        let isolation_layers = self.isolation_layers();
        let settings = self.shared.settings.as_ref();
        let is_narrowed = isolation_layers.contains(&IsolationLayer::Credentials);
        let shown = |path: &Path| path.display().to_string();
        Ok(WhoAmI {
            kind: principal.kind(),
            identity: self.identity_report(),
            organizations: memberships(&principal),
            memberships_file: self.shared.memberships.as_ref().map(|file| shown(file.path())),
            audit_file: settings.and_then(Settings::audit_file).map(shown),
            registry: self.to_string(),
            host: self.backend.host(),
            served_at: self.served_at(),
            aws: self.aws_report(&principal).await?,
            credentials_narrowed_to: match is_narrowed {
                true => CredentialsReach::Repository,
                false => CredentialsReach::Caller,
            },
            isolation_layers,
            principal: principal.name().clone(),
        })
    }

    fn identity_report(&self) -> IdentityReport {
        let identity = self.identity.as_ref().clone();
        let settings = self.shared.settings.as_ref();
        let verification = settings.and_then(|settings| settings.identity.verification.as_ref());
        let key_set = match identity {
            ChosenIdentity::Token { .. } => verification.map(|keys| keys.key_set.to_string()),
            _ => None,
        };
        IdentityReport { identity, key_set }
    }

    #[cfg(feature = "ecr")]
    async fn aws_report(&self, principal: &Arc<Principal>) -> Result<Option<AwsReport>> {
        let Some(OpenRegistry::Ecr(ecr)) = &self.shared.registry else { return Ok(None) };
        let ecr = ecr.acting_as(principal);
        let caller = ecr.caller().await?;
        let settings = self.shared.settings.as_ref().map(|settings| &settings.ecr);
        Ok(Some(AwsReport {
            account: caller.account.clone(),
            arn: caller.arn.clone(),
            profile: settings.and_then(|settings| settings.profile.clone()),
            role_arn: settings.and_then(|settings| settings.role_arn.clone()),
            administrator_role_arn: settings
                .and_then(|settings| settings.administrator_role_arn.clone()),
            require_scoped: settings.is_some_and(|settings| settings.require_scoped),
        }))
    }

    #[cfg(not(feature = "ecr"))]
    async fn aws_report(&self, _: &Arc<Principal>) -> Result<Option<AwsReport>> {
        Ok(None)
    }

    /// Returns the host at which a local registry is currently served. Returns `None` if it is not served
    /// or not local.
    pub fn served_at(&self) -> Option<RegistryHost> {
        match &self.shared.registry {
            #[cfg(feature = "local")]
            Some(OpenRegistry::Local(local)) => local.served_at(),
            _ => None,
        }
    }

    /// Returns the organizations of the caller.
    ///
    /// For a caller that belongs to every organization, a local registry returns the organizations that
    /// have repositories. Other registries return [`Organizations::All`].
    ///
    /// # Errors
    /// See [`principal`](Self::principal). [`Error::Failed`] if the folder of the registry cannot be read.
    pub async fn organizations(&self) -> Result<Organizations> {
        let organizations = self.principal().await?.organizations();
        match (&self.shared.registry, organizations) {
            #[cfg(feature = "local")]
            (Some(OpenRegistry::Local(local)), Organizations::All) => {
                Ok(Organizations::Only(local.organizations().await?))
            }
            (_, organizations) => Ok(organizations),
        }
    }

    /// Returns the scope of a login for all organizations of the caller. A scope has one access level: push to the
    /// organizations where the caller may push, or otherwise pull from the organizations where the caller may pull.
    ///
    /// # Errors
    /// See [`organizations`](Self::organizations) and [`explain`](Self::explain). [`Error::Setting`] if the
    /// caller belongs to every organization and none is set.
    pub async fn login_scope(&self) -> Result<Scope> {
        let registry = self.shared.registry.as_ref();
        let own = match (self.organizations().await?, self.organization) {
            (Organizations::Only(own), _) => own,
            (Organizations::All, Some(organization)) => BTreeSet::from([organization]),
            // In this case the login is not narrowed, and the organization is only a name.
            (Organizations::All, None) if registry.is_some_and(|it| !it.narrows_credentials()) => {
                BTreeSet::from([OrganizationId::TBD])
            }
            (Organizations::All, None) => {
                return Err(Error::invalid(
                    "the login needs an organization, and none is set",
                )
                .with_help(
                    "set your organization: export ARK_ORGANIZATION=GUID, or organization in the \
                     configuration file",
                ));
            }
        };
        let mut writable = self.allowing(Action::Push, &own).await?;
        if registry.is_some_and(OpenRegistry::is_in_aws) {
            // On AWS the global organization requires the administrator role, which permits nothing else.
            writable.remove(&OrganizationId::GLOBAL);
        }
        let stage = self.backend.stage();
        if !writable.is_empty() {
            return Ok(Scope::organizations(stage, writable, Access::Push));
        }
        let others = own.into_iter().chain([OrganizationId::GLOBAL]).collect();
        let readable = self.allowing(Action::Pull, &others).await?;
        Ok(Scope::organizations(stage, readable, Access::Pull))
    }

    /// Returns the organizations in which the policy allows an action.
    async fn allowing(
        &self,
        action: Action,
        organizations: &BTreeSet<OrganizationId>,
    ) -> Result<BTreeSet<OrganizationId>> {
        let mut allowed = BTreeSet::new();
        for organization in organizations {
            if self.allows(action, *organization).await? {
                allowed.insert(*organization);
            }
        }
        Ok(allowed)
    }

    /// Returns whether the policy allows `action` on a resource. Nothing is recorded.
    ///
    /// # Errors
    /// See [`explain`](Self::explain).
    pub async fn allows(&self, action: Action, resource: impl Into<Resource>) -> Result<bool> {
        Ok(self.explain(action, resource).await?.decision.is_allowed())
    }

    /// Returns the decision about `action` on a resource for the caller, with its rule and the layers that
    /// enforce it. Performs and records nothing.
    ///
    /// # Errors
    /// See [`principal`](Self::principal). [`Error::Failed`] if the policy cannot decide.
    pub async fn explain(
        &self,
        action: Action,
        resource: impl Into<Resource>,
    ) -> Result<Explanation> {
        let principal = self.principal().await?;
        self.explain_of(&principal, action, &resource.into()).await
    }

    /// Returns the decision for another principal, if its organizations are known.
    ///
    /// # Errors
    /// See [`explain`](Self::explain). [`Error::InvalidInput`] if the identity is from a token or from the
    /// program, and the principal is another one.
    pub async fn explain_for(
        &self,
        principal: PrincipalName,
        action: Action,
        resource: impl Into<Resource>,
    ) -> Result<Explanation> {
        let principal = match (self.identity.as_ref(), &self.shared.memberships) {
            (ChosenIdentity::Token { .. }, _) => {
                let bearer = self.principal().await?;
                if *bearer.name() != principal {
                    return Err(Error::invalid(format!(
                        "the organizations of {principal} are in their token, but this token \
                         belongs to {bearer}"
                    )));
                }
                bearer
            }
            (_, Some(file)) => Arc::new(file.current().principal(principal)),
            (ChosenIdentity::Program, None) => {
                let caller = self.principal().await?;
                if *caller.name() != principal {
                    return Err(Error::invalid(format!(
                        "the organizations of {principal} are unknown: there is no memberships file"
                    )));
                }
                caller
            }
            (_, None) => Arc::new(single_user(principal)),
        };
        self.explain_of(&principal, action, &resource.into()).await
    }

    async fn explain_of(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
    ) -> Result<Explanation> {
        let request = match resource {
            Resource::Organization(organization) => {
                PolicyRequest::new(principal, action, *organization)
            }
            Resource::Repository(path) => PolicyRequest::for_repository(principal, action, path),
        };
        explain(&self.policy, &request, &self.isolation_layers()).await
    }

    /// Returns the active isolation layers, in the order in which a request passes through them.
    pub fn isolation_layers(&self) -> Vec<IsolationLayer> {
        // Without any of these, the caller belongs to every organization, and the policy denies nothing.
        let policy_decides = self.shared.has_own_policy
            || self.shared.memberships.is_some()
            || !matches!(
                *self.identity,
                ChosenIdentity::LocalUser { .. } | ChosenIdentity::AwsCaller { .. }
            );
        let registry = self.shared.registry.as_ref();
        let holds = |layer: &IsolationLayer| match layer {
            IsolationLayer::Policy => policy_decides,
            IsolationLayer::Credentials => registry.is_some_and(OpenRegistry::narrows_credentials),
            IsolationLayer::Iam => registry.is_some_and(OpenRegistry::is_in_aws),
        };
        IsolationLayer::ALL.iter().copied().filter(holds).collect()
    }
}

/// Serializes the report of the command line in JSON.
impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            principal: &'a PrincipalName,
            action: &'static str,
            organization: OrganizationId,
            repository: Option<&'a RepositoryPath>,
            allowed: bool,
            rule: &'a str,
            reason: Option<&'a str>,
            origin: Option<&'a str>,
            #[serde(serialize_with = "layer_words")]
            isolation_layers: &'a [IsolationLayer],
        }
        let fields = Fields {
            principal: &self.principal,
            action: self.action.as_str(),
            organization: self.organization,
            repository: self.repository.as_ref(),
            allowed: self.decision.is_allowed(),
            rule: self.decision.rule(),
            reason: self.decision.reason(),
            origin: self.decision.origin(),
            isolation_layers: &self.isolation_layers,
        };
        fields.serialize(serializer)
    }
}

fn memberships(principal: &Principal) -> Vec<Membership> {
    match principal.organizations() {
        // A caller in every organization administers all or none, so any organization has the answer.
        Organizations::All => vec![Membership {
            organization: None,
            administrator: principal.administers(OrganizationId::TBD),
        }],
        Organizations::Only(organizations) => organizations
            .into_iter()
            .map(|organization| Membership {
                organization: Some(organization),
                administrator: principal.administers(organization),
            })
            .collect(),
    }
}
