//! [`Copy`]: copies an image from one repository to another, without using the disk.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, join};

use super::compress::{Compression, Compressor};
use super::engine::Transfer;
use super::image::Image;
use super::platforms::PlatformChoice;
use super::progress::Progress;
use super::push::Pushed;
use super::upload::{Mounts, RegistryTarget};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, LoginScope, connection_options};
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::{Access, Reference, RepositoryPath, Scope, Tag};
use crate::observability::{Run, count_bytes};

/// A copy of one image to another repository of the same registry. Awaiting it runs it.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::transfer::Copy;
///
/// # async fn example(backend: Arc<dyn RegistryBackend>, from: RepositoryPath, to: RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let copied = Copy::new(backend, &from, "v1".parse()?, &to).with_tag("stable".parse()?).await?;
/// println!("{} blobs were mounted", copied.blobs_mounted);
/// # Ok(())
/// # }
/// ```
///
/// # Behavior
/// - Within an organization the registry is asked to mount each blob. A blob that it does not mount goes
///   through this machine in pieces, and touches no disk.
/// - The order is that of a push: blobs, manifests by digest, and the tag last.
/// - Manifests are copied byte by byte, so the image keeps its digest.
/// - What refers to the image or to a part of it, such as a signature, goes along, if it may be listed.
///
/// # Errors
/// [`Error::NotFound`] if a repository or the image does not exist; [`Error::InvalidInput`] if the image is
/// not for the platform; [`Error::Conflict`] if the tag stands for another image and may not be moved;
/// [`Error::Failed`] if the registry has something else than the image's digests say; and those of
/// [`Client`] and of the backend's [`credentials`](RegistryBackend::credentials), which are requested to
/// pull from the one and to push to the other repository.
#[derive(Clone)]
#[must_use = "a copy runs when it is awaited"]
pub struct Copy {
    connection: Connection,
    from: RepositoryPath,
    reference: Reference,
    to: RepositoryPath,
    tag: Option<Tag>,
    platforms: PlatformChoice,
    login_scope: LoginScope,
    concurrency: Option<usize>,
    progress: Arc<dyn Progress>,
}

connection_options!(Copy);

impl Copy {
    /// A copy of the image that `reference` names in the repository `from` to the repository `to`, with
    /// all its platforms, and by digest only.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        from: &RepositoryPath,
        reference: Reference,
        to: &RepositoryPath,
    ) -> Self {
        Self {
            connection: Connection::new(backend),
            from: from.clone(),
            reference,
            to: to.clone(),
            tag: None,
            platforms: PlatformChoice::default(),
            login_scope: LoginScope::default(),
            concurrency: None,
            progress: Arc::new(()),
        }
    }

    /// Puts a tag on the image in the end.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Chooses platforms of an image that has several. By default the image is copied as it is.
    pub fn with_platforms(self, platforms: PlatformChoice) -> Self {
        Self { platforms, ..self }
    }

    /// Sets how far the logins reach. By default each is for its repository alone, or for the organization
    /// that owns both, so that blobs can be mounted.
    pub fn with_login_scope(self, login_scope: LoginScope) -> Self {
        Self { login_scope, ..self }
    }

    /// Sets the maximum number of concurrent blob copies, at least one. The default adapts to the link.
    pub fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: Some(concurrency.max(1)), ..self }
    }

    /// Reports what the copy does while it runs.
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    async fn run(self) -> Result<Pushed> {
        let connection = self.connection.clone();
        let transfer =
            connection.serve_while(|connection| Self { connection, ..self.clone() }.transfer());
        let (tag, source) = (self.tag.as_ref(), Some(self.source_text()));
        let recorded = self.connection.record_push(&self.to, tag, source, transfer, Pushed::digest);
        let copied = Run::transfer("copy", &self.to).around(recorded).await?;
        count_bytes(
            "copy",
            [
                ("sent", copied.bytes_sent),
                ("skipped", copied.bytes_skipped),
                ("mounted", copied.bytes_mounted),
            ],
        );
        Ok(copied)
    }

    /// The image that is copied, as `<path>:<tag>` or `<path>@<digest>`.
    fn source_text(&self) -> String {
        match &self.reference {
            Reference::Tag(tag) => format!("{}:{tag}", self.from),
            Reference::Digest(digest) => format!("{}@{digest}", self.from),
        }
    }

    async fn transfer(self) -> Result<Pushed> {
        let started = Instant::now();
        let pulling = self.login_scope.of(&self.from, Access::Pull);
        let source = self.connection.client(&self.from, &pulling);
        let (source, target) = join(source, self.open_target()).await;
        let (source, (client, pushing)) = (source?, target?);
        let retried = client.retry().retries();
        let root = source.fetch_manifest(&self.reference).await?;
        let image = Image::read(&source, root, &self.platforms).await?;
        let image = image.with_referrers(&source).await?;
        let mounts = match pushing.covers(&self.from, Access::Pull) {
            true => Mounts::From(&self.from),
            false => Mounts::Nowhere,
        };
        let target = RegistryTarget {
            client: &client,
            tag: self.tag.as_ref(),
            compressor: Compressor::new(Compression::default()),
            cache: None,
            mounts,
            progress: &*self.progress,
        };
        let transfer =
            Transfer { target: &target, concurrency: self.concurrency, progress: &*self.progress };
        let (image, outcomes) = transfer.run(&image).await?;
        let retries = client.retry().retries() - retried;
        let tag = self.tag.clone();
        let copied =
            Pushed::new(client.repository()?, &image, tag, &outcomes, retries, started.elapsed());
        tracing::info!(image = %copied.url, sent = copied.bytes_sent, "copied");
        Ok(copied)
    }

    /// A client of the repository that is copied to, and the scope of its credentials.
    ///
    /// Mounting takes credentials for both repositories, and the narrowest that there are for two are
    /// those for their organization.
    async fn open_target(&self) -> Result<(Client, Scope)> {
        let organization = self.to.organization();
        if organization == self.from.organization() && self.to != self.from {
            let both = LoginScope::Organization.of(&self.to, Access::Push);
            match self.connection.client(&self.to, &both).await {
                Ok(client) => return Ok((client, both)),
                Err(error @ (Error::PermissionDenied { .. } | Error::InvalidInput { .. })) => {
                    tracing::debug!(%error, "nothing can be mounted");
                }
                Err(error) => return Err(error),
            }
        }
        let own = self.login_scope.of(&self.to, Access::Push);
        let client = self.connection.client(&self.to, &own).await?;
        Ok((client, own))
    }
}

impl IntoFuture for Copy {
    type Output = Result<Pushed>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy")
            .field("from", &self.from)
            .field("reference", &self.reference)
            .field("to", &self.to)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
