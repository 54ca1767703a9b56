//! [`Catalog`]: a registry, opened for whoever asks.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::BoxStream;

use super::builder::CatalogBuilder;
use super::name::{Named, Surroundings};
use super::place::Place;
use crate::backend::{CreateOptions, RegistryBackend, Repository};
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{Access, OrganizationId, Organizations, RepositoryPath, Scope};
use crate::permission::Permissioned;

/// A registry, opened for whoever asks: who that is, what guards it, and where it is.
///
/// A clone is cheap and shares everything. Repositories are named as people type them:
/// `catalog/extract-video` in the catalog's own [organization](Self::in_organization), else with their
/// whole path or URL.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) shared: Arc<Shared>,
    pub(super) backend: Permissioned<Arc<dyn RegistryBackend>>,
    pub(super) organization: Option<OrganizationId>,
}

/// What all clones share, for whomever they work.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) place: Option<Place>,
    pub(super) outside_repositories: bool,
}

impl Catalog {
    /// Opens the registry that the command line would open here, for whoever would be asking there.
    ///
    /// What is set counts in the same order: the environment (`ARK_REGISTRY`, `ARK_ORGANIZATION`,
    /// `ARK_MEMBERSHIPS`, `ARK_JWT_FILE`, …), then `$XDG_CONFIG_HOME/ark/container.toml`, then defaults.
    pub async fn from_env() -> Result<Self> {
        Self::builder().with_environment().connect().await
    }

    /// Says what to open, and for whom, without looking at the environment.
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// A catalog over a backend that the program has, which may do all that the backend lets it.
    pub fn from_backend(backend: impl RegistryBackend) -> Self {
        CatalogBuilder::over(backend)
    }

    /// The same catalog for another principal, under the same policy.
    pub fn for_principal(&self, principal: impl Into<Arc<Principal>>) -> Self {
        Self { backend: self.backend.for_principal(principal), ..self.clone() }
    }

    /// The same catalog, in which names without an organization are of this one.
    pub fn in_organization(&self, organization: OrganizationId) -> Self {
        Self { organization: Some(organization), ..self.clone() }
    }

    /// The organization of names that name none, if one is chosen.
    pub fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    /// Whom it works for now.
    pub async fn principal(&self) -> Result<Arc<Principal>> {
        self.backend.principal().await
    }

    /// The repositories of all organizations of the principal.
    pub fn list(&self) -> BoxStream<'static, Result<Repository>> {
        self.backend.list_repositories(&Organizations::All)
    }

    /// The repositories of one organization.
    pub fn list_in(&self, organization: OrganizationId) -> BoxStream<'static, Result<Repository>> {
        self.backend.list_repositories(&organization.into())
    }

    /// Creates a repository; one that exists is returned as it is.
    pub async fn create(&self, name: &str) -> Result<Repository> {
        self.create_with(name, &CreateOptions::default()).await
    }

    /// The same, with options.
    pub async fn create_with(&self, name: &str, options: &CreateOptions) -> Result<Repository> {
        self.backend.create_repository(&self.path(name)?, options).await
    }

    /// A repository as its registry knows it.
    pub async fn repository(&self, name: &str) -> Result<Repository> {
        self.backend.describe_repository(&self.path(name)?).await
    }

    /// Credentials that open one repository this far, and nothing else where the backend can narrow.
    pub async fn credentials(&self, name: &str, access: Access) -> Result<RegistryCredentials> {
        self.backend.credentials(&Scope::repository(self.path(name)?, access)).await
    }

    /// The path of a repository by its name, path or URL. Nothing is asked.
    pub fn path(&self, name: &str) -> Result<RepositoryPath> {
        match self.named(name)? {
            Named::Inside(path, None) => Ok(path),
            Named::Inside(_, Some(_)) => Err(Error::invalid(format!(
                "{name} is an image; a repository has no tag or digest"
            ))),
            Named::Outside(..) => Err(self.not_outside(name)),
        }
    }

    /// The guarded backend, for everything else; [`RegistryBackendExt`](crate::RegistryBackendExt) has
    /// conveniences.
    pub fn backend(&self) -> &Permissioned<Arc<dyn RegistryBackend>> {
        &self.backend
    }

    /// Where the repositories are, if this is a kind of registry that the library knows.
    pub fn place(&self) -> Option<&Place> {
        self.shared.place.as_ref()
    }

    pub(super) fn named(&self, text: &str) -> Result<Named> {
        let (host, stage) = (self.backend.host(), self.backend.stage());
        Surroundings { host, stage, organization: self.organization }.named(text)
    }

    pub(super) fn not_outside(&self, name: &str) -> Error {
        Error::invalid(format!(
            "{name} is of no organization; expected {}/{}/<organization>/<name>",
            self.backend.host(),
            self.backend.stage()
        ))
    }
}

impl fmt::Display for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}
