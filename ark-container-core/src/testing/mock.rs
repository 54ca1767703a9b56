//! [`MockRegistryBackend`]: a mock of [`RegistryBackend`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use mockall::mock;

use crate::backend::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::Principal;
use crate::model::{Digest, Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage};

/// Returns a future that is ready with `answer`, for a [`MockRegistryBackend`].
pub fn ready<T: Send + 'static>(answer: Result<T>) -> BoxFuture<'static, Result<T>> {
    Box::pin(std::future::ready(answer))
}

mock! {
    /// A mock of [`RegistryBackend`]. A call without an expectation panics.
    ///
    /// Answers of async methods are futures, so that a test can delay them. [`ready`] creates a future without delay.
    ///
    /// ```
    /// use ark_container_core::backend::Repository;
    /// use ark_container_core::testing::{MockRegistryBackend, ready};
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
    ///     .returning(move |_| ready(Ok(Repository::new(url.clone()))));
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
        pub fn create_repository(
            &self,
            path: &RepositoryPath,
            options: &CreateOptions,
        ) -> BoxFuture<'static, Result<Repository>>;
        /// Answers [`RegistryBackend::describe_repository`].
        pub fn describe_repository(&self, path: &RepositoryPath) -> BoxFuture<'static, Result<Repository>>;
        /// Answers [`RegistryBackend::delete_repository`].
        pub fn delete_repository(
            &self,
            path: &RepositoryPath,
            options: &DeleteOptions,
        ) -> BoxFuture<'static, Result<()>>;
        /// Answers [`RegistryBackend::list_images`].
        pub fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>>;
        /// Answers [`RegistryBackend::describe_image`].
        pub fn describe_image(
            &self,
            path: &RepositoryPath,
            reference: &Reference,
        ) -> BoxFuture<'static, Result<Image>>;
        /// Answers [`RegistryBackend::delete_image`].
        pub fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> BoxFuture<'static, Result<Option<Digest>>>;
        /// Answers [`RegistryBackend::credentials`].
        pub fn credentials(
            &self,
            scope: &Scope,
            options: &CredentialsOptions,
        ) -> BoxFuture<'static, Result<RegistryCredentials>>;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RegistryBackend for MockRegistryBackend {
    /// Returns `None` without an expectation, because a mock does not record callers.
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

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
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
