//! [`Push`]: uploads an image from this machine to a repository.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::cache::PushCache;
use super::compress::{Compression, Compressor};
use super::engine::{Outcome, tally, transfer_options};
use super::image::Image;
use super::platforms::PlatformChoice;
use super::progress::{BlobState, Progress, as_seconds};
use super::source::ImageSource;
use super::upload::{Mounts, RegistryTarget};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, LoginScope, connection_options};
use crate::error::Result;
use crate::model::{Access, Digest, ImageUrl, RepositoryPath, RepositoryUrl, Tag};
use crate::observability::{Run, count_bytes};

/// A push of one image to one repository. The push runs when it is awaited.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::transfer::Push;
///
/// # async fn example(backend: Arc<dyn RegistryBackend>, path: RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let source = "oci:build/image".parse()?;
/// let pushed = Push::new(backend, &path, source).with_tag("v1".parse()?).await?;
/// println!("pushed {}", pushed.url);
/// # Ok(())
/// # }
/// ```
///
/// # Behavior
/// - All manifests of the source are read and checked before the first blob is sent.
/// - Existing blobs and manifests are not sent again. If the tag already refers to this image, nothing is sent.
/// - The tag is put last. Until then, the tags of the repository are unchanged.
/// - Referrers in the source, such as signatures, are pushed with the image.
/// - The same image has the same digest after each push, on every machine.
/// - Temporary errors are retried. A login that the registry rejects during the push is replaced.
/// - A push can be dropped at any time. With a [cache](Self::with_cache_directory), the next push resumes large blobs,
///   if the registry supports it.
///
/// # Errors
/// - [`Error::InvalidInput`](crate::Error::InvalidInput) if the selection of the image or platform is ambiguous.
/// - [`Error::NotFound`](crate::Error::NotFound) if the source or the repository does not exist.
/// - [`Error::Conflict`](crate::Error::Conflict) if the tag is immutable and refers to another image.
/// - [`Error::Failed`](crate::Error::Failed) if the source is damaged, with the name of the damaged file.
/// - The errors of [`Client`](crate::distribution::Client) and of [`credentials`](RegistryBackend::credentials).
#[derive(Clone)]
#[must_use = "a push runs when it is awaited"]
pub struct Push {
    connection: Connection,
    path: RepositoryPath,
    source: ImageSource,
    image: Option<Image>,
    tag: Option<Tag>,
    platforms: PlatformChoice,
    login_scope: LoginScope,
    concurrency: Option<usize>,
    compression: Compression,
    cache: Option<PushCache>,
    progress: Arc<dyn Progress>,
}

connection_options!(Push);
transfer_options!(Push);

impl Push {
    /// Creates a push of the image in `source` to the repository at `path`, without a tag.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        path: &RepositoryPath,
        source: ImageSource,
    ) -> Self {
        Self {
            connection: Connection::new(backend),
            path: path.clone(),
            source,
            image: None,
            tag: None,
            platforms: PlatformChoice::default(),
            login_scope: LoginScope::default(),
            concurrency: None,
            compression: Compression::default(),
            cache: None,
            progress: Arc::new(()),
        }
    }

    /// Sets the tag of the image, which is put last.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Sets the scope of the login. The default is the repository.
    pub fn with_login_scope(self, login_scope: LoginScope) -> Self {
        Self { login_scope, ..self }
    }

    /// Sets the compression of uncompressed layers. The default is gzip.
    pub fn with_compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Sets the directory of the push cache: digests of compressed layers, locations of blobs and interrupted uploads.
    /// The default is no cache.
    ///
    /// # Behavior
    /// - The directory is created for the first entry, with access for its owner only. Its size is bounded, and old
    ///   entries are removed.
    /// - Concurrent pushes can share the directory, also from several processes.
    /// - An unusable directory or an invalid entry is ignored.
    pub fn with_cache_directory(self, directory: impl Into<PathBuf>) -> Self {
        Self { cache: Some(PushCache::new(directory.into())), ..self }
    }

    /// Returns the cache directory of the user, `$XDG_CACHE_HOME/ark/push`, or `None` without a home directory.
    ///
    /// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>
    pub fn user_cache_directory() -> Option<PathBuf> {
        let folders = etcetera::base_strategy::Xdg::new().ok()?;
        Some(folders.cache_dir().join("ark/push"))
    }

    /// Opens the source for the selected platforms now. An error then precedes the next step, such as creating the
    /// repository.
    ///
    /// # Errors
    /// Those of the source, see [`Push`].
    pub async fn open(self) -> Result<Self> {
        let image = Image::open(&self.source, &self.platforms).await?;
        Ok(Self { image: Some(image), ..self })
    }

    async fn run(self) -> Result<Pushed> {
        let connection = self.connection.clone();
        let upload =
            connection.serve_while(|connection| Self { connection, ..self.clone() }.upload());
        let recorded = self.connection.record_push(
            &self.path,
            self.tag.as_ref(),
            None,
            upload,
            Pushed::digest,
        );
        let pushed = Run::transfer("push", &self.path).around(recorded).await?;
        pushed.count_bytes("push");
        Ok(pushed)
    }

    async fn upload(self) -> Result<Pushed> {
        let image = match self.image {
            Some(image) => image,
            None => Image::open(&self.source, &self.platforms).await?,
        };
        let scope = self.login_scope.of(&self.path, Access::Push);
        let client = self.connection.client(&self.path, &scope).await?;
        let cache = self.cache.as_ref();
        let mounts =
            Mounts::neighbours(&self.connection, &self.path, client.repository()?.host(), cache)
                .await;
        let target = RegistryTarget {
            client: &client,
            connection: &self.connection,
            tag: self.tag.as_ref(),
            compressor: Compressor::new(self.compression),
            cache,
            mounts,
            progress: &*self.progress,
        };
        let (started, retried) = (Instant::now(), client.retry().retries());
        let pushed = target.push(&image, self.concurrency, started, retried).await?;
        tracing::info!(image = %pushed.url, sent = pushed.bytes_sent, "pushed");
        Ok(pushed)
    }
}

impl IntoFuture for Push {
    type Output = Result<Pushed>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("path", &self.path)
            .field("source", &self.source)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// The result of a push.
///
/// The JSON is the output of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pushed {
    /// The image by digest.
    pub url: ImageUrl,
    /// The tag of the image, if one was set.
    pub tag: Option<Tag>,
    /// The number of sent blobs.
    pub blobs_sent: usize,
    /// The number of sent bytes, after compression.
    pub bytes_sent: u64,
    /// The number of blobs that the repository had before the push.
    pub blobs_skipped: usize,
    /// The total size of the skipped blobs, in bytes.
    pub bytes_skipped: u64,
    /// The number of blobs that the registry mounted from another repository.
    pub blobs_mounted: usize,
    /// The total size of the mounted blobs, in bytes.
    pub bytes_mounted: u64,
    /// The number of bytes of sent blobs that an earlier, interrupted push had sent.
    pub bytes_resumed: u64,
    /// The number of bytes that compression saved: the size of the layers before compression minus the size after.
    pub bytes_saved: u64,
    /// The number of retries.
    pub retries: u64,
    /// The duration of the push; `seconds` in JSON.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub duration: Duration,
    #[serde(skip)]
    digest: Digest,
}

impl Pushed {
    pub(super) fn new(
        repository: &RepositoryUrl,
        image: &Image,
        tag: Option<Tag>,
        outcomes: &[Outcome],
        retries: u64,
        duration: Duration,
    ) -> Self {
        let (blobs_sent, _) = tally(outcomes, BlobState::Sent);
        let (blobs_skipped, bytes_skipped) = tally(outcomes, BlobState::Exists);
        let (blobs_mounted, bytes_mounted) = tally(outcomes, BlobState::Mounted);
        let digest = image.root().digest.clone();
        Self {
            url: repository.image(digest.clone()),
            tag,
            blobs_sent,
            bytes_sent: outcomes.iter().map(|outcome| outcome.bytes).sum(),
            blobs_skipped,
            bytes_skipped,
            blobs_mounted,
            bytes_mounted,
            bytes_resumed: outcomes.iter().map(|outcome| outcome.resumed).sum(),
            bytes_saved: outcomes.iter().map(|outcome| outcome.saved).sum(),
            retries,
            duration,
            digest,
        }
    }

    /// Adds the bytes of the operation to the metrics.
    pub(super) fn count_bytes(&self, operation: &'static str) {
        let (sent, skipped) = (self.bytes_sent, self.bytes_skipped);
        let bytes = [("sent", sent), ("skipped", skipped), ("mounted", self.bytes_mounted)];
        count_bytes(operation, bytes);
    }

    /// Returns the digest of the manifest or index of the image.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushed_has_the_json_of_the_command_line() {
        let digest = crate::distribution::Manifest::new("", "content").digest;
        let image = format!("h.example/prod/{}/a@{digest}", crate::model::OrganizationId::TBD);
        let pushed = Pushed {
            url: image.parse().unwrap(),
            tag: Some("v1".parse().unwrap()),
            blobs_sent: 1,
            bytes_sent: 2,
            blobs_skipped: 3,
            bytes_skipped: 4,
            blobs_mounted: 5,
            bytes_mounted: 6,
            bytes_resumed: 7,
            bytes_saved: 8,
            retries: 9,
            duration: Duration::from_millis(1500),
            digest,
        };
        let expected = format!(
            "{{\"url\":\"{image}\",\
             \"tag\":\"v1\",\"blobs_sent\":1,\"bytes_sent\":2,\"blobs_skipped\":3,\"bytes_skipped\":4,\
             \"blobs_mounted\":5,\"bytes_mounted\":6,\"bytes_resumed\":7,\"bytes_saved\":8,\"retries\":9,\
             \"seconds\":1.5}}"
        );
        assert_eq!(serde_json::to_string(&pushed).unwrap(), expected);
    }
}
