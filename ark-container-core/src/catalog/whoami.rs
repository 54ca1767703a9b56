//! What a catalog tells about its caller: who it is, where they belong and what they may do.

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

/// Who asks, why it is they, where they belong, and what they are connected to.
///
/// Serialized, it is the report of the command line in JSON.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WhoAmI {
    /// The caller.
    pub principal: PrincipalName,
    /// What kind of caller that is.
    pub kind: PrincipalKind,
    /// Which identity was chosen, and by what.
    pub identity: IdentityReport,
    /// The caller's organizations.
    pub organizations: Vec<Membership>,
    /// The memberships file that is in force.
    pub memberships_file: Option<String>,
    /// The file in which decisions and changes are recorded.
    pub audit_file: Option<String>,
    /// Where the repositories are, such as `local:/srv/registry`.
    pub registry: String,
    /// The host that clients push to and pull from.
    pub host: RegistryHost,
    /// Where a folder is served now.
    pub served_at: Option<RegistryHost>,
    /// Who the caller is to AWS; `None` for a registry elsewhere.
    pub aws: Option<AwsReport>,
    /// How far the credentials for one repository reach.
    pub credentials_narrowed_to: CredentialsReach,
    /// What keeps one organization out of another's, in the order in which a request meets it.
    #[serde(rename = "walls", serialize_with = "layer_words")]
    pub isolation_layers: Vec<IsolationLayer>,
}

/// A chosen identity, for a report.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IdentityReport {
    /// The identity.
    pub identity: ChosenIdentity,
    /// Where the keys are that a token's signature is verified with, if it is.
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

/// An organization of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Membership {
    /// The organization; `None`, serialized as `*`, for every one.
    #[serde(serialize_with = "organization_or_star")]
    pub organization: Option<OrganizationId>,
    /// Whether the caller administers it.
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

/// Who a caller is to AWS, and how AWS is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AwsReport {
    /// The account of the AWS credentials.
    pub account: String,
    /// The ARN of the caller.
    pub arn: String,
    /// The profile that was chosen.
    pub profile: Option<String>,
    /// The role under which credentials are narrowed.
    pub role_arn: Option<RoleArn>,
    /// The role under which a token administers.
    pub administrator_role_arn: Option<RoleArn>,
    /// Whether credentials that are not narrowed are refused.
    pub require_scoped: bool,
}

/// How far the credentials for one repository reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CredentialsReach {
    /// That repository alone.
    Repository,
    /// All that the caller's own identity can reach.
    Caller,
}

/// What an action is about: an organization, as its [`OrganizationId`], or a repository, as its
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
    /// Tells who asks, why it is they, where they belong, and what they are connected to.
    ///
    /// # Errors
    /// Those of [`principal`](Self::principal); on AWS those of STS `GetCallerIdentity` too.
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

    /// Where a folder of this machine is served now; `None` if it is not, or for a registry elsewhere.
    pub fn served_at(&self) -> Option<RegistryHost> {
        match &self.shared.registry {
            #[cfg(feature = "local")]
            Some(OpenRegistry::Local(local)) => local.served_at(),
            _ => None,
        }
    }

    /// The caller's organizations.
    ///
    /// For a caller who belongs to every organization, they are those that have repositories in a folder of
    /// this machine, and [`Organizations::All`] elsewhere.
    ///
    /// # Errors
    /// Those of [`principal`](Self::principal); [`Error::Failed`] if the registry's folder cannot be read.
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

    /// Returns the scope of a login for all that the caller may use. A scope has one access level, so it is
    /// push to the organizations where the caller may push; if there are none, pull from those where they
    /// may pull.
    ///
    /// # Errors
    /// Those of [`organizations`](Self::organizations) and [`explain`](Self::explain); [`Error::Setting`] if
    /// the caller belongs to every organization and none is chosen.
    pub async fn login_scope(&self) -> Result<Scope> {
        let registry = self.shared.registry.as_ref();
        let own = match (self.organizations().await?, self.organization) {
            (Organizations::Only(own), _) => own,
            (Organizations::All, Some(organization)) => BTreeSet::from([organization]),
            // The login is not narrowed then, and the organization is only a name.
            (Organizations::All, None) if registry.is_some_and(|it| !it.narrows_credentials()) => {
                BTreeSet::from([OrganizationId::TBD])
            }
            (Organizations::All, None) => {
                return Err(Error::invalid(
                    "nothing says which organizations the login is to be narrowed to",
                )
                .with_help(
                    "name yours: export ARK_ORGANIZATION=GUID, or organization in the \
                     configuration file",
                ));
            }
        };
        let mut writable = self.allowing(Action::Push, &own).await?;
        if registry.is_some_and(OpenRegistry::is_in_aws) {
            // AWS requires the administrator role for it, which permits nothing else.
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

    /// Whether the policy lets the caller do `action` with a resource. Nothing is recorded.
    ///
    /// # Errors
    /// Those of [`explain`](Self::explain).
    pub async fn allows(&self, action: Action, resource: impl Into<Resource>) -> Result<bool> {
        Ok(self.explain(action, resource).await?.decision.is_allowed())
    }

    /// Explains whether the caller may do `action` with a resource, by which rule, and what enforces it.
    /// Nothing is done and nothing is recorded.
    ///
    /// # Errors
    /// Those of [`principal`](Self::principal); [`Error::Failed`] if the policy cannot decide.
    pub async fn explain(
        &self,
        action: Action,
        resource: impl Into<Resource>,
    ) -> Result<Explanation> {
        let principal = self.principal().await?;
        self.explain_of(&principal, action, &resource.into()).await
    }

    /// The same for another principal, as far as it is known here where they belong.
    ///
    /// # Errors
    /// Those of [`explain`](Self::explain); [`Error::InvalidInput`] where a token or the program says
    /// who asks, and the principal is another one.
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
                        "where {principal} belongs is in their token, and this is {bearer}'s"
                    )));
                }
                bearer
            }
            (_, Some(file)) => Arc::new(file.current().principal(principal)),
            (ChosenIdentity::Program, None) => {
                let caller = self.principal().await?;
                if *caller.name() != principal {
                    return Err(Error::invalid(format!(
                        "nothing says where {principal} belongs: there is no memberships file"
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

    /// What keeps one organization out of another's here, in the order in which a request meets it.
    pub fn isolation_layers(&self) -> Vec<IsolationLayer> {
        // Without any of these, the caller belongs everywhere, and the policy denies nothing.
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

/// The answer of the command line in JSON.
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
            walls: &'a [IsolationLayer],
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
            walls: &self.isolation_layers,
        };
        fields.serialize(serializer)
    }
}

fn memberships(principal: &Principal) -> Vec<Membership> {
    match principal.organizations() {
        // A caller who belongs everywhere administers everywhere or nowhere; any organization will tell.
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
