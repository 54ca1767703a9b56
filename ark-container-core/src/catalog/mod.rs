//! [`Catalog`]: the entry point of the library, for work with container repositories.
//!
//! [`Catalog::from_env`] uses the settings of the command line. [`CatalogBuilder`] sets them in the
//! program. [`Settings`] has the effective settings and their origins. [`WhoAmI`] describes the caller.

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

use self::name::{NameScope, ParsedName};
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

/// An open registry with its caller and the policy that is enforced.
///
/// A clone is cheap and shares all state. There is no global state, and any tokio runtime works. Every call
/// may be cancelled at any time and repeated.
///
/// # Names
///
/// A repository is written as its name, `catalog/extract-video`, in the
/// [organization](Self::in_organization) of the catalog, as its path, `<stage>/<organization>/<name>`, or
/// as its URL. As in docker, a text with a dot or colon before the first slash starts with a host. On AWS
/// ECR every host of the registry is accepted: standard, FIPS, dual-stack, and the host of an emulator.
///
/// # Errors
///
/// Every call returns the errors of the policy and the [backend](RegistryBackend), most often:
/// - [`Error::PermissionDenied`], whether or not the repository exists
/// - [`Error::Unauthenticated`] if there is no caller
/// - [`Error::Temporary`]
/// - [`Error::Parse`] or [`Error::InvalidInput`] for an invalid name, or a name without an organization
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

/// The state that all clones share, for every caller.
#[derive(Debug)]
struct Shared {
    /// The registry, if its kind is known.
    registry: Option<OpenRegistry>,
    /// Whether the program set a policy.
    has_own_policy: bool,
    memberships: Option<MembershipsFile>,
    /// The settings; `None` for a catalog of a given backend without settings.
    settings: Option<Settings>,
    #[cfg_attr(
        not(all(feature = "ecr", feature = "push")),
        expect(dead_code, reason = "used only for reads of images in AWS ECR")
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
        // Inside the policy: `Observed` reports the calls of the registry. Decisions are reported separately.
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

    /// Opens the registry that the command line would open, with the same caller.
    ///
    /// The order of precedence is: the environment (`ARK_REGISTRY`, `ARK_ORGANIZATION`, `ARK_MEMBERSHIPS`,
    /// `ARK_JWT_FILE`, …), then `$XDG_CONFIG_HOME/ark/container.toml`, then defaults. The default registry
    /// is `local:`, a folder of the user.
    ///
    /// # Errors
    /// See [`CatalogBuilder::connect`].
    pub async fn from_env() -> Result<Self> {
        Self::builder().with_environment().connect().await
    }

    /// Returns a builder that does not read the environment.
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// Opens a catalog of a given backend, such as a mock. The caller is the user of this process, as
    /// administrator of every organization. Settings in the environment are ignored.
    ///
    /// A backend that authorizes its callers continues to do so. [`CatalogBuilder::with_backend`] also sets
    /// an identity and a policy.
    pub fn from_backend_as_administrator(backend: impl RegistryBackend) -> Self {
        CatalogBuilder::over(backend)
    }

    /// Returns this catalog with another caller, for a service that acts for many callers. The cost is that
    /// of a clone.
    ///
    /// The principal is the caller for the policy and the audit. On AWS ECR it is also used for resource
    /// tags, session names and cached logins.
    pub fn acting_as(&self, principal: impl Into<Arc<Principal>>) -> Self {
        let backend = self.backend.for_principal(principal);
        Self { backend, identity: Arc::new(ChosenIdentity::Program), ..self.clone() }
    }

    /// Returns this catalog with another organization for names without an organization.
    pub fn in_organization(&self, organization: OrganizationId) -> Self {
        Self { organization: Some(organization), ..self.clone() }
    }

    /// Returns the organization for names without an organization, if one is set.
    pub fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    /// Returns the current caller.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if there is no caller, or its token has expired.
    pub async fn principal(&self) -> Result<Arc<Principal>> {
        self.backend.principal().await
    }

    /// Lists the repositories of all organizations of the principal, and of the global organization.
    ///
    /// Nothing is requested before the stream is polled. The stream ends after an error.
    pub fn list(&self) -> BoxStream<'static, Result<Repository>> {
        self.backend.list_repositories(&Organizations::All)
    }

    /// Lists the repositories of one organization. The stream returns one error if the principal may not list them.
    pub fn list_in(&self, organization: OrganizationId) -> BoxStream<'static, Result<Repository>> {
        self.backend.list_repositories(&organization.into())
    }

    /// Returns whether a listing of this catalog or a clone may have been incomplete, because it came from
    /// the [tag index](crate::backend::ecr::EcrBackend::has_listed_incompletely) of AWS. Returns `false`
    /// for other registries.
    #[cfg(feature = "ecr")]
    pub fn has_listed_incompletely(&self) -> bool {
        match &self.shared.registry {
            Some(OpenRegistry::Ecr(ecr)) => ecr.has_listed_incompletely(),
            _ => false,
        }
    }

    /// Creates a repository. Returns an existing repository unchanged.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the repository exists with other settings.
    pub async fn create(&self, name: &str) -> Result<Repository> {
        self.create_with(name, &CreateOptions::default()).await
    }

    /// Creates a repository with options.
    ///
    /// # Errors
    /// See [`RegistryBackend::create_repository`].
    pub async fn create_with(&self, name: &str, options: &CreateOptions) -> Result<Repository> {
        self.backend.create_repository(&self.path(name)?, options).await
    }

    /// Creates a repository if it does not exist. The settings of an existing repository do not matter.
    ///
    /// # Errors
    /// See [`RegistryBackend::describe_repository`] and [`RegistryBackend::create_repository`].
    pub async fn create_if_missing(&self, name: &str) -> Result<CreateIfMissing> {
        let path = self.path(name)?;
        match self.backend.describe_repository(&path).await {
            Ok(repository) => Ok(CreateIfMissing { repository, is_new: false }),
            Err(Error::NotFound { .. }) => {
                match self.backend.create_repository(&path, &CreateOptions::default()).await {
                    Ok(repository) => Ok(CreateIfMissing { repository, is_new: true }),
                    // In the meantime another program has created the repository with other settings.
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

    /// Returns the description of a repository.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub async fn describe(&self, name: &str) -> Result<Repository> {
        self.backend.describe_repository(&self.path(name)?).await
    }

    /// Deletes a repository that has no images.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the repository does not exist
    /// - [`Error::Conflict`] if the repository has images
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.delete_with(name, &DeleteOptions::default()).await
    }

    /// Deletes a repository, with its images if [`DeleteOptions::force`] is set.
    ///
    /// # Errors
    /// See [`RegistryBackend::delete_repository`].
    pub async fn delete_with(&self, name: &str, options: &DeleteOptions) -> Result<()> {
        self.backend.delete_repository(&self.path(name)?, options).await
    }

    /// Lists the images of a repository. Nothing is requested before the stream is polled.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid. The first item of the stream is
    /// [`Error::NotFound`] if the repository does not exist.
    pub fn images(&self, name: &str) -> Result<BoxStream<'static, Result<Image>>> {
        Ok(self.backend.list_images(&self.path(name)?))
    }

    /// Returns the description of one image, without listing its repository.
    ///
    /// # Errors
    /// - [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid
    /// - [`Error::NotFound`] if the repository or the image does not exist
    pub async fn describe_image(&self, image: &str) -> Result<Image> {
        let (path, reference) = self.image(image)?;
        self.backend.describe_image(&path, &reference).await
    }

    /// Deletes an image: by digest with all its tags; by tag only the tag, and the image with its last tag.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the name has neither tag nor digest. Otherwise see
    /// [`RegistryBackend::delete_image`].
    pub async fn delete_image(&self, image: &str) -> Result<()> {
        match self.named(image)? {
            ParsedName::Inside(path, Some(reference)) => {
                self.backend.delete_image(&path, &reference).await.map(drop)
            }
            ParsedName::Inside(_, None) => Err(Error::invalid(format!(
                "{image} is a repository, not an image; expected <name>:<tag> or <name>@<digest>"
            ))),
            ParsedName::Outside(..) => Err(self.not_outside(image)),
        }
    }

    /// Returns credentials for one repository with this access level. If the backend can narrow them, they
    /// are valid for nothing else.
    ///
    /// Credentials are valid for up to 12 hours, or for the [lifetime in the
    /// settings](CatalogBuilder::with_credentials_lifetime), until [`expires_at`](RegistryCredentials::expires_at).
    pub async fn credentials(&self, name: &str, access: Access) -> Result<RegistryCredentials> {
        self.credentials_with(name, access, &CredentialsOptions::default()).await
    }

    /// Returns credentials with options: a lifetime, and the minimum remaining lifetime.
    ///
    /// # Errors
    /// See [`RegistryBackend::credentials`].
    pub async fn credentials_with(
        &self,
        name: &str,
        access: Access,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        self.credentials_for(&Scope::repository(self.path(name)?, access), options).await
    }

    /// Returns credentials for several organizations or repositories.
    ///
    /// # Errors
    /// See [`RegistryBackend::credentials`].
    pub async fn credentials_for(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        self.backend.credentials(scope, options).await
    }

    /// Returns the path of a repository by its name, path or URL. Makes no request.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid, is the name of an image, or
    /// belongs to no organization.
    pub fn path(&self, name: &str) -> Result<RepositoryPath> {
        match self.named(name)? {
            ParsedName::Inside(path, None) => Ok(path),
            ParsedName::Inside(_, Some(_)) => Err(Error::invalid(format!(
                "{name} is an image; a repository has no tag or digest"
            ))),
            ParsedName::Outside(..) => Err(self.not_outside(name)),
        }
    }

    /// Returns the guarded backend, for all other operations. See also
    /// [`RegistryBackendExt`](crate::RegistryBackendExt).
    pub fn backend(&self) -> &Permissioned<Arc<dyn RegistryBackend>> {
        &self.backend
    }

    fn named(&self, text: &str) -> Result<ParsedName> {
        let (host, stage) = (self.backend.host(), self.backend.stage());
        let registry = self.shared.registry.as_ref();
        NameScope { host, registry, stage, organization: self.organization }.named(text)
    }

    /// Returns the image that `text` names. The default tag is `latest`.
    fn image(&self, text: &str) -> Result<(RepositoryPath, Reference)> {
        match self.named(text)? {
            ParsedName::Inside(path, Some(reference)) => Ok((path, reference)),
            ParsedName::Inside(path, None) => Ok((path, Tag::latest().into())),
            ParsedName::Outside(..) => Err(self.not_outside(text)),
        }
    }

    fn not_outside(&self, name: &str) -> Error {
        Error::invalid(format!(
            "{name} belongs to no organization; expected {}/{}/<organization>/<name>",
            self.backend.host(),
            self.backend.stage()
        ))
    }
}

/// The result of [`Catalog::create_if_missing`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateIfMissing {
    /// The repository.
    pub repository: Repository,
    /// Whether the call created the repository.
    pub is_new: bool,
}

impl fmt::Display for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}
