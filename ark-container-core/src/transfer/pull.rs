//! [`Pull`]: fetches an image into a folder of this machine.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::download::Receiver;
use super::progress::{BlobState, Event, Progress, as_seconds};
use super::remote_image::RemoteImage;
use super::target::layout::Layout;
use crate::backend::RegistryBackend;
use crate::connection::{Connection, connection_options};
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::{Access, Digest, ImageUrl, Platform, Reference, RepositoryPath, Scope};
use crate::observability::{Run, count_bytes};

/// The default maximum number of blobs that are transferred at once.
pub(super) const DEFAULT_CONCURRENCY: usize = 4;

/// A pull of one image from a repository into a folder in the OCI image layout. Awaiting it runs it.
///
/// The folder is created if it does not exist, and keeps the images that it has; one of the same name
/// loses its name.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::transfer::Pull;
///
/// # async fn example(backend: Arc<dyn RegistryBackend>, path: RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let pulled = Pull::new(backend, &path, "v1".parse()?, "build/image").await?;
/// println!("pulled {}", pulled.url);
/// # Ok(())
/// # }
/// ```
///
/// # Behavior
/// - The image is listed last: until then the layout's images are as they were, however this ends.
/// - Every blob is verified. What the layout has is not fetched again.
/// - What was received of a blob is kept if the pull is interrupted, and the next pull continues from there.
/// - It may be dropped at any moment. Until what it had received is on the disk, which takes a moment, it
///   still is a pull that writes to the folder.
///
/// # Errors
/// [`Error::NotFound`] if the repository or the image does not exist; [`Error::InvalidInput`] if the image
/// is not for the platform, or the folder holds something else than a layout; [`Error::Temporary`] if
/// another pull writes to it; [`Error::Failed`] if the registry sends something else than the image's
/// digests say, or the disk fails; and those of [`Client`] and of the backend's
/// [`credentials`](RegistryBackend::credentials).
#[derive(Clone)]
#[must_use = "a pull runs when it is awaited"]
pub struct Pull {
    connection: Connection,
    path: RepositoryPath,
    reference: Reference,
    directory: PathBuf,
    name: Option<String>,
    platform: Option<Platform>,
    concurrency: usize,
    progress: Arc<dyn Progress>,
}

connection_options!(Pull);

impl Pull {
    /// A pull of the image that `reference` names in the repository at `path`, with all its platforms,
    /// into `directory`.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        path: &RepositoryPath,
        reference: Reference,
        directory: impl Into<PathBuf>,
    ) -> Self {
        Self {
            connection: Connection::new(backend),
            path: path.clone(),
            reference,
            directory: directory.into(),
            name: None,
            platform: None,
            concurrency: DEFAULT_CONCURRENCY,
            progress: Arc::new(()),
        }
    }

    /// Sets the name of the image in the layout, its `org.opencontainers.image.ref.name`. By default it
    /// has none.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Pulls the image for one platform only, without the index around it.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    /// Sets the maximum number of concurrent blob downloads, at least one. The default is 4.
    pub fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// Reports what the pull does while it runs.
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    async fn run(self) -> Result<Pulled> {
        let connection = self.connection.clone();
        let download =
            connection.serve_while(|connection| Self { connection, ..self.clone() }.download());
        let pulled = Run::transfer("pull", &self.path).around(download).await?;
        count_bytes("pull", [("fetched", pulled.bytes_fetched), ("skipped", pulled.bytes_skipped)]);
        Ok(pulled)
    }

    async fn download(self) -> Result<Pulled> {
        let folder = self.directory.clone();
        let layout = Arc::new(blocking(move || Layout::open(&folder)).await?);
        let scope = Scope::repository(self.path.clone(), Access::Pull);
        let client = self.connection.client(&self.path, &scope).await?;
        self.fetch(&client, layout).await
    }

    async fn fetch(&self, client: &Client, layout: Arc<Layout>) -> Result<Pulled> {
        let started = Instant::now();
        let image = RemoteImage::fetch(client, &self.reference, self.platform.as_ref()).await?;
        image.report_blobs(&*self.progress);
        let receiver = Receiver { client, layout: &layout, progress: &*self.progress };
        // Made before the stream is: rustc takes a closure in it for one that may not change threads.
        let receiving: Vec<_> = image.blobs.iter().map(|blob| receiver.receive(blob)).collect();
        let states: Vec<(BlobState, u64)> =
            stream::iter(receiving).buffer_unordered(self.concurrency).try_collect().await?;
        let root = image.root.digest.clone();
        let name = self.name.clone();
        blocking(move || {
            for manifest in image.children.iter().chain([&image.root]) {
                layout.put(&manifest.digest, &manifest.bytes)?;
            }
            layout.list(&image.descriptor(), name.as_deref())
        })
        .await?;
        self.progress.event(&Event::Manifest { reference: &self.reference });
        let (blobs_fetched, bytes_fetched) = tally(&states, BlobState::Fetched);
        let (blobs_skipped, bytes_skipped) = tally(&states, BlobState::Exists);
        let pulled = Pulled {
            url: client.repository()?.image(root.clone()),
            directory: self.directory.clone(),
            name: self.name.clone(),
            blobs_fetched,
            bytes_fetched,
            blobs_skipped,
            bytes_skipped,
            duration: started.elapsed(),
            digest: root,
        };
        tracing::info!(image = %pulled.url, fetched = pulled.bytes_fetched, "pulled");
        Ok(pulled)
    }
}

impl IntoFuture for Pull {
    type Output = Result<Pulled>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull")
            .field("path", &self.path)
            .field("reference", &self.reference)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// The result of a pull.
///
/// Its JSON is what the command line prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pulled {
    /// The image by digest.
    pub url: ImageUrl,
    /// The folder in the OCI image layout.
    pub directory: PathBuf,
    /// The name of the image in the layout, if it has one.
    pub name: Option<String>,
    /// The blobs that were fetched.
    pub blobs_fetched: usize,
    /// The bytes that were received.
    pub bytes_fetched: u64,
    /// The blobs that the layout had.
    pub blobs_skipped: usize,
    /// Their bytes.
    pub bytes_skipped: u64,
    /// The duration of the pull; `seconds` in JSON.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub duration: Duration,
    #[serde(skip)]
    digest: Digest,
}

impl Pulled {
    /// The digest of the image's manifest or index.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// The number of the blobs in a state, and their bytes together.
pub(super) fn tally(blobs: &[(BlobState, u64)], state: BlobState) -> (usize, u64) {
    let bytes = blobs.iter().filter(|(found, _)| *found == state).map(|(_, bytes)| bytes);
    (bytes.clone().count(), bytes.sum())
}

/// Runs disk operations on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::failed("writing the layout").with_source(error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulled_is_written_as_the_command_line_prints_it() {
        let digest = crate::distribution::Manifest::new("", "content").digest;
        let image = format!("h.example/prod/{}/a@{digest}", crate::model::OrganizationId::TBD);
        let pulled = Pulled {
            url: image.parse().unwrap(),
            directory: "build/image".into(),
            name: None,
            blobs_fetched: 1,
            bytes_fetched: 2,
            blobs_skipped: 3,
            bytes_skipped: 4,
            duration: Duration::from_millis(1500),
            digest,
        };
        let expected = format!(
            "{{\"url\":\"{image}\",\
             \"directory\":\"build/image\",\"name\":null,\"blobs_fetched\":1,\"bytes_fetched\":2,\
             \"blobs_skipped\":3,\"bytes_skipped\":4,\
             \"seconds\":1.5}}"
        );
        assert_eq!(serde_json::to_string(&pulled).unwrap(), expected);
    }
}
