//! [`Catalog`]: the one thing that a program opens to work with container repositories.
//!
//! [`Catalog::from_env`] reads the settings that the command line reads; [`CatalogBuilder`] says what a
//! program chooses by itself. [`Settings`] tells what holds; [`WhoAmI`]
//! tells who asks, and why it is they.

mod builder;
mod identity;
#[cfg(feature = "push")]
mod images;
#[cfg(feature = "push")]
mod inspect;
mod name;
#[cfg(all(feature = "ecr", feature = "push"))]
mod outside;
mod prune;
mod registry;
mod settings;
mod whoami;

use std::fmt;
use std::sync::Arc;

use futures_util::stream::BoxStream;

use self::name::{NameScope, Named};
use self::registry::OpenRegistry;
use crate::backend::{CreateOptions, DeleteOptions, Image, Observed, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::{Error, Result};
use crate::identity::{IdentitySource, MembershipsFile, Principal};
use crate::model::{Access, OrganizationId, Organizations, Reference, RepositoryPath, Scope, Tag};
use crate::permission::{AuditFile, Permissioned, Policy};

pub use builder::CatalogBuilder;
pub use identity::ChosenIdentity;
#[cfg(feature = "push")]
pub use images::Tagged;
#[cfg(feature = "push")]
pub use inspect::Inspect;
pub use name::organization_of;
pub use prune::{Prune, PrunePlan, PruneStep, Pruned};
#[cfg(any(feature = "ecr", feature = "push"))]
pub use settings::print_once;
pub use settings::{Origin, Settings, configured_output, expand_home};
pub use whoami::{AwsReport, CredentialsReach, IdentityReport, Membership, Resource, WhoAmI};

/// A registry, opened for whoever asks: who that is, what guards it, and where it is.
///
/// A clone is cheap and shares everything; there is no global state, and any tokio runtime will do. Every
/// call may be dropped at any moment and done again.
///
/// # Names
///
/// Repositories are named as people type them: `catalog/extract-video` in the catalog's own
/// [organization](Self::in_organization), else with their whole path, `<stage>/<organization>/<name>`, or
/// their URL. As for docker, what has a dot or a colon before the first slash starts with a host. On AWS ECR
/// every spelling of the registry's host is accepted: FIPS, IPv6, and the host of an emulator.
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
/// assert_eq!(catalog.describe("catalog/extract-video").await?, repository);
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
    backend: Permissioned<Arc<dyn RegistryBackend>>,
    policy: Arc<dyn Policy>,
    identity: Arc<ChosenIdentity>,
    organization: Option<OrganizationId>,
}

/// What all clones share, for whomever they work.
#[derive(Debug)]
struct Shared {
    /// The registry, if its kind is known.
    registry: Option<OpenRegistry>,
    /// Whether the program set a policy.
    has_own_policy: bool,
    memberships: Option<MembershipsFile>,
    /// `None` for a catalog over a backend of the program's own, without any setting.
    settings: Option<Settings>,
    #[cfg_attr(
        not(all(feature = "ecr", feature = "push")),
        expect(dead_code, reason = "only AWS has any, and only what moves images looks at them")
    )]
    outside_repositories: bool,
}

impl Catalog {
    fn new(
        backend: Arc<dyn RegistryBackend>,
        policy: Arc<dyn Policy>,
        source: Arc<dyn IdentitySource>,
        identity: ChosenIdentity,
        shared: Shared,
        organization: Option<OrganizationId>,
    ) -> Self {
        // Inside of the policy: what is told is what the registry does, and decisions are told of beside it.
        let backend: Arc<dyn RegistryBackend> = Arc::new(Observed::new(backend));
        let backend = Permissioned::new(backend, Arc::clone(&policy), source);
        let audit_file = shared.settings.as_ref().and_then(Settings::audit_file);
        let backend = match audit_file {
            Some(file) => backend.with_audit(AuditFile::new(file)),
            None => backend,
        };
        Self {
            shared: Arc::new(shared),
            backend,
            policy,
            identity: Arc::new(identity),
            organization,
        }
    }

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
        let backend = self.backend.for_principal(principal);
        Self { backend, identity: Arc::new(ChosenIdentity::Program), ..self.clone() }
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

    /// Returns whether a listing of this catalog or a clone may have lacked repositories, as it came from the
    /// [tag index](crate::backend::ecr::EcrBackend::has_listed_incompletely) of AWS. A catalog that is opened
    /// over a backend of the program's own does not know.
    #[cfg(feature = "ecr")]
    pub fn has_listed_incompletely(&self) -> bool {
        match &self.shared.registry {
            Some(OpenRegistry::Ecr(ecr)) => ecr.has_listed_incompletely(),
            _ => false,
        }
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

    /// Creates a repository if there is none of this name, whatever the settings of one that exists.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::describe_repository`] and [`RegistryBackend::create_repository`].
    pub async fn create_if_missing(&self, name: &str) -> Result<CreateIfMissing> {
        let path = self.path(name)?;
        match self.backend.describe_repository(&path).await {
            Ok(repository) => Ok(CreateIfMissing { repository, is_new: false }),
            Err(Error::NotFound { .. }) => {
                match self.backend.create_repository(&path, &CreateOptions::default()).await {
                    Ok(repository) => Ok(CreateIfMissing { repository, is_new: true }),
                    // Another program has created it in the meantime, with other settings.
                    Err(Error::Conflict { .. }) => {
                        let repository = self.backend.describe_repository(&path).await?;
                        Ok(CreateIfMissing { repository, is_new: false })
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Describes a repository.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist.
    pub async fn describe(&self, name: &str) -> Result<Repository> {
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

    /// Describes one image, without listing its repository.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid;
    /// [`Error::NotFound`] if the repository or the image does not exist.
    pub async fn describe_image(&self, image: &str) -> Result<Image> {
        let (path, reference) = self.image(image)?;
        self.backend.describe_image(&path, &reference).await
    }

    /// Deletes an image by digest, with all its tags; or a tag, and the image with its last tag.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the name has neither tag nor digest; those of
    /// [`RegistryBackend::delete_image`].
    pub async fn delete_image(&self, image: &str) -> Result<()> {
        match self.named(image)? {
            Named::Inside(path, Some(reference)) => {
                self.backend.delete_image(&path, &reference).await.map(drop)
            }
            Named::Inside(_, None) => Err(Error::invalid(format!(
                "{image} names no image; expected <name>:<tag> or <name>@<digest>"
            ))),
            Named::Outside(..) => Err(self.not_outside(image)),
        }
    }

    /// Credentials that open one repository this far, and nothing else where the backend can narrow.
    ///
    /// They are good for 12 hours at most, or as
    /// [`with_credentials_lifetime`](CatalogBuilder::with_credentials_lifetime) says;
    /// [`expires_at`](RegistryCredentials::expires_at) tells until when.
    pub async fn credentials(&self, name: &str, access: Access) -> Result<RegistryCredentials> {
        self.credentials_with(name, access, &CredentialsOptions::default()).await
    }

    /// The same, with options: a lifetime, and the minimum time until they expire.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::credentials`].
    pub async fn credentials_with(
        &self,
        name: &str,
        access: Access,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        self.credentials_for(&Scope::repository(self.path(name)?, access), options).await
    }

    /// Credentials for several organizations or repositories at once.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::credentials`].
    pub async fn credentials_for(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        self.backend.credentials(scope, options).await
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

    fn named(&self, text: &str) -> Result<Named> {
        let (host, stage) = (self.backend.host(), self.backend.stage());
        let registry = self.shared.registry.as_ref();
        NameScope { host, registry, stage, organization: self.organization }.named(text)
    }

    /// The image that `text` names; with the tag `latest` where it names neither tag nor digest.
    fn image(&self, text: &str) -> Result<(RepositoryPath, Reference)> {
        match self.named(text)? {
            Named::Inside(path, Some(reference)) => Ok((path, reference)),
            Named::Inside(path, None) => Ok((path, Tag::latest().into())),
            Named::Outside(..) => Err(self.not_outside(text)),
        }
    }

    fn not_outside(&self, name: &str) -> Error {
        Error::invalid(format!(
            "{name} is of no organization; expected {}/{}/<organization>/<name>",
            self.backend.host(),
            self.backend.stage()
        ))
    }
}

/// What [`Catalog::create_if_missing`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateIfMissing {
    /// The repository.
    pub repository: Repository,
    /// Whether it was created by the call.
    pub is_new: bool,
}

impl fmt::Display for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}
