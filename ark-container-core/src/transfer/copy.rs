//! [`Copy`]: copies an image from one repository to another, without using the disk.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::download::blob_content;
use super::progress::{BlobState, Event, Progress, as_seconds};
use super::pull::{DEFAULT_CONCURRENCY, tally};
use super::remote_image::RemoteImage;
use crate::backend::RegistryBackend;
use crate::connection::{Connection, LoginScope, connection_options};
use crate::distribution::{Client, Mount, Upload};
use crate::error::{Error, Result};
use crate::model::{
    Access, Descriptor, Digest, ImageUrl, Platform, Reference, RepositoryPath, Scope, Tag,
};
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
    platform: Option<Platform>,
    login_scope: LoginScope,
    concurrency: usize,
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
            platform: None,
            login_scope: LoginScope::default(),
            concurrency: DEFAULT_CONCURRENCY,
            progress: Arc::new(()),
        }
    }

    /// Puts a tag on the image in the end.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Copies the image for one platform only, without the index around it.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    /// Sets how far the logins reach. By default each is for its repository alone, or for the organization
    /// that owns both, so that blobs can be mounted.
    pub fn with_login_scope(self, login_scope: LoginScope) -> Self {
        Self { login_scope, ..self }
    }

    /// Sets the maximum number of concurrent blob copies, at least one. The default is 4.
    pub fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// Reports what the copy does while it runs.
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    async fn run(self) -> Result<Copied> {
        let connection = self.connection.clone();
        let transfer =
            connection.serve_while(|connection| Self { connection, ..self.clone() }.transfer());
        let (tag, source) = (self.tag.as_ref(), Some(self.source_text()));
        let recorded = self.connection.record_push(&self.to, tag, source, transfer, Copied::digest);
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

    async fn transfer(self) -> Result<Copied> {
        let pulling = self.login_scope.of(&self.from, Access::Pull);
        let source = self.connection.client(&self.from, &pulling);
        let (source, target) = join(source, self.open_target()).await;
        let (source, (target, pushing)) = (source?, target?);
        let mounts = pushing.covers(&self.from, Access::Pull);
        self.copy(&source, &target, mounts).await
    }

    async fn copy(&self, source: &Client, target: &Client, mounts: bool) -> Result<Copied> {
        let started = Instant::now();
        let image = RemoteImage::fetch(source, &self.reference, self.platform.as_ref()).await?;
        let image = image.with_referrers(source).await?;
        image.report_blobs(&*self.progress);
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
        let (blobs_sent, bytes_sent) = tally(&states, BlobState::Sent);
        let (blobs_skipped, bytes_skipped) = tally(&states, BlobState::Exists);
        let (blobs_mounted, bytes_mounted) = tally(&states, BlobState::Mounted);
        let copied = Copied {
            url: target.repository()?.image(image.root.digest.clone()),
            tag: self.tag.clone(),
            blobs_sent,
            bytes_sent,
            blobs_skipped,
            bytes_skipped,
            blobs_mounted,
            bytes_mounted,
            duration: started.elapsed(),
            digest: image.root.digest,
        };
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

    /// Returns whether the tag stands for the image already and the repository has its referrers. Then the
    /// registry has all of the image.
    async fn is_there(&self, target: &Client, image: &RemoteImage) -> Result<bool> {
        let Some(tag) = &self.tag else { return Ok(false) };
        let found = target.manifest(&tag.clone().into()).await?;
        let is_tagged = found.is_some_and(|found| found.digest == image.root.digest);
        Ok(is_tagged && target.are_attached(&image.referrers).await?)
    }

    /// Copies a blob unless the target has it, and returns its state and size.
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
            // A layer that may not be distributed stays where its author provides it.
            return Ok(BlobState::Exists);
        }
        let upload = if mounts {
            match target.mount_blob(&blob.digest, &self.from).await? {
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
        let pieces = blob_content(source.clone(), blob.digest.clone(), blob.size, 0);
        let pieces = pieces.map(move |piece| {
            let piece = piece?;
            // The receiver is gone if the copy is dropped.
            let _ = moved.send(piece.len() as i64);
            Ok::<_, Error>(piece)
        });
        let sending = target.upload_blob(upload, &blob.digest, blob.size, pieces);
        let telling = async {
            while let Some(bytes) = counts.recv().await {
                self.progress.event(&Event::Moved { blob: &blob.digest, bytes });
            }
        };
        let sent = join(sending, telling).await.0;
        let is_abandoned = |error: &Error| !error.is_temporary() || is_source_error(error);
        if sent.as_ref().is_err_and(is_abandoned)
            && let Err(error) = target.cancel_upload(upload).await
        {
            // Some registries let uploads expire instead.
            tracing::debug!(%error, "an upload that failed is left to run out");
        }
        sent
    }

    fn tell(&self, blob: &Descriptor, state: BlobState) {
        self.progress.event(&Event::Blob { blob: &blob.digest, state });
    }
}

/// Whether it was the content of an upload that failed, and not the target.
fn is_source_error(error: &Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<Error>())
}

impl IntoFuture for Copy {
    type Output = Result<Copied>;
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

/// The result of a copy.
///
/// Its JSON is what the command line prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// The copy by digest.
    pub url: ImageUrl,
    /// The tag that was put on it, if one was requested.
    pub tag: Option<Tag>,
    /// The blobs that went through this machine.
    pub blobs_sent: usize,
    /// Their bytes.
    pub bytes_sent: u64,
    /// The blobs that the repository had.
    pub blobs_skipped: usize,
    /// Their bytes.
    pub bytes_skipped: u64,
    /// The blobs that the registry mounted from the other repository.
    pub blobs_mounted: usize,
    /// Their bytes.
    pub bytes_mounted: u64,
    /// The duration of the copy; `seconds` in JSON.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub duration: Duration,
    #[serde(skip)]
    digest: Digest,
}

impl Copied {
    /// The digest of the image's manifest or index.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_is_written_as_the_command_line_prints_it() {
        let digest = crate::distribution::Manifest::new("", "content").digest;
        let image = format!("h.example/prod/{}/a@{digest}", crate::model::OrganizationId::TBD);
        let copied = Copied {
            url: image.parse().unwrap(),
            tag: Some("v1".parse().unwrap()),
            blobs_sent: 1,
            bytes_sent: 2,
            blobs_skipped: 3,
            bytes_skipped: 4,
            blobs_mounted: 5,
            bytes_mounted: 6,
            duration: Duration::from_millis(1500),
            digest,
        };
        let expected = format!(
            "{{\"url\":\"{image}\",\
             \"tag\":\"v1\",\"blobs_sent\":1,\"bytes_sent\":2,\"blobs_skipped\":3,\"bytes_skipped\":4,\
             \"blobs_mounted\":5,\"bytes_mounted\":6,\
             \"seconds\":1.5}}"
        );
        assert_eq!(serde_json::to_string(&copied).unwrap(), expected);
    }
}
