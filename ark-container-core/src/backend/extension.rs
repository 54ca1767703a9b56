//! [`RegistryBackendExt`]: methods that are built from those of [`RegistryBackend`].

use async_trait::async_trait;

use super::RegistryBackend;
use crate::error::{Error, Result};
use crate::model::{
    Digest, OrganizationId, Reference, RepositoryName, RepositoryPath, RepositoryUrl,
};

/// Convenience methods of every [`RegistryBackend`] and wrapper.
#[async_trait]
pub trait RegistryBackendExt: RegistryBackend {
    /// Returns the path of an organization's repository in this registry.
    ///
    /// # Errors
    /// [`Error::Parse`] if the path is too long.
    fn repository_path(
        &self,
        organization: OrganizationId,
        name: &RepositoryName,
    ) -> Result<RepositoryPath> {
        Ok(RepositoryPath::new(self.stage(), organization, name.clone())?)
    }

    /// Returns the URL that clients tag, push to and pull from.
    fn repository_url(&self, path: &RepositoryPath) -> RepositoryUrl {
        RepositoryUrl::new(self.host(), path.clone())
    }

    /// Returns whether a repository exists.
    ///
    /// # Errors
    /// Those of [`RegistryBackend::describe_repository`] except [`Error::NotFound`].
    async fn repository_exists(&self, path: &RepositoryPath) -> Result<bool> {
        match self.describe_repository(path).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the digest of the image that a tag currently names. Returns a digest unchanged.
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
