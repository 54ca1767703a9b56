//! Implements [`RegistryBackend`] for `Arc` and `Box` of a backend.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::Principal;
use crate::model::{Digest, Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage};

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<B: RegistryBackend + ?Sized> RegistryBackend for $pointer<B> {
            fn host(&self) -> RegistryHost {
                (**self).host()
            }

            fn stage(&self) -> Stage {
                (**self).stage()
            }

            fn acting_as(&self, principal: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
                (**self).acting_as(principal)
            }

            fn list_repositories(
                &self,
                organizations: &Organizations,
            ) -> BoxStream<'static, Result<Repository>> {
                (**self).list_repositories(organizations)
            }

            async fn create_repository(
                &self,
                path: &RepositoryPath,
                options: &CreateOptions,
            ) -> Result<Repository> {
                (**self).create_repository(path, options).await
            }

            async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
                (**self).describe_repository(path).await
            }

            async fn delete_repository(
                &self,
                path: &RepositoryPath,
                options: &DeleteOptions,
            ) -> Result<()> {
                (**self).delete_repository(path, options).await
            }

            fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
                (**self).list_images(path)
            }

            async fn describe_image(
                &self,
                path: &RepositoryPath,
                reference: &Reference,
            ) -> Result<Image> {
                (**self).describe_image(path, reference).await
            }

            async fn delete_image(
                &self,
                path: &RepositoryPath,
                reference: &Reference,
            ) -> Result<Option<Digest>> {
                (**self).delete_image(path, reference).await
            }

            async fn credentials(
                &self,
                scope: &Scope,
                options: &CredentialsOptions,
            ) -> Result<RegistryCredentials> {
                (**self).credentials(scope, options).await
            }
        }
    };
}

forward!(Arc);
forward!(Box);
