//! [`InstantBackend`]: responds immediately, to measure the layers around a backend.

use std::fmt;

use std::sync::Arc;

use ark_container_core::backend::{CreateOptions, DeleteOptions, Image, Repository};
use ark_container_core::credentials::{CredentialsOptions, RegistryCredentials};
use ark_container_core::identity::Principal;
use ark_container_core::model::{
    Digest, Organizations, Reference, RegistryHost, RepositoryPath, RepositoryUrl, Scope, Stage,
};
use ark_container_core::{Error, RegistryBackend, ResourceKind, Result};
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

/// A backend with every repository, and no images.
#[derive(Debug)]
pub(crate) struct InstantBackend;

impl fmt::Display for InstantBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("instant")
    }
}

fn described(path: &RepositoryPath) -> Repository {
    Repository::new(RepositoryUrl::new(InstantBackend.host(), path.clone()))
}

#[async_trait]
impl RegistryBackend for InstantBackend {
    fn host(&self) -> RegistryHost {
        "registry.example".parse().unwrap()
    }

    fn stage(&self) -> Stage {
        Stage::default()
    }

    fn acting_as(&self, _: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        None
    }

    fn list_repositories(&self, _: &Organizations) -> BoxStream<'static, Result<Repository>> {
        stream::empty().boxed()
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        _: &CreateOptions,
    ) -> Result<Repository> {
        Ok(described(path))
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        Ok(described(path))
    }

    async fn delete_repository(&self, _: &RepositoryPath, _: &DeleteOptions) -> Result<()> {
        Ok(())
    }

    fn list_images(&self, _: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        stream::empty().boxed()
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        Err(Error::not_found(ResourceKind::Image, format!("{path}: {reference}")))
    }

    async fn delete_image(&self, _: &RepositoryPath, _: &Reference) -> Result<Option<Digest>> {
        Ok(None)
    }

    async fn credentials(
        &self,
        scope: &Scope,
        _: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        let password = ark_container_core::credentials::Password::new(String::new());
        let now = std::time::SystemTime::now();
        Ok(RegistryCredentials::new(self.host(), password, now, scope.clone()))
    }
}
