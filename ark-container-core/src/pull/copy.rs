//! [`Copy`]: an image from one repository into another, without a stop on the disk.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use futures_util::future::join;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::remote::RemoteImage;
use super::{BLOBS_AT_ONCE, steady};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, LoginScope, TRANSFER_CREDENTIALS};
use crate::distribution::{Client, Mount, Renewals, Retry, Upload};
use crate::error::{Error, Result};
use crate::model::{
    Access, Descriptor, ImageUrl, Platform, Reference, RegistryHost, RepositoryPath, Scope, Tag,
};
use crate::observability::{Run, count_bytes};
use crate::progress::{BlobState, Event, Progress};

/// A copy from one repository to another of the same registry, yet to be run.
///
/// ```no_run
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::pull::Copy;
///
/// # async fn example(backend: &dyn RegistryBackend, from: &RepositoryPath, to: &RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let copied = Copy::new(backend, from, "v1".parse()?, to).with_tag("stable".parse()?).run().await?;
/// println!("{} blobs were mounted", copied.blobs_mounted);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Copy<'a> {
    backend: &'a dyn RegistryBackend,
    from: &'a RepositoryPath,
    reference: Reference,
    to: &'a RepositoryPath,
    tag: Option<Tag>,
    platform: Option<Platform>,
    endpoint: Option<RegistryHost>,
    login_scope: LoginScope,
    concurrency: usize,
    retry: Retry,
    progress: &'a dyn Progress,
}

impl<'a> Copy<'a> {
    /// A copy of the image that `reference` names in the repository `from` to the repository `to`, with
    /// all its platforms, and by digest only.
    pub fn new(
        backend: &'a dyn RegistryBackend,
        from: &'a RepositoryPath,
        reference: Reference,
        to: &'a RepositoryPath,
    ) -> Self {
        Self {
            backend,
            from,
            reference,
            to,
            tag: None,
            platform: None,
            endpoint: None,
            login_scope: LoginScope::default(),
            concurrency: BLOBS_AT_ONCE,
            retry: Retry::default(),
            progress: &(),
        }
    }

    /// This copy with a tag that stands for the image in the end.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// This copy of the image for one platform only, without the index around it.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    /// This copy, dialled at another host than its credentials name: the registry that a program
    /// serves to itself on a port of the moment.
    pub fn with_endpoint(self, endpoint: RegistryHost) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// This copy with logins that go so far; to its repositories alone unless told, or to both of one
    /// organization, for what is mounted.
    pub fn with_login_scope(self, login_scope: LoginScope) -> Self {
        Self { login_scope, ..self }
    }

    /// This copy with so many blobs on their way at once, at least one; four unless told.
    pub fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// This copy, trying again in another way what fails for now.
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// This copy, telling what it does while it does it.
    pub fn with_progress(self, progress: &'a dyn Progress) -> Self {
        Self { progress, ..self }
    }

    /// Copies what the other repository lacks of the image.
    ///
    /// # Behavior
    /// - Within an organization the registry is asked to take each blob over by itself. What it does not
    ///   goes through this machine, in pieces, and touches no disk.
    /// - The order is that of a push: blobs, manifests by digest, and the tag last.
    /// - Manifests are copied byte by byte, so the image keeps its digest.
    /// - What refers to the image or to a part of it, such as a signature, goes along, if it may be listed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a repository or the image does not exist; [`Error::InvalidInput`] if
    /// the image is not for the platform; [`Error::Conflict`] if the tag stands for another image and
    /// may not be moved; [`Error::Failed`] if the registry has something else than the image's digests
    /// say; and those of [`Client`] and of the backend's
    /// [`credentials`](RegistryBackend::credentials), which are asked for pulling from the one and
    /// pushing to the other repository.
    pub async fn run(&self) -> Result<Copied> {
        let copied = Run::transfer("copy", self.to).around(self.run_once()).await?;
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

    async fn run_once(&self) -> Result<Copied> {
        let pulling = self.login_scope.of(self.from, Access::Pull);
        let connection = self.connection();
        let source = connection.open(self.from, &pulling);
        let (source, target) = join(source, self.open_target()).await;
        let (source, (target, pushing)) = (source?, target?);
        let (authenticate_source, source_renewals) = Renewals::new();
        let (authenticate_target, target_renewals) = Renewals::new();
        let source = source.with_authenticate(authenticate_source);
        let target = target.with_authenticate(authenticate_target);
        let mounts = pushing.covers(self.from, Access::Pull);
        let copying = self.copy(&source, &target, mounts);
        let copying = source_renewals
            .serve(copying, || self.backend.credentials(&pulling, &TRANSFER_CREDENTIALS));
        target_renewals
            .serve(copying, || self.backend.credentials(&pushing, &TRANSFER_CREDENTIALS))
            .await
    }

    async fn copy(&self, source: &Client, target: &Client, mounts: bool) -> Result<Copied> {
        let started = Instant::now();
        let image = RemoteImage::fetch(source, &self.reference, self.platform.as_ref()).await?;
        let image = image.with_referrers(source).await?;
        for blob in &image.blobs {
            let event = Event::Found { blob: &blob.digest, size: blob.size, is_tar: false };
            self.progress.event(&event);
        }
        let states = if self.is_there(target, &image).await? {
            let there = image.blobs.iter().map(|blob| {
                self.tell(blob, BlobState::Exists);
                (BlobState::Exists, blob.size)
            });
            there.collect()
        } else {
            // As for a pull, so that a copy may change threads.
            let blobs = image.blobs.iter();
            let copying = blobs.map(|blob| self.copy_blob(source, target, mounts, blob));
            let states: Vec<(BlobState, u64)> = stream::iter(copying.collect::<Vec<_>>())
                .buffer_unordered(self.concurrency)
                .try_collect()
                .await?;
            let told = |reference: &Reference| self.progress.event(&Event::Manifest { reference });
            let below = image.children.iter().chain(&image.referrers);
            target.publish(below, &image.root, self.tag.as_ref(), &told).await?;
            states
        };
        let of = |state| states.iter().filter(move |(found, _)| *found == state);
        let bytes = |state| of(state).map(|(_, bytes)| bytes).sum();
        let copied = Copied {
            image: target.repository().image(image.root.digest),
            tag: self.tag.clone(),
            blobs_sent: of(BlobState::Sent).count(),
            bytes_sent: bytes(BlobState::Sent),
            blobs_skipped: of(BlobState::Exists).count(),
            bytes_skipped: bytes(BlobState::Exists),
            blobs_mounted: of(BlobState::Mounted).count(),
            bytes_mounted: bytes(BlobState::Mounted),
            duration: started.elapsed(),
        };
        tracing::info!(image = %copied.image, sent = copied.bytes_sent, "copied");
        Ok(copied)
    }

    fn connection(&self) -> Connection<'_> {
        let Self { backend, endpoint, retry, .. } = self;
        Connection { backend: *backend, endpoint: endpoint.as_ref(), retry }
    }

    /// A client of the repository that is copied to, and the scope of its credentials.
    ///
    /// Mounting takes credentials for both repositories, and the narrowest that there are for two are
    /// those for their organization.
    async fn open_target(&self) -> Result<(Client, Scope)> {
        let organization = self.to.organization();
        if organization == self.from.organization() && self.to != self.from {
            let both = LoginScope::Organization.of(self.to, Access::Push);
            match self.connection().open(self.to, &both).await {
                Ok(client) => return Ok((client, both)),
                Err(error @ (Error::PermissionDenied { .. } | Error::InvalidInput { .. })) => {
                    tracing::debug!(%error, "nothing can be mounted");
                }
                Err(error) => return Err(error),
            }
        }
        let own = self.login_scope.of(self.to, Access::Push);
        let client = self.connection().open(self.to, &own).await?;
        Ok((client, own))
    }

    /// Whether the tag stands for the image already, and what refers to it is there; then a registry has
    /// all of it.
    async fn is_there(&self, target: &Client, image: &RemoteImage) -> Result<bool> {
        let Some(tag) = &self.tag else { return Ok(false) };
        let found = target.manifest(&tag.clone().into()).await?;
        let is_tagged = found.is_some_and(|found| found.digest == image.root.digest);
        Ok(is_tagged && target.are_attached(&image.referrers).await?)
    }

    /// Sees to it that the target has a blob. Tells what became of it, and its bytes.
    async fn copy_blob(
        &self,
        source: &Client,
        target: &Client,
        mounts: bool,
        blob: &Descriptor,
    ) -> Result<(BlobState, u64)> {
        let state = self.offer_blob(source, target, mounts, blob).await?;
        self.tell(blob, state);
        Ok((state, blob.size))
    }

    async fn offer_blob(
        &self,
        source: &Client,
        target: &Client,
        mounts: bool,
        blob: &Descriptor,
    ) -> Result<BlobState> {
        if target.blob_exists(&blob.digest).await? {
            return Ok(BlobState::Exists);
        }
        if !blob.urls.is_empty() && !source.blob_exists(&blob.digest).await? {
            // A layer that may not be distributed is had from where its author has it.
            return Ok(BlobState::Exists);
        }
        let upload = if mounts {
            match target.mount_blob(&blob.digest, self.from).await? {
                Mount::Mounted => return Ok(BlobState::Mounted),
                Mount::Upload(upload) => upload,
            }
        } else {
            target.start_upload().await?
        };
        self.tell(blob, BlobState::Sending);
        self.send_through(source, target, blob, &upload).await?;
        Ok(BlobState::Sent)
    }

    /// Sends a blob while it is fetched. The target verifies it.
    async fn send_through(
        &self,
        source: &Client,
        target: &Client,
        blob: &Descriptor,
        upload: &Upload,
    ) -> Result<()> {
        let (moved, mut counts) = tokio::sync::mpsc::unbounded_channel();
        let pieces = steady::content(source.clone(), blob.digest.clone(), blob.size, 0);
        let pieces = pieces.map(move |piece| {
            let piece = piece.map_err(io::Error::other)?;
            // Nobody listens any more where the copy is given up.
            let _ = moved.send(piece.len() as i64);
            Ok(piece)
        });
        let sending = target.upload_blob(upload, &blob.digest, blob.size, pieces);
        let telling = async {
            while let Some(bytes) = counts.recv().await {
                self.progress.event(&Event::Moved { blob: &blob.digest, bytes });
            }
        };
        let sent = join(sending, telling).await.0;
        if sent.as_ref().is_err_and(|error| !error.is_temporary())
            && let Err(error) = target.cancel_upload(upload).await
        {
            // Some registries know no other way.
            tracing::debug!(%error, "an upload that failed is left to run out");
        }
        match sent {
            Err(error) if source_failed_for_now(&error) => {
                let message = format!("blob {} cannot be fetched for now", blob.digest);
                Err(Error::temporary(message).with_source(error))
            }
            sent => sent,
        }
    }

    fn tell(&self, blob: &Descriptor, state: BlobState) {
        self.progress.event(&Event::Blob { blob: &blob.digest, state });
    }
}

/// Whether it was the content that failed, and for a reason that passes.
fn source_failed_for_now(error: &Error) -> bool {
    let content = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let cause = content.and_then(|error| error.get_ref()?.downcast_ref::<Error>());
    cause.is_some_and(Error::is_temporary)
}

impl fmt::Debug for Copy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy")
            .field("from", &self.from)
            .field("reference", &self.reference)
            .field("to", &self.to)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The copy by digest.
    pub image: ImageUrl,
    /// The tag that stands for it now, if one was asked for.
    pub tag: Option<Tag>,
    /// The blobs that went through this machine.
    pub blobs_sent: usize,
    /// Their bytes.
    pub bytes_sent: u64,
    /// The blobs that the repository had.
    pub blobs_skipped: usize,
    /// Their bytes.
    pub bytes_skipped: u64,
    /// The blobs that the registry took over from the other repository.
    pub blobs_mounted: usize,
    /// Their bytes.
    pub bytes_mounted: u64,
    /// How long it took.
    pub duration: Duration,
}
