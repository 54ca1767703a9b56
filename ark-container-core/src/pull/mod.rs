//! Fetching images from a repository: into a folder of this machine, or into another repository.

mod copy;
mod layout;
mod partial;
mod receive;
mod remote;
mod resolve;
mod steady;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use self::layout::Layout;
use self::receive::Receiver;
use self::remote::RemoteImage;
use crate::backend::RegistryBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;
use crate::connection::{Connection, Endpoint, TRANSFER_CREDENTIALS};
use crate::distribution::{Client, Renewals, Retry};
use crate::error::{Error, Result};
use crate::model::{Access, ImageUrl, Platform, Reference, RegistryHost, RepositoryPath, Scope};
use crate::observability::{Run, count_bytes};
use crate::progress::{BlobState, Event, Progress};

pub use copy::{Copied, Copy};
#[cfg(feature = "ecr")]
pub(crate) use remote::ManifestSource;
pub use resolve::ResolvedImage;

/// How many blobs are on their way at once unless told.
const BLOBS_AT_ONCE: usize = 4;

/// A pull from one repository, yet to be run.
///
/// ```no_run
/// use std::path::Path;
///
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::pull::Pull;
///
/// # async fn example(backend: &dyn RegistryBackend, path: &RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let pull = Pull::new(backend, path, "v1".parse()?);
/// let pulled = pull.into_layout(Path::new("build/image")).await?;
/// assert!(pulled.image.to_string().contains("@sha256:"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pull<'a> {
    backend: &'a dyn RegistryBackend,
    path: RepositoryPath,
    reference: Reference,
    name: Option<String>,
    platform: Option<Platform>,
    endpoint: Endpoint,
    concurrency: usize,
    retry: Retry,
    progress: &'a dyn Progress,
}

impl<'a> Pull<'a> {
    /// A pull of the image that `reference` names in the repository at `path`, with all its platforms.
    pub fn new(
        backend: &'a dyn RegistryBackend,
        path: &RepositoryPath,
        reference: Reference,
    ) -> Self {
        Self {
            backend,
            path: path.clone(),
            reference,
            name: None,
            platform: None,
            endpoint: Endpoint::default(),
            concurrency: BLOBS_AT_ONCE,
            retry: Retry::default(),
            progress: &(),
        }
    }

    /// This pull with the name that the image has in the layout, its
    /// `org.opencontainers.image.ref.name`; it has none unless told.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// This pull of the image for one platform only, without the index around it.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    /// This pull, dialled at another host than its credentials name: the registry that a program
    /// serves to itself on a port of the moment.
    pub fn with_endpoint(self, endpoint: RegistryHost) -> Self {
        Self { endpoint: Endpoint::Host(endpoint), ..self }
    }

    /// This pull, through a registry over a folder of this machine that lives as long as the pull: so no
    /// server has to run, and one that does is not disturbed.
    #[cfg(feature = "local")]
    pub fn with_local(self, local: &LocalBackend) -> Self {
        Self { endpoint: Endpoint::Folder(local.clone()), ..self }
    }

    /// This pull with so many blobs fetched at once, at least one; four unless told.
    pub fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// This pull, trying again in another way what fails for now.
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// This pull, telling what it does while it does it.
    pub fn with_progress(self, progress: &'a dyn Progress) -> Self {
        Self { progress, ..self }
    }

    /// Fetches what a folder in the OCI image layout lacks of the image, and lists the image there.
    ///
    /// The folder is made where it does not exist, and keeps the images that it has; one of the same
    /// name gives it up.
    ///
    /// # Behavior
    /// - The image is listed last: until then the layout's images are as they were, however this ends.
    /// - Every blob is verified. What the layout has is not fetched again.
    /// - What was received of a blob is kept if this is cut off, and the next pull goes on from there.
    /// - It may be dropped at any moment. Until what it had received is on the disk, which takes a moment,
    ///   it still is a pull that writes to the folder.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist;
    /// [`Error::InvalidInput`] if the image is not for the platform, or the folder holds something else
    /// than a layout; [`Error::Temporary`] if another pull writes to it; [`Error::Failed`] if the
    /// registry sends something else than the image's digests say, or the disk fails; and those of
    /// [`Client`] and of the backend's [`credentials`](RegistryBackend::credentials).
    pub async fn into_layout(&self, directory: &Path) -> Result<Pulled> {
        let dialled = |endpoint| async move {
            let pull = Self { endpoint, ..self.clone() };
            pull.receive(directory).await
        };
        let run = Run::transfer("pull", &self.path);
        let pulled = run.around(self.endpoint.reach(dialled)).await?;
        count_bytes("pull", [("fetched", pulled.bytes_fetched), ("skipped", pulled.bytes_skipped)]);
        Ok(pulled)
    }

    async fn receive(&self, directory: &Path) -> Result<Pulled> {
        let folder = directory.to_owned();
        let layout = Arc::new(blocking(move || Layout::open(&folder)).await?);
        let scope = Scope::repository(self.path.clone(), Access::Pull);
        let client = self.connection().open(&self.path, &scope).await?;
        let (authenticate, renewals) = Renewals::new();
        let client = client.with_authenticate(authenticate);
        renewals
            .serve(self.fetch(&client, layout), || {
                self.backend.credentials(&scope, &TRANSFER_CREDENTIALS)
            })
            .await
    }

    async fn fetch(&self, client: &Client, layout: Arc<Layout>) -> Result<Pulled> {
        let started = Instant::now();
        let image = RemoteImage::fetch(client, &self.reference, self.platform.as_ref()).await?;
        for blob in &image.blobs {
            let event = Event::Found { blob: &blob.digest, size: blob.size, is_tar: false };
            self.progress.event(&event);
        }
        let receiver = Receiver { client, layout: &layout, progress: self.progress };
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
        let of = |state| states.iter().filter(move |(found, _)| *found == state);
        let pulled = Pulled {
            image: client.repository().image(root),
            blobs_fetched: of(BlobState::Fetched).count(),
            bytes_fetched: of(BlobState::Fetched).map(|(_, bytes)| bytes).sum(),
            blobs_skipped: of(BlobState::Exists).count(),
            bytes_skipped: of(BlobState::Exists).map(|(_, bytes)| bytes).sum(),
            duration: started.elapsed(),
        };
        tracing::info!(image = %pulled.image, fetched = pulled.bytes_fetched, "pulled");
        Ok(pulled)
    }

    fn connection(&self) -> Connection<'_> {
        let Self { backend, endpoint, retry, .. } = self;
        Connection { backend: *backend, endpoint: endpoint.host(), retry }
    }
}

impl fmt::Debug for Pull<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull")
            .field("path", &self.path)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The image by digest.
    pub image: ImageUrl,
    /// The blobs that were fetched.
    pub blobs_fetched: usize,
    /// The bytes that were received for them.
    pub bytes_fetched: u64,
    /// The blobs that the layout had.
    pub blobs_skipped: usize,
    /// Their bytes.
    pub bytes_skipped: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Does something to the disk where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::failed("writing the layout").with_source(error))?
}
