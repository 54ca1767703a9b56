//! [`LocalBackend`]: repositories in a folder of this machine.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use etcetera::BaseStrategy;
use futures_util::future::join;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};

use super::store::{RepositoryRecord, Store};
use super::token::Signer;
use super::{Registry, address};
#[cfg(feature = "push")]
use tokio_util::task::AbortOnDropHandle;

use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{
    Digest, OrganizationId, Organizations, Reference, RegistryHost, RepositoryPath, RepositoryUrl,
    Scope, ScopeTarget, Stage,
};

/// The default lifetime of credentials, the same as in ECR.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
const DEFAULT_PASSWORD_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The minimum lifetime of credentials. A token expires at a whole second.
const MIN_PASSWORD_LIFETIME: Duration = Duration::from_secs(1);

/// The maximum lifetime of credentials, one year.
const MAX_PASSWORD_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The maximum number of repositories that a listing reads ahead of its consumer.
const MAX_PREFETCHED_REPOSITORIES: usize = 64;

/// The repositories in a folder of this machine, which a registry serves to clients.
///
/// Any number of processes may use the folder at once, and a process may be killed at any moment.
/// Clones are cheap. Disk access runs on tokio's blocking threads, so the methods must be awaited within a
/// tokio runtime.
///
/// ```
/// use ark_container_core::backend::CreateOptions;
/// use ark_container_core::backend::local::LocalBackend;
/// use ark_container_core::model::{OrganizationId, RepositoryName};
/// use ark_container_core::{RegistryBackend, RegistryBackendExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let backend = LocalBackend::open(Some(folder))?;
/// let name: RepositoryName = "catalog/extract-video".parse()?;
/// let path = backend.repository_path(OrganizationId::TBD, &name)?;
/// let repository = backend.create_repository(&path, &CreateOptions::default()).await?;
/// assert_eq!(repository.url.to_string(), format!("127.0.0.1:5050/{path}"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LocalBackend {
    store: Store,
    stage: Stage,
    token_lifetime: Duration,
}

impl LocalBackend {
    /// The default address of a registry.
    pub const DEFAULT_ADDRESS: SocketAddr = address::DEFAULT_ADDRESS;

    /// Opens the registry in `directory`. The default is `$XDG_DATA_HOME/ark/registry`.
    ///
    /// Opening writes nothing: a folder that does not exist has no repositories. The first change, such as a new
    /// repository or new credentials, creates the folder, accessible to its owner only.
    ///
    /// # Errors
    /// - [`Error::InvalidInput`] if the folder has files but is not the folder of a registry.
    /// - [`Error::Failed`] if the folder cannot be read or has an unsupported format, or the user has no home folder.
    pub fn open(directory: Option<&Path>) -> Result<Self> {
        let root = match directory {
            Some(directory) => directory.to_path_buf(),
            None => default_directory()?,
        };
        Ok(Self {
            store: Store::open(root)?,
            stage: Stage::default(),
            token_lifetime: DEFAULT_PASSWORD_LIFETIME,
        })
    }

    /// Sets the lifetime of credentials for options without a lifetime. The default is 12 hours.
    pub fn with_token_lifetime(mut self, token_lifetime: Duration) -> Self {
        self.token_lifetime = token_lifetime;
        self
    }

    /// Returns the absolute path of the registry's folder.
    pub fn directory(&self) -> &Path {
        self.store.root()
    }

    /// Returns the organizations that have, or had, a repository in this registry.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be read.
    pub async fn organizations(&self) -> Result<BTreeSet<OrganizationId>> {
        let stage = self.stage.clone();
        self.with_store(move |store| store.organizations(&stage)).await
    }

    /// Returns the address at which a process serves the folder; `None` if no process does.
    pub fn served_at(&self) -> Option<RegistryHost> {
        address::served(&self.store)
    }

    /// Returns the store that the registry serves.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns a backend for one transfer. [`end_reservations`](Self::end_reservations) ends its reservations of blobs.
    #[cfg(feature = "push")]
    pub(crate) fn for_one_transfer(&self) -> Self {
        Self { store: self.store.for_one_transfer(), ..self.clone() }
    }

    /// Returns the lifetime of new credentials.
    fn lifetime(&self, options: &CredentialsOptions) -> Result<Duration> {
        let lifetime = match options.lifetime {
            Some(lifetime)
                if lifetime < MIN_PASSWORD_LIFETIME || lifetime > MAX_PASSWORD_LIFETIME =>
            {
                return Err(Error::invalid(format!(
                    "registry credentials cannot have a lifetime of {lifetime:?}: choose one from \
                     {} s to {} s",
                    MIN_PASSWORD_LIFETIME.as_secs(),
                    MAX_PASSWORD_LIFETIME.as_secs(),
                )));
            }
            lifetime => lifetime.unwrap_or(self.token_lifetime),
        };
        match options.min_remaining {
            Some(min_remaining) if min_remaining > lifetime => Err(Error::invalid(format!(
                "registry credentials with a lifetime of {lifetime:?} cannot have {min_remaining:?} \
                 left"
            ))),
            _ => Ok(lifetime),
        }
    }

    fn check_stage(&self, stage: &Stage) -> Result<()> {
        if *stage == self.stage {
            return Ok(());
        }
        Err(Error::invalid(format!("{self} has the stage {}, not {stage}", self.stage)))
    }

    /// Runs work with the store on a blocking thread.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        let work = tokio::task::spawn_blocking(move || work(&store));
        work.await.unwrap_or_else(|error| {
            Err(Error::failed("the local registry failed").with_source(error))
        })
    }

    /// Runs work with a repository of this backend's stage on a blocking thread.
    pub(super) async fn with_repository<T: Send + 'static>(
        &self,
        path: &RepositoryPath,
        work: impl FnOnce(&Store, &RepositoryPath) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_stage(path.stage())?;
        let path = path.clone();
        self.with_store(move |store| work(store, &path)).await
    }
}

impl fmt::Display for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local:{}", self.store.root().display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RegistryBackend for LocalBackend {
    /// Returns the address at which a process serves the folder, or the default address if no process does.
    fn host(&self) -> RegistryHost {
        address::current(&self.store)
    }

    fn stage(&self) -> Stage {
        self.stage.clone()
    }

    /// Returns `None`: a folder has no record of callers.
    fn acting_as(&self, _: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        None
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        let (store, stage) = (self.store.clone(), self.stage.clone());
        let organizations = organizations.clone();
        // The walk starts when the stream is polled first.
        let started = async move {
            let (sender, receiver) = mpsc::channel(MAX_PREFETCHED_REPOSITORIES);
            tokio::task::spawn_blocking(move || {
                let host = address::current(&store);
                for listed in store.repositories(&stage, &organizations) {
                    let failed = listed.is_err();
                    let listed = listed.map(|(path, record)| described(&host, path, record));
                    // A failure to send means that the stream was dropped.
                    if sender.blocking_send(listed).is_err() || failed {
                        break;
                    }
                }
            });
            stream::unfold(receiver, |mut receiver| async {
                receiver.recv().await.map(|listed| (listed, receiver))
            })
        };
        stream::once(started).flatten().boxed()
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        let options = options.clone();
        self.with_repository(path, move |store, path| {
            let record = store.create_repository(path, &options)?;
            Ok(described(&address::current(store), path.clone(), record))
        })
        .await
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        self.with_repository(path, |store, path| {
            let record = store.repository(path)?;
            Ok(described(&address::current(store), path.clone(), record))
        })
        .await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        let force = options.force;
        self.with_repository(path, move |store, path| store.delete_repository(path, force)).await
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        let (backend, path) = (self.clone(), path.clone());
        let images = async move {
            let images = backend.with_repository(&path, |store, path| store.images(path)).await?;
            Ok::<_, Error>(stream::iter(images.into_iter().map(Ok)))
        };
        stream::once(images).try_flatten().boxed()
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        let reference = reference.clone();
        self.with_repository(path, move |store, path| store.image(path, &reference)).await
    }

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let reference = reference.clone();
        self.with_repository(path, move |store, path| {
            store.delete_image(path, &reference).map(Some)
        })
        .await
    }

    /// Returns new credentials that are limited to their scope and signed on this machine.
    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        match scope.target() {
            ScopeTarget::Repository(path) => self.check_stage(path.stage())?,
            ScopeTarget::Organizations(stage, _) => self.check_stage(stage)?,
        }
        let lifetime = self.lifetime(options)?;
        let scope = scope.clone();
        self.with_store(move |store| {
            let expires_at = SystemTime::now()
                .checked_add(lifetime)
                .ok_or_else(|| Error::invalid(format!("the lifetime {lifetime:?} is too long")))?;
            store.create()?;
            let password = Signer::open(store.root())?.sign(&scope, expires_at)?;
            let host = address::current(store);
            Ok(RegistryCredentials::new(host, password, expires_at, scope))
        })
        .await
    }
}

impl LocalBackend {
    /// Serves the folder on a free port while `work` runs, and passes the address to `work`. Another process
    /// may serve the folder at the same time.
    ///
    /// # Behavior
    /// - After the end of `work`, the received bytes of uploads are stored before this function returns.
    /// - Dropping the future closes all connections immediately.
    ///
    /// # Errors
    /// Those of [`Registry::bind`], `work` and [`Registry::serve`].
    pub async fn serve_while<T, E, F, W>(&self, work: W) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
        W: FnOnce(RegistryHost) -> F,
    {
        let registry = self.bind_any_port()?;
        let endpoint = registry.local_addr().into();
        let (working, done) = oneshot::channel::<()>();
        let serving = registry.serve(async move {
            // The sender is dropped when the work ends.
            let _ = done.await;
        });
        let working = async {
            let _working = working;
            work(endpoint).await
        };
        let (served, worked) = join(serving, working).await;
        let worked = worked?;
        served?;
        Ok(worked)
    }

    /// Serves the folder on a free port until the returned handle is dropped. The drop closes all connections
    /// immediately.
    #[cfg(feature = "push")]
    pub(crate) fn serve_until_dropped(
        &self,
    ) -> Result<(RegistryHost, AbortOnDropHandle<Result<()>>)> {
        let registry = self.bind_any_port()?;
        let endpoint = registry.local_addr().into();
        let serving = tokio::spawn(registry.serve(std::future::pending()));
        Ok((endpoint, AbortOnDropHandle::new(serving)))
    }

    fn bind_any_port(&self) -> Result<Registry> {
        Registry::bind(self.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

fn described(host: &RegistryHost, path: RepositoryPath, record: RepositoryRecord) -> Repository {
    Repository {
        created_at: Some(record.created_at),
        tag_mutability: record.tag_mutability,
        mutability_exclusions: record.mutability_exclusions,
        resource_tags: Some(record.resource_tags),
        ..Repository::new(RepositoryUrl::new(host.clone(), path))
    }
}

/// Returns the directory of the user's own registry.
///
/// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>
fn default_directory() -> Result<PathBuf> {
    let folders = etcetera::base_strategy::Xdg::new().map_err(|error| {
        Error::failed("cannot find the home folder for the local registry").with_source(error)
    })?;
    Ok(folders.data_dir().join("ark/registry"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegistryBackendExt;
    use crate::backend::TagMutability;
    use crate::error::ResourceKind;
    use crate::model::{Access, OrganizationId};

    fn backend() -> (LocalBackend, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (LocalBackend::open(Some(folder.path())).unwrap(), folder)
    }

    fn path(backend: &LocalBackend, name: &str) -> RepositoryPath {
        backend.repository_path(OrganizationId::TBD, &name.parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn created_repository_is_described_listed_and_deleted() {
        let (backend, folder) = backend();
        assert_eq!(backend.to_string(), format!("local:{}", folder.path().display()));
        let path = path(&backend, "catalog/extract-video");
        let options = CreateOptions::default()
            .with_tag_mutability(TagMutability::Immutable)
            .with_resource_tag("team", "video");
        let created = backend.create_repository(&path, &options).await.unwrap();
        assert_eq!(created.url.to_string(), format!("127.0.0.1:5050/{path}"));
        assert_eq!(created.tag_mutability, TagMutability::Immutable);
        assert_eq!(created.resource_tags, Some(options.resource_tags));
        assert!(created.created_at.is_some());
        assert_eq!(backend.describe_repository(&path).await.unwrap(), created);
        let listed = backend.list_repositories(&OrganizationId::TBD.into());
        assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap(), [created]);
        assert!(backend.list_images(&path).try_collect::<Vec<_>>().await.unwrap().is_empty());
        backend.delete_repository(&path, &DeleteOptions::default()).await.unwrap();
        let mut images = backend.list_images(&path);
        let first = images.next().await.unwrap();
        assert!(matches!(first, Err(Error::NotFound { kind: ResourceKind::Repository, .. })));
        assert!(images.next().await.is_none(), "a stream ends after an error");
    }

    #[tokio::test]
    async fn other_stage_is_rejected_everywhere() {
        let (backend, _folder) = backend();
        let path: RepositoryPath = format!("dev/{}/a", OrganizationId::TBD).parse().unwrap();
        let reference = "latest".parse().unwrap();
        let scope = Scope::repository(path.clone(), Access::Pull);
        let organizations =
            Scope::organizations(path.stage().clone(), [OrganizationId::TBD], Access::Pull);
        for error in [
            backend.create_repository(&path, &CreateOptions::default()).await.unwrap_err(),
            backend.describe_repository(&path).await.unwrap_err(),
            backend.delete_repository(&path, &DeleteOptions::default()).await.unwrap_err(),
            backend.list_images(&path).next().await.unwrap().unwrap_err(),
            backend.delete_image(&path, &reference).await.unwrap_err(),
            backend.credentials(&scope, &Default::default()).await.unwrap_err(),
            backend.credentials(&organizations, &Default::default()).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn credentials_carry_scope_and_expire() {
        let (backend, folder) = backend();
        let scope = Scope::repository(path(&backend, "yet/to/come"), Access::Push);
        let before = SystemTime::now();
        let credentials = backend.credentials(&scope, &Default::default()).await.unwrap();
        let lifetime = credentials.expires_at.duration_since(before).unwrap();
        assert!(
            lifetime >= DEFAULT_PASSWORD_LIFETIME
                && lifetime < DEFAULT_PASSWORD_LIFETIME + Duration::from_secs(60)
        );
        assert_eq!((credentials.username.as_str(), &credentials.scope), ("AWS", &scope));
        let signer = Signer::open(folder.path()).unwrap();
        assert_eq!(signer.verify(credentials.password.expose()).unwrap(), scope);
        let short = backend.clone().with_token_lifetime(Duration::from_secs(60));
        let credentials = short.credentials(&scope, &Default::default()).await.unwrap();
        assert!(credentials.expires_at < before + Duration::from_secs(120));
        let none = Scope::organizations(Stage::default(), [], Access::Pull);
        let error = backend.credentials(&none, &Default::default()).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
        let forever = backend.with_token_lifetime(Duration::MAX);
        assert!(matches!(
            forever.credentials(&scope, &Default::default()).await,
            Err(Error::InvalidInput { .. })
        ));
    }

    #[tokio::test]
    async fn dropped_listing_ends_its_walk() {
        let (backend, _folder) = backend();
        for index in 0..MAX_PREFETCHED_REPOSITORIES * 2 {
            let path = path(&backend, &format!("r{index:04}"));
            backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        }
        let all =
            backend.list_repositories(&Organizations::All).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(all.len(), MAX_PREFETCHED_REPOSITORIES * 2);
        let mut listed = backend.list_repositories(&Organizations::All);
        // The stream outlives the backend, and the runtime would wait for a walk that does not end.
        drop(backend);
        assert_eq!(listed.next().await.unwrap().unwrap(), all[0]);
    }

    #[tokio::test]
    async fn damaged_repository_ends_listing_with_error() {
        let (backend, folder) = backend();
        for name in ["a", "b", "c"] {
            let path = path(&backend, name);
            backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        }
        let b = path(&backend, "b").to_string();
        std::fs::write(folder.path().join(b).join("_repository/repository.json"), "").unwrap();
        let listed = backend.list_repositories(&Organizations::All);
        let listed: Vec<_> = listed.map(|listed| listed.is_ok()).collect().await;
        assert_eq!(listed, [true, false]);
    }

    #[tokio::test]
    async fn organizations_are_those_with_repository() {
        let (backend, folder) = backend();
        assert_eq!(backend.organizations().await.unwrap(), BTreeSet::new());
        backend.create_repository(&path(&backend, "a/b"), &CreateOptions::default()).await.unwrap();
        std::fs::create_dir(folder.path().join("prod/no-organization")).unwrap();
        let organizations = backend.organizations().await.unwrap();
        assert_eq!(organizations, BTreeSet::from([OrganizationId::TBD]));
    }

    #[tokio::test]
    async fn repository_urls_have_served_address() {
        let (backend, _folder) = backend();
        let path = path(&backend, "a");
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        let announcement =
            address::announce(backend.store(), ([127, 0, 0, 1], 1234).into()).unwrap();
        let repository = backend.describe_repository(&path).await.unwrap();
        assert_eq!(repository.url.host().as_str(), "127.0.0.1:1234");
        drop(announcement);
        assert_eq!(backend.host().as_str(), "127.0.0.1:5050");
    }
}
