//! [`Copy`]: copies an image to a repository, from another one or from any other registry, without using the disk.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, join};

use super::compress::{Compression, Compressor};
use super::engine::transfer_options;
use super::image::Image;
use super::platforms::PlatformChoice;
use super::progress::Progress;
use super::push::Pushed;
use super::source::RegistryImage;
use super::upload::{Mounts, RegistryTarget};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, LoginScope, connection_options};
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::{Access, ImageReference, Reference, RepositoryPath, Scope, Tag};
use crate::observability::Run;

/// A copy of one image to a repository, from another repository of the same registry or from any other registry. The
/// copy runs when it is awaited.
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
/// - Within an organization, the registry mounts each blob if it can. All other blobs are streamed through this
///   machine, without using the disk.
/// - The order is that of a push: blobs, manifests by digest, and the tag last.
/// - Manifests are copied unchanged, so the image keeps its digest.
/// - Referrers of the image and of its manifests, such as signatures, are copied too, if the login may list them.
///
/// # Errors
/// - [`Error::NotFound`] if a repository or the image does not exist.
/// - [`Error::InvalidInput`] if the image does not have the platform.
/// - [`Error::Conflict`] if the tag is immutable and refers to another image.
/// - [`Error::Failed`] if the content in the registry does not have the digests of the image.
/// - The errors of [`Client`], and of [`credentials`](RegistryBackend::credentials) for pulling from the source and
///   pushing to the target.
#[derive(Clone)]
#[must_use = "a copy runs when it is awaited"]
pub struct Copy {
    connection: Connection,
    from: RegistryImage,
    plain_http: bool,
    to: RepositoryPath,
    tag: Option<Tag>,
    platforms: PlatformChoice,
    login_scope: LoginScope,
    concurrency: Option<usize>,
    progress: Arc<dyn Progress>,
}

connection_options!(Copy);
transfer_options!(Copy);

impl Copy {
    /// Creates a copy of the image `reference` in the repository `from` to the repository `to`: with all its platforms,
    /// and without a tag.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        from: &RepositoryPath,
        reference: Reference,
        to: &RepositoryPath,
    ) -> Self {
        Self::of(backend, RegistryImage::Repository(from.clone(), reference), to)
    }

    /// Creates a copy of an image in any registry to the repository `to`: with all its platforms, and without a tag.
    ///
    /// The credentials for the other registry are those of docker or podman, if there are any: see
    /// [`ForeignCredentials::find`](crate::credentials::ForeignCredentials::find).
    pub fn from_registry(
        backend: Arc<dyn RegistryBackend>,
        from: ImageReference,
        to: &RepositoryPath,
    ) -> Self {
        Self::of(backend, RegistryImage::Registry(from), to)
    }

    pub(crate) fn of(
        backend: Arc<dyn RegistryBackend>,
        from: RegistryImage,
        to: &RepositoryPath,
    ) -> Self {
        Self {
            connection: Connection::new(backend),
            from,
            plain_http: false,
            to: to.clone(),
            tag: None,
            platforms: PlatformChoice::default(),
            login_scope: LoginScope::default(),
            concurrency: None,
            progress: Arc::new(()),
        }
    }

    /// Sets whether another registry is read by plain HTTP. The default is plain HTTP for registries on this machine
    /// only.
    pub fn with_plain_http(self, plain_http: bool) -> Self {
        Self { plain_http, ..self }
    }

    /// Sets the tag of the image, which is put last.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Sets the scope of the logins. By default, each login is for one repository. If both repositories are in one
    /// organization, the login is for the organization, so that blobs can be mounted.
    pub fn with_login_scope(self, login_scope: LoginScope) -> Self {
        Self { login_scope, ..self }
    }

    async fn run(self) -> Result<Pushed> {
        let connection = self.connection.clone();
        let transfer =
            connection.serve_while(|connection| Self { connection, ..self.clone() }.transfer());
        let (tag, source) = (self.tag.as_ref(), Some(self.from.to_string()));
        let recorded = self.connection.record_push(&self.to, tag, source, transfer, Pushed::digest);
        let copied = Run::transfer("copy", &self.to).around(recorded).await?;
        copied.count_bytes("copy");
        Ok(copied)
    }

    async fn transfer(self) -> Result<Pushed> {
        let started = Instant::now();
        let source = self.from.open(&self.connection, self.login_scope, self.plain_http);
        let (source, target) = join(source, self.open_target()).await;
        let (mut source, (client, pushing)) = (source?, target?);
        let retried = client.retry().retries();
        if let RegistryImage::Registry(_) = &self.from {
            source = source.with_copies_in(client.clone());
        }
        let root = source.fetch_manifest(self.from.reference()).await?;
        let image = Image::read(&source, root, &self.platforms).await?;
        let image = image.with_referrers(&source).await?;
        let mounts = match &self.from {
            RegistryImage::Repository(from, _) if pushing.covers(from, Access::Pull) => {
                Mounts::From(from)
            }
            _ => Mounts::Nowhere,
        };
        let target = RegistryTarget {
            client: &client,
            connection: &self.connection,
            tag: self.tag.as_ref(),
            compressor: Compressor::new(Compression::default()),
            cache: None,
            mounts,
            progress: &*self.progress,
        };
        let copied = target.push(&image, self.concurrency, started, retried).await?;
        tracing::info!(image = %copied.url, sent = copied.bytes_sent, "copied");
        Ok(copied)
    }

    /// Returns a client of the target repository, and the scope of its credentials.
    ///
    /// Mounting requires credentials for both repositories. The narrowest scope with two repositories is their
    /// organization.
    async fn open_target(&self) -> Result<(Client, Scope)> {
        if let RegistryImage::Repository(from, _) = &self.from
            && self.to.organization() == from.organization()
            && self.to != *from
        {
            let both = LoginScope::Organization.of(&self.to, Access::Push);
            match self.connection.client(&self.to, &both).await {
                Ok(client) => return Ok((client, both)),
                Err(error @ (Error::PermissionDenied { .. } | Error::InvalidInput { .. })) => {
                    tracing::debug!(%error, "no blob can be mounted without a login for the organization");
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
            .field("to", &self.to)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
