//! [`Observed`]: a backend that records spans and metrics of its calls.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::stream::{BoxStream, Stream, StreamExt};

use super::{CreateOptions, DeleteOptions, Image, RegistryBackend, Repository};
use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::Principal;
use crate::model::{
    Action, Digest, Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage,
};
use crate::observability::Run;

/// A backend that forwards to an inner backend and records a span and metrics of each call.
///
/// [`observability`](crate::observability) documents the spans and metrics. Around a
/// [`Permissioned`](crate::permission::Permissioned), the spans and metrics include denied calls. Inside one,
/// they include only the calls that reach the registry.
///
/// ```
/// # #[cfg(feature = "local")]
/// # fn main() -> ark_container_core::Result<()> {
/// use ark_container_core::backend::Observed;
/// use ark_container_core::backend::local::LocalBackend;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let backend = Observed::new(LocalBackend::open(Some(folder))?);
/// println!("calls of {backend} are observed");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "local"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Observed<B> {
    inner: B,
}

impl<B: RegistryBackend> Observed<B> {
    /// Records the calls of `inner`.
    pub fn new(inner: B) -> Self {
        Self { inner }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: RegistryBackend> RegistryBackend for Observed<B> {
    fn host(&self) -> RegistryHost {
        self.inner.host()
    }

    fn stage(&self) -> Stage {
        self.inner.stage()
    }

    fn acting_as(&self, principal: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>> {
        let inner = self.inner.acting_as(principal)?;
        Some(Arc::new(Observed::new(inner)))
    }

    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>> {
        let resource = match organizations {
            Organizations::All => "every organization".to_owned(),
            Organizations::Only(some) => format!("{} organizations", some.len()),
        };
        let run = Run::operation(Action::ListRepositories.as_str(), &resource);
        Rows::listed(run, |run| run.span().in_scope(|| self.inner.list_repositories(organizations)))
    }

    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository> {
        on(Action::CreateRepository, path).around(self.inner.create_repository(path, options)).await
    }

    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository> {
        on(Action::DescribeRepository, path).around(self.inner.describe_repository(path)).await
    }

    async fn delete_repository(
        &self,
        path: &RepositoryPath,
        options: &DeleteOptions,
    ) -> Result<()> {
        on(Action::DeleteRepository, path).around(self.inner.delete_repository(path, options)).await
    }

    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>> {
        let run = on(Action::ListImages, path);
        Rows::listed(run, |run| run.span().in_scope(|| self.inner.list_images(path)))
    }

    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        let run = Run::operation("describe-image", path);
        run.around(self.inner.describe_image(path, reference)).await
    }

    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        on(Action::DeleteImage, path).around(self.inner.delete_image(path, reference)).await
    }

    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        let run = Run::operation("credentials", scope);
        run.around(self.inner.credentials(scope, options)).await
    }
}

fn on(action: Action, path: &RepositoryPath) -> Run {
    Run::operation(action.as_str(), path)
}

impl<B: fmt::Display> fmt::Display for Observed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The rows of a listing, with the span that ends after the last row.
struct Rows<T> {
    // Dropped first, so that events of the rows at their end are inside the span.
    rows: BoxStream<'static, Result<T>>,
    run: Run,
}

impl<T: Send + 'static> Rows<T> {
    fn listed(
        run: Run,
        rows: impl FnOnce(&Run) -> BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let rows = rows(&run);
        Self { rows, run }.boxed()
    }
}

impl<T> Stream for Rows<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { rows, run } = &mut *self;
        let polled = run.span().in_scope(|| rows.poll_next_unpin(context));
        match &polled {
            Poll::Ready(None) => run.ended(Ok(())),
            Poll::Ready(Some(Err(error))) => run.ended(Err(error)),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}
