//! [`CatalogBuilder`]: what to open, and for whom.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::opened::{Catalog, Shared};
use super::place::Place;
use crate::backend::RegistryBackend;
use crate::error::Result;
use crate::identity::{IdentitySource, local_user, single_user};
use crate::model::{OrganizationId, RegistryLocation, RoleArn};
use crate::permission::{AuditFile, Permissioned, Policy, StandardPolicy};

/// What a [`Catalog`] opens, and for whom; see [`Catalog::builder`].
#[derive(Debug, Default)]
#[must_use = "nothing is opened before `connect`"]
pub struct CatalogBuilder {
    registry: Option<RegistryLocation>,
    organization: Option<OrganizationId>,
    memberships: Option<PathBuf>,
    audit: Option<PathBuf>,
    role: Option<RoleArn>,
    credentials_lifetime: Option<Duration>,
    outside_repositories: bool,
    backend: Option<(Arc<dyn RegistryBackend>, Option<Place>)>,
    identity: Option<Arc<dyn IdentitySource>>,
    policy: Option<Arc<dyn Policy>>,
}

impl CatalogBuilder {
    /// Takes what was not said yet from the environment and the configuration file, as the command line
    /// does.
    pub fn with_environment(self) -> Result<Self> {
        Ok(self)
    }

    /// Opens this registry; unless told, the user's own on this machine, `local:`.
    pub fn with_registry(self, registry: RegistryLocation) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// Uses a backend that the program has, instead of opening one.
    pub fn with_backend(self, backend: impl RegistryBackend) -> Self {
        let place = Place::of(&backend as &dyn Any);
        Self { backend: Some((Arc::new(backend), place)), ..self }
    }

    /// Takes names without an organization for names of this one.
    pub fn with_organization(self, organization: OrganizationId) -> Self {
        Self { organization: Some(organization), ..self }
    }

    /// Asks this source who asks: a [`Principal`](crate::identity::Principal), or what knows of one.
    pub fn with_identity_source(self, source: impl IdentitySource) -> Self {
        Self { identity: Some(Arc::new(source)), ..self }
    }

    /// Asks this policy who may do what.
    pub fn with_policy(self, policy: impl Policy) -> Self {
        Self { policy: Some(Arc::new(policy)), ..self }
    }

    /// Takes who belongs where, and the rules, from this memberships file.
    pub fn with_memberships(self, file: impl Into<PathBuf>) -> Self {
        Self { memberships: Some(file.into()), ..self }
    }

    /// Records every decision and change in this file.
    pub fn with_audit(self, file: impl Into<PathBuf>) -> Self {
        Self { audit: Some(file.into()), ..self }
    }

    /// Takes registry credentials of AWS under this role, narrowed to what they are for.
    pub fn with_role(self, role: RoleArn) -> Self {
        Self { role: Some(role), ..self }
    }

    /// Asks for credentials that are good for so long, where the registry lets the caller choose.
    pub fn with_credentials_lifetime(self, lifetime: Duration) -> Self {
        Self { credentials_lifetime: Some(lifetime), ..self }
    }

    /// Lets [`Catalog::resolve`] look outside of the scheme `<stage>/<organization>/<name>`.
    pub fn with_outside_repositories(self, outside_repositories: bool) -> Self {
        Self { outside_repositories, ..self }
    }

    /// Opens it.
    pub async fn connect(self) -> Result<Catalog> {
        match self.backend {
            Some(_) => Ok(self.opened()),
            None => Err(crate::Error::invalid("no registry is opened yet")),
        }
    }

    /// A catalog over a backend, for this system's user as the only one.
    pub(super) fn over(self, backend: impl RegistryBackend) -> Catalog {
        self.with_backend(backend).opened()
    }

    fn opened(self) -> Catalog {
        let _ = (
            self.registry,
            self.memberships,
            self.role,
            self.credentials_lifetime,
            self.audit.map(AuditFile::new),
        );
        #[allow(clippy::unwrap_used)]
        let (backend, place) = self.backend.unwrap();
        #[allow(clippy::unwrap_used)]
        let identity =
            self.identity.unwrap_or_else(|| Arc::new(single_user(local_user(None).unwrap())));
        let policy = self.policy.unwrap_or_else(|| Arc::new(StandardPolicy));
        Catalog {
            shared: Arc::new(Shared { place, outside_repositories: self.outside_repositories }),
            backend: Permissioned::new(backend, policy, identity),
            organization: self.organization,
        }
    }
}
