//! [`LocalBackend`]: repositories in a folder of this machine.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use etcetera::BaseStrategy;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::address;
use super::store::{RepositoryRecord, Store};
use super::token::Signer;
use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::{Error, Result};
use crate::identity::Principal;
use crate::model::{
    OrganizationId, Organizations, Reference, RegistryHost, RepositoryPath, RepositoryUrl, Scope,
    ScopeTarget, Stage,
};

/// How long credentials are good for: as long as ECR's.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The shortest lifetime that credentials may be asked for. A token expires at a whole second.
const MIN_TOKEN_LIFETIME: Duration = Duration::from_secs(1);

/// The longest lifetime that credentials may be asked for, one year.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How far a listing runs ahead of whoever reads it.
const LISTED_AHEAD: usize = 64;

/// The repositories in a folder of this machine, which a registry serves to clients.
///
/// Any number of processes may use the folder at once, and a process may be killed at any moment.
/// Clones are cheap. Everything that touches the disk runs on tokio's threads for blocking work, so
/// the methods must be awaited within a tokio runtime.
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
    /// Opens the registry in `directory`, or in the user's own, `$XDG_DATA_HOME/ark/registry`.
    ///
    /// A folder that does not exist is created, for its owner only.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be created, read or written, has another format, or
    /// the user has no home.
    pub fn open(directory: Option<&Path>) -> Result<Self> {
        let root = match directory {
            Some(directory) => directory.to_path_buf(),
            None => default_directory()?,
        };
        Ok(Self {
            store: Store::open(root)?,
            stage: Stage::default(),
            token_lifetime: TOKEN_LIFETIME,
        })
    }

    /// This backend with another lifetime of the credentials that it gives; 12 hours unless told.
    pub fn with_token_lifetime(mut self, token_lifetime: Duration) -> Self {
        self.token_lifetime = token_lifetime;
        self
    }

    /// The folder of the registry, as an absolute path.
    pub fn directory(&self) -> &Path {
        self.store.root()
    }

    /// The organizations that have, or had, a repository here.
    ///
    /// # Errors
    /// [`Error::Failed`] if the folder cannot be read.
    pub async fn organizations(&self) -> Result<BTreeSet<OrganizationId>> {
        let stage = self.stage.clone();
        self.with_store(move |store| store.organizations(&stage)).await
    }

    /// Where a process serves the folder now, if one does.
    pub fn served_at(&self) -> Option<RegistryHost> {
        address::served(&self.store)
    }

    /// What the registry serves.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the lifetime of new credentials.
    fn lifetime(&self, options: &CredentialsOptions) -> Result<Duration> {
        let lifetime = match options.lifetime {
            Some(lifetime) if lifetime < MIN_TOKEN_LIFETIME || lifetime > MAX_TOKEN_LIFETIME => {
                return Err(Error::invalid(format!(
                    "registry credentials cannot have a lifetime of {lifetime:?}: choose one from \
                     {} s to {} s",
                    MIN_TOKEN_LIFETIME.as_secs(),
                    MAX_TOKEN_LIFETIME.as_secs(),
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

    /// Does something with the store on a thread that may block.
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

    /// The same for a repository of this backend's stage.
    async fn with_repository<T: Send + 'static>(
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
    /// Where a process serves the folder now, and otherwise where one would by default.
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
        // The walk starts when somebody asks for the first one.
        let started = async move {
            let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
            tokio::task::spawn_blocking(move || {
                let host = address::current(&store);
                for listed in store.repositories(&stage, &organizations) {
                    let failed = listed.is_err();
                    let listed = listed.map(|(path, record)| described(&host, path, record));
                    // Nobody listens any more where it cannot be sent.
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

    async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        let reference = reference.clone();
        self.with_repository(path, move |store, path| store.delete_image(path, &reference)).await
    }

    /// Credentials are always narrowed to their scope, new, and signed on this machine.
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
            let password = Signer::open(store.root())?.sign(&scope, expires_at)?;
            let host = address::current(store);
            Ok(RegistryCredentials::new(host, password, expires_at, scope))
        })
        .await
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

/// Where the user's own registry is.
///
/// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>
fn default_directory() -> Result<PathBuf> {
    let folders = etcetera::base_strategy::Xdg::new().map_err(|error| {
        Error::failed("the user has no home for a local registry").with_source(error)
    })?;
    Ok(folders.data_dir().join("ark/registry"))
}

#[cfg(test)]
mod tests;
