//! A custom registry: repositories in the memory of this process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ark_container_core::backend::{CreateOptions, DeleteOptions, Image, Repository};
use ark_container_core::credentials::{CredentialsOptions, Password, RegistryCredentials};
use ark_container_core::identity::Principal;
use ark_container_core::model::{
    Digest, Organizations, Reference, RegistryHost, RepositoryPath, Scope, ScopeTarget, Stage,
};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt, ResourceKind, Result};
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

/// Repositories and their images. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBackend {
    pub(crate) host: RegistryHost,
    pub(crate) kept: Arc<Mutex<BTreeMap<RepositoryPath, StoredRepository>>>,
}

/// A repository with its images.
#[derive(Debug)]
pub(crate) struct StoredRepository {
    pub(crate) repository: Repository,
    pub(crate) images: Vec<Image>,
}

impl StoredRepository {
    fn position(&self, path: &RepositoryPath, reference: &Reference) -> Result<usize> {
        let named = |image: &Image| match reference {
            Reference::Tag(tag) => image.tags.contains(tag),
            Reference::Digest(digest) => image.digest == *digest,
        };
        let missing = || Error::not_found(ResourceKind::Image, format!("{path}: {reference}"));
        self.images.iter().position(named).ok_or_else(missing)
    }
}

impl MemoryBackend {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<RepositoryPath, StoredRepository>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a function on an existing repository.
    pub(crate) fn with<T>(
        &self,
        path: &RepositoryPath,
        work: impl FnOnce(&mut StoredRepository) -> Result<T>,
    ) -> Result<T> {
        self.check(path.stage())?;
        let missing = || Error::not_found(ResourceKind::Repository, path);
        work(self.kept().get_mut(path).ok_or_else(missing)?)
    }

    fn check(&self, stage: &Stage) -> Result<()> {
        let own = *stage == self.stage();
        own.then_some(()).ok_or_else(|| Error::invalid(format!("{self} has no stage {stage}")))
    }
}

#[async_trait]
impl RegistryBackend for MemoryBackend {
    fn host(&self) -> RegistryHost {
        self.host.clone()
    }

    fn stage(&self) -> Stage {
        Stage::default()
    }

    fn acting_as(&self, _: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        None
    }

    fn list_repositories(&self, of: &Organizations) -> BoxStream<'static, Result<Repository>> {
        let kept = self.kept();
        let rows = kept.iter().filter(|(path, _)| of.contains(path.organization()));
        let rows: Vec<_> = rows.map(|(_, kept)| Ok(kept.repository.clone())).collect();
        stream::iter(rows).boxed()
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        self.check(path.stage())?;
        let mut asked = Repository::new(self.repository_url(path));
        asked.created_at = Some(SystemTime::now());
        asked.tag_mutability = options.tag_mutability;
        asked.mutability_exclusions = options.mutability_exclusions.clone();
        asked.resource_tags = Some(options.resource_tags.clone());
        let mut kept = self.kept();
        let new = || StoredRepository { repository: asked.clone(), images: Vec::new() };
        let found = &kept.entry(path.clone()).or_insert_with(new).repository;
        let has = |(key, value): (&String, &String)| {
            found.resource_tags.as_ref().and_then(|tags| tags.get(key)) == Some(value)
        };
        let same = found.tag_mutability == asked.tag_mutability
            && found.mutability_exclusions == asked.mutability_exclusions
            && options.resource_tags.iter().all(has);
        let clash = || Error::conflict(ResourceKind::Repository, path, "has other settings");
        same.then(|| found.clone()).ok_or_else(clash)
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        self.with(path, |kept| Ok(kept.repository.clone()))
    }

    async fn delete_repository(&self, path: &RepositoryPath, how: &DeleteOptions) -> Result<()> {
        self.check(path.stage())?;
        let mut kept = self.kept();
        match kept.get(path).map(|kept| kept.images.is_empty() || how.force) {
            None => Err(Error::not_found(ResourceKind::Repository, path)),
            Some(false) => Err(Error::conflict(ResourceKind::Repository, path, "has images")),
            Some(true) => {
                kept.remove(path);
                Ok(())
            }
        }
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        let rows = self.with(path, |kept| {
            Ok(kept.images.iter().map(|image| Ok(image.clone())).collect::<Vec<_>>())
        });
        stream::iter(rows.unwrap_or_else(|error| vec![Err(error)])).boxed()
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        self.with(path, |kept| Ok(kept.images[kept.position(path, reference)?].clone()))
    }

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        self.with(path, |kept| {
            let at = kept.position(path, reference)?;
            let images = &mut kept.images;
            let digest = images[at].digest.clone();
            let is_part = images
                .iter()
                .any(|image| image.children.iter().any(|child| child.digest == digest));
            match reference {
                Reference::Tag(tag) => images[at].tags.retain(|other| other != tag),
                Reference::Digest(_) if !is_part => images[at].tags.clear(),
                _ => return Err(Error::conflict(ResourceKind::Image, digest, "is of an index")),
            }
            if images[at].tags.is_empty() && !is_part {
                images.remove(at);
            }
            Ok(Some(digest))
        })
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        match scope.target() {
            ScopeTarget::Repository(path) => self.check(path.stage())?,
            ScopeTarget::Organizations(stage, some) if !some.is_empty() => self.check(stage)?,
            ScopeTarget::Organizations(..) => return Err(Error::invalid("no organization")),
        }
        let password = Password::new("unused: this registry has no server".to_owned());
        let lifetime = options.lifetime.unwrap_or(Duration::from_secs(3600));
        if lifetime < options.min_remaining.unwrap_or_default() {
            return Err(Error::invalid("the lifetime is shorter than the time that must remain"));
        }
        let forever = || Error::invalid("the lifetime is too long");
        let expires_at = SystemTime::now().checked_add(lifetime).ok_or_else(forever)?;
        Ok(RegistryCredentials::new(self.host.clone(), password, expires_at, scope.clone()))
    }
}

impl fmt::Display for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory:{}", self.host)
    }
}
