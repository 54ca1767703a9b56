//! [`RegistryBackendExt`]: what every backend can do besides, built from the contract.

use async_trait::async_trait;
use futures_util::TryStreamExt;

use super::{Image, RegistryBackend};
use crate::error::{Error, ResourceKind, Result};
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

    /// The image that a tag or digest names.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist.
    async fn find_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        let mut images = self.list_images(path);
        while let Some(image) = images.try_next().await? {
            let found = match reference {
                Reference::Tag(tag) => image.tags.contains(tag),
                Reference::Digest(digest) => image.digest == *digest,
            };
            if found {
                return Ok(image);
            }
        }
        let image = self.repository_url(path).image(reference.clone());
        Err(Error::not_found(ResourceKind::Image, image))
    }

    /// The digest that a tag stands for now.
    ///
    /// # Errors
    /// Those of [`find_image`](Self::find_image).
    async fn resolve(&self, path: &RepositoryPath, reference: &Reference) -> Result<Digest> {
        match reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(_) => Ok(self.find_image(path, reference).await?.digest),
        }
    }
}

impl<B: RegistryBackend + ?Sized> RegistryBackendExt for B {}
