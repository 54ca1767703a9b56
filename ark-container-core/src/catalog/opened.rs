//! [`Catalog`]: a registry, opened for whoever asks.

use std::fmt;
use std::sync::Arc;

use futures_util::stream::BoxStream;

use super::builder::CatalogBuilder;
use super::name::{Named, Surroundings};
use super::place::Place;
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{Access, OrganizationId, Organizations, RepositoryPath, Scope};
use crate::permission::Permissioned;

/// A registry, opened for whoever asks: who that is, what guards it, and where it is.
///
/// A clone is cheap and shares everything; there is no global state, and any tokio runtime will do. Every
/// call may be dropped at any moment and done again.
///
/// # Names
///
/// Repositories are named as people type them: `catalog/extract-video` in the catalog's own
/// [organization](Self::in_organization), else with their whole path, `<stage>/<organization>/<name>`, or
/// their URL. As for docker, what has a dot or a colon before the first slash starts with a host.
///
/// # Errors
///
/// Every call may fail as the policy and the [backend](RegistryBackend) do: above all with
/// [`Error::PermissionDenied`], which is the same whether or not a repository exists; with
/// [`Error::Unauthenticated`] where nobody is known to be asking; and with [`Error::Temporary`]. A name that
/// is none, or of no known organization, is [`Error::Parse`] or [`Error::InvalidInput`].
///
/// ```
/// use ark_container_core::Catalog;
/// use ark_container_core::model::OrganizationId;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ark_container_core::Result<()> {
/// # #[cfg(feature = "local")] {
/// # let folder = tempfile::tempdir().unwrap();
/// # let location = format!("local:{}", folder.path().display());
/// let builder = Catalog::builder().with_registry(location.parse()?);
/// let catalog = builder.with_organization(OrganizationId::TBD).connect().await?;
/// let repository = catalog.create("catalog/extract-video").await?;
/// assert_eq!(catalog.repository("catalog/extract-video").await?, repository);
/// # }
/// # Ok(())
/// # }
/// ```
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
    #[cfg_attr(
        not(all(feature = "ecr", feature = "push")),
        expect(dead_code, reason = "only AWS has any, and only what moves images looks at them")
    )]
    pub(super) outside_repositories: bool,
}

impl Catalog {
    /// Opens the registry that the command line would open here, for whoever would be asking there.
    ///
    /// What is set counts in the same order: the environment (`ARK_REGISTRY`, `ARK_ORGANIZATION`,
    /// `ARK_MEMBERSHIPS`, `ARK_JWT_FILE`, …), then `$XDG_CONFIG_HOME/ark/container.toml`, then defaults. Without any, it is
    /// `local:`, a folder of the user's own.
    ///
    /// # Errors
    /// Those of [`CatalogBuilder::connect`].
    pub async fn from_env() -> Result<Self> {
        Self::builder().with_environment().connect().await
    }

    /// Says what to open, and for whom, without looking at the environment.
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// Opens a backend that the program has, such as a mock, for this system's user as administrator of
    /// every organization. No setting of the environment counts.
    ///
    /// A backend that authorizes by itself goes on doing so. [`CatalogBuilder::with_backend`] takes an
    /// identity and a policy.
    pub fn from_backend_as_administrator(backend: impl RegistryBackend) -> Self {
        CatalogBuilder::over(backend)
    }

    /// Returns this catalog with another caller, for a service that acts for many. It is as cheap as a
    /// clone.
    ///
    /// The principal is the caller for everything: policy and audit, and on AWS ECR also resource tags,
    /// session names and cached logins.
    pub fn acting_as(&self, principal: impl Into<Arc<Principal>>) -> Self {
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
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if nobody is known to be asking, or their proof has expired.
    pub async fn principal(&self) -> Result<Arc<Principal>> {
        self.backend.principal().await
    }

    /// The repositories of all organizations of the principal, and the global one's.
    ///
    /// Nothing is asked before the stream is; what fails is its last item.
    pub fn list(&self) -> BoxStream<'static, Result<Repository>> {
        self.backend.list_repositories(&Organizations::All)
    }

    /// The repositories of one organization; the stream is one error where the principal may not list it.
    pub fn list_in(&self, organization: OrganizationId) -> BoxStream<'static, Result<Repository>> {
        self.backend.list_repositories(&organization.into())
    }

    /// Creates a repository; one that exists is returned as it is.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it exists with other settings.
    pub async fn create(&self, name: &str) -> Result<Repository> {
        self.create_with(name, &CreateOptions::default()).await
    }

    /// The same, with options.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::create_repository`].
    pub async fn create_with(&self, name: &str, options: &CreateOptions) -> Result<Repository> {
        self.backend.create_repository(&self.path(name)?, options).await
    }

    /// A repository as its registry knows it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn repository(&self, name: &str) -> Result<Repository> {
        self.backend.describe_repository(&self.path(name)?).await
    }

    /// Deletes a repository without images.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist; [`Error::Conflict`] if it has images.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.delete_with(name, &DeleteOptions::default()).await
    }

    /// Deletes a repository, and its images where [`DeleteOptions::force`] says so.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::delete_repository`].
    pub async fn delete_with(&self, name: &str, options: &DeleteOptions) -> Result<()> {
        self.backend.delete_repository(&self.path(name)?, options).await
    }

    /// Lists the images of a repository. Nothing is requested before the stream is polled.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid. The stream's first item is
    /// [`Error::NotFound`] if the repository does not exist.
    pub fn images(&self, name: &str) -> Result<BoxStream<'static, Result<Image>>> {
        Ok(self.backend.list_images(&self.path(name)?))
    }

    /// Credentials that open one repository this far, and nothing else where the backend can narrow.
    ///
    /// They are good for 12 hours at most, or as
    /// [`with_credentials_lifetime`](CatalogBuilder::with_credentials_lifetime) says;
    /// [`expires_at`](RegistryCredentials::expires_at) tells until when. For a scope over organizations there
    /// is [`RegistryBackend::credentials`] of the [`backend`](Self::backend).
    pub async fn credentials(&self, name: &str, access: Access) -> Result<RegistryCredentials> {
        self.backend
            .credentials(&Scope::repository(self.path(name)?, access), &Default::default())
            .await
    }

    /// The path of a repository by its name, path or URL. Nothing is asked.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if it is none, is an image's, or lies outside of the
    /// organizations.
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
