//! [`BackendLayer`]: changes some calls of a backend.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::Principal;
use crate::model::{Digest, Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage};

/// A layer that changes some calls of a [`RegistryBackend`]: a counter, a quota, a cache.
///
/// Each method by default forwards its call to `inner`, the backend below. A layer implements only the
/// methods that it changes. A layer runs after the policy has allowed a call, and cannot change the caller.
/// [`CatalogBuilder::with_layer`](crate::catalog::CatalogBuilder::with_layer) adds a layer to a catalog.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use ark_container_core::backend::{BackendLayer, CreateOptions, RegistryBackend, Repository};
/// use ark_container_core::model::RepositoryPath;
///
/// /// Counts the repositories that are created.
/// #[derive(Debug, Default)]
/// struct Created(AtomicUsize);
///
/// #[async_trait::async_trait]
/// impl BackendLayer for Created {
///     async fn create_repository(
///         &self,
///         inner: &dyn RegistryBackend,
///         path: &RepositoryPath,
///         options: &CreateOptions,
///     ) -> ark_container_core::Result<Repository> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         inner.create_repository(path, options).await
///     }
/// }
/// ```
#[async_trait]
pub trait BackendLayer: Debug + Send + Sync + 'static {
    /// Runs before each call. `call` is the name of the method, such as `create_repository`.
    fn before(&self, call: &'static str) {
        let _ = call;
    }

    /// Changes [`RegistryBackend::list_repositories`].
    fn list_repositories(
        &self,
        inner: &dyn RegistryBackend,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        inner.list_repositories(organizations)
    }

    /// Changes [`RegistryBackend::create_repository`].
    async fn create_repository(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        inner.create_repository(path, options).await
    }

    /// Changes [`RegistryBackend::describe_repository`].
    async fn describe_repository(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
    ) -> Result<Repository> {
        inner.describe_repository(path).await
    }

    /// Changes [`RegistryBackend::delete_repository`].
    async fn delete_repository(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        inner.delete_repository(path, options).await
    }

    /// Changes [`RegistryBackend::list_images`].
    fn list_images(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
    ) -> BoxStream<'static, Result<Image>> {
        inner.list_images(path)
    }

    /// Changes [`RegistryBackend::describe_image`].
    async fn describe_image(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Image> {
        inner.describe_image(path, reference).await
    }

    /// Changes [`RegistryBackend::delete_image`].
    async fn delete_image(
        &self,
        inner: &dyn RegistryBackend,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        inner.delete_image(path, reference).await
    }

    /// Changes [`RegistryBackend::credentials`].
    async fn credentials(
        &self,
        inner: &dyn RegistryBackend,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        inner.credentials(scope, options).await
    }
}

/// A backend below a [`BackendLayer`].
#[derive(Debug)]
pub struct Layered {
    layer: Arc<dyn BackendLayer>,
    inner: Arc<dyn RegistryBackend>,
}

impl Layered {
    /// Puts `layer` on `inner`.
    pub fn new(layer: Arc<dyn BackendLayer>, inner: Arc<dyn RegistryBackend>) -> Self {
        Self { layer, inner }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RegistryBackend for Layered {
    fn host(&self) -> RegistryHost {
        self.inner.host()
    }

    fn stage(&self) -> Stage {
        self.inner.stage()
    }

    fn acting_as(&self, principal: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        let inner = self.inner.acting_as(principal)?;
        Some(Arc::new(Self::new(Arc::clone(&self.layer), inner)))
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        self.layer.before("list_repositories");
        self.layer.list_repositories(&*self.inner, organizations)
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        self.layer.before("create_repository");
        self.layer.create_repository(&*self.inner, path, options).await
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        self.layer.before("describe_repository");
        self.layer.describe_repository(&*self.inner, path).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.layer.before("delete_repository");
        self.layer.delete_repository(&*self.inner, path, options).await
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        self.layer.before("list_images");
        self.layer.list_images(&*self.inner, path)
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        self.layer.before("describe_image");
        self.layer.describe_image(&*self.inner, path, reference).await
    }

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        self.layer.before("delete_image");
        self.layer.delete_image(&*self.inner, path, reference).await
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        self.layer.before("credentials");
        self.layer.credentials(&*self.inner, scope, options).await
    }
}

impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}
