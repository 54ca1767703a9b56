//! [`RegistryBackendExt`]: what every backend can do besides, built from the contract.

use async_trait::async_trait;

use super::RegistryBackend;
use crate::error::{Error, Result};
use crate::model::{
    Digest, OrganizationId, Reference, RepositoryName, RepositoryPath, RepositoryUrl,
};

/// Conveniences on top of [`RegistryBackend`], for every backend and wrapper alike.
#[async_trait]
pub trait RegistryBackendExt: RegistryBackend {
    /// The path of an organization's repository in this registry.
    ///
    /// # Errors
    /// [`Error::Parse`] if it is longer than a path may be.
    fn repository_path(
        &self,
        organization: OrganizationId,
        name: &RepositoryName,
    ) -> Result<RepositoryPath> {
        Ok(RepositoryPath::new(self.stage(), organization, name.clone())?)
    }

    /// What one tags and pushes to.
    fn repository_url(&self, path: &RepositoryPath) -> RepositoryUrl {
        RepositoryUrl::new(self.host(), path.clone())
    }

    /// Whether a repository exists.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::describe_repository`] but [`Error::NotFound`].
    async fn repository_exists(&self, path: &RepositoryPath) -> Result<bool> {
        match self.describe_repository(path).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the digest of the image that a tag names now. A digest is returned as it is.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::describe_image`].
    async fn resolve(&self, path: &RepositoryPath, reference: &Reference) -> Result<Digest> {
        match reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(_) => Ok(self.describe_image(path, reference).await?.digest),
        }
    }
}

impl<B: RegistryBackend + ?Sized> RegistryBackendExt for B {}
