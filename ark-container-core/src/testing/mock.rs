//! [`MockRegistryBackend`]: a backend that answers as a test tells it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use mockall::mock;

use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::Principal;
use crate::model::{Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage};

mock! {
    /// A [`RegistryBackend`] that answers as a test tells it, and panics at every call that the test
    /// did not expect.
    ///
    /// ```
    /// use ark_container_core::backend::Repository;
    /// use ark_container_core::testing::MockRegistryBackend;
    /// use ark_container_core::{RegistryBackend, RegistryBackendExt};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let url: ark_container_core::model::RepositoryUrl =
    ///     "localhost:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo".parse()?;
    /// let path = url.path().clone();
    /// let mut backend = MockRegistryBackend::new();
    /// backend
    ///     .expect_describe_repository()
    ///     .once()
    ///     .returning(move |_| Ok(Repository::new(url.clone())));
    /// assert!(backend.repository_exists(&path).await?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Debug)]
    pub RegistryBackend {
        /// Answers [`RegistryBackend::host`].
        pub fn host(&self) -> RegistryHost;
        /// Answers [`RegistryBackend::stage`].
        pub fn stage(&self) -> Stage;
        /// Answers [`RegistryBackend::list_repositories`].
        pub fn list_repositories(
            &self,
            organizations: &Organizations,
        ) -> BoxStream<'static, Result<Repository>>;
        /// Answers [`RegistryBackend::create_repository`].
        pub async fn create_repository(
            &self,
            path: &RepositoryPath,
            options: &CreateOptions,
        ) -> Result<Repository>;
        /// Answers [`RegistryBackend::describe_repository`].
        pub async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository>;
        /// Answers [`RegistryBackend::delete_repository`].
        pub async fn delete_repository(
            &self,
            path: &RepositoryPath,
            options: &DeleteOptions,
        ) -> Result<()>;
        /// Answers [`RegistryBackend::list_images`].
        pub fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>>;
        /// Answers [`RegistryBackend::describe_image`].
        pub async fn describe_image(
            &self,
            path: &RepositoryPath,
            reference: &Reference,
        ) -> Result<Image>;
        /// Answers [`RegistryBackend::delete_image`].
        pub async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()>;
        /// Answers [`RegistryBackend::credentials`].
        pub async fn credentials(
            &self,
            scope: &Scope,
            options: &CredentialsOptions,
        ) -> Result<RegistryCredentials>;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RegistryBackend for MockRegistryBackend {
    /// Returns `None`, without an expectation: a mock has no record of callers.
    fn acting_as(&self, _: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        None
    }

    fn host(&self) -> RegistryHost {
        MockRegistryBackend::host(self)
    }

    fn stage(&self) -> Stage {
        MockRegistryBackend::stage(self)
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        MockRegistryBackend::list_repositories(self, organizations)
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        MockRegistryBackend::create_repository(self, path, options).await
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        MockRegistryBackend::describe_repository(self, path).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        MockRegistryBackend::delete_repository(self, path, options).await
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        MockRegistryBackend::list_images(self, path)
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        MockRegistryBackend::describe_image(self, path, reference).await
    }

    async fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        MockRegistryBackend::delete_image(self, path, reference).await
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        MockRegistryBackend::credentials(self, scope, options).await
    }
}

impl fmt::Display for MockRegistryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mock")
    }
}
