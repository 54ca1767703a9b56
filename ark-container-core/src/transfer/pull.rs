//! [`Pull`]: downloads an image to this machine: to a folder, an archive, docker or podman.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::engine::{Target, Transfer, tally, transfer_options};
use super::image::Image;
use super::in_background;
use super::platforms::{self, PlatformChoice};
use super::progress::{BlobState, Event, Progress, as_seconds, as_text};
use super::source::{RegistryImage, RegistrySource};
use super::target::ImageTarget;
use super::target::archive::ArchiveTarget;
use super::target::layout::{Layout, LayoutTarget};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, LoginScope, connection_options};
use crate::distribution::platform_names;
use crate::error::{Error, Result};
use crate::model::{Digest, ImageReference, Reference, RepositoryPath};
use crate::observability::{Run, count_bytes};

/// A pull of one image, from a repository or from any other registry, to an [`ImageTarget`] on this machine. The pull
/// runs when it is awaited.
///
/// A folder is created if it does not exist, and keeps its existing images. An existing image of the same name loses
/// its name. An archive replaces the file.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::transfer::{ImageTarget, Pull};
///
/// # async fn example(backend: Arc<dyn RegistryBackend>, path: RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let pulled = Pull::new(backend, &path, "v1".parse()?, "oci:build/image".parse::<ImageTarget>()?).await?;
/// println!("pulled {}", pulled.url);
/// # Ok(())
/// # }
/// ```
///
/// # Behavior
/// - The image is added to the list of images last. Until then, the images in the layout are unchanged.
/// - Every blob is verified. Blobs in the layout are not fetched again.
/// - The next pull resumes the blobs of an interrupted pull.
/// - A pull can be dropped at any time. Writing the received bytes to the disk then takes a moment, in which another
///   pull to the folder fails.
///
/// # Errors
/// - [`Error::NotFound`] if the repository or the image does not exist.
/// - [`Error::InvalidInput`] if the image does not have the platform, or the folder is not a layout and not empty.
/// - [`Error::Temporary`] if another pull writes to the folder.
/// - [`Error::Failed`] if the content from the registry does not have the digests of the image, or the disk fails.
/// - The errors of [`Client`](crate::distribution::Client) and of [`credentials`](RegistryBackend::credentials).
#[derive(Clone)]
#[must_use = "a pull runs when it is awaited"]
pub struct Pull {
    connection: Connection,
    from: RegistryImage,
    plain_http: bool,
    target: ImageTarget,
    platforms: PlatformChoice,
    concurrency: Option<usize>,
    progress: Arc<dyn Progress>,
}

connection_options!(Pull);
transfer_options!(Pull);

impl Pull {
    /// Creates a pull of the image `reference` in the repository at `path` to `target`, with all its platforms. A file
    /// path as the target is a folder in the OCI image layout.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        path: &RepositoryPath,
        reference: Reference,
        target: impl Into<ImageTarget>,
    ) -> Self {
        Self::of(backend, RegistryImage::Repository(path.clone(), reference), target.into())
    }

    /// Creates a pull of an image in any registry to `target`, with all its platforms.
    ///
    /// The credentials for the registry are those of docker or podman, if there are any: see
    /// [`ForeignCredentials::find`](crate::credentials::ForeignCredentials::find).
    pub fn from_registry(
        backend: Arc<dyn RegistryBackend>,
        from: ImageReference,
        target: impl Into<ImageTarget>,
    ) -> Self {
        Self::of(backend, RegistryImage::Registry(from), target.into())
    }

    pub(crate) fn of(
        backend: Arc<dyn RegistryBackend>,
        from: RegistryImage,
        target: ImageTarget,
    ) -> Self {
        Self {
            connection: Connection::new(backend),
            from,
            plain_http: false,
            target,
            platforms: PlatformChoice::default(),
            concurrency: None,
            progress: Arc::new(()),
        }
    }

    /// Sets whether another registry is read by plain HTTP. The default is plain HTTP for registries on this machine
    /// only.
    pub fn with_plain_http(self, plain_http: bool) -> Self {
        Self { plain_http, ..self }
    }

    async fn run(self) -> Result<Pulled> {
        let connection = self.connection.clone();
        let download =
            connection.serve_while(|connection| Self { connection, ..self.clone() }.download());
        let pulled = Run::transfer("pull", &self.from.repository()).around(download).await?;
        count_bytes("pull", [("fetched", pulled.bytes_fetched), ("skipped", pulled.bytes_skipped)]);
        Ok(pulled)
    }

    async fn download(self) -> Result<Pulled> {
        let progress = &*self.progress;
        // An unwritable target fails before the first request.
        let opened = self.open_target(progress).await?;
        let source = self.from.open(&self.connection, LoginScope::Repository, self.plain_http);
        let source = source.await?;
        let started = Instant::now();
        let root = source.fetch_manifest(self.from.reference()).await?;
        let mut image = Image::read(&source, root, &self.platforms).await?;
        if self.target.is_for_one_platform() {
            self.check_single_platform(&source, &image).await?;
        }
        if !self.target.is_read_by_docker() {
            image = image.with_referrers(&source).await?;
        }
        // An archive is written sequentially.
        let (target, concurrency): (&dyn Target, _) = match &opened {
            OpenTarget::Layout(target) => (target, self.concurrency),
            OpenTarget::Archive(target) => (target, Some(1)),
        };
        let (image, outcomes) = Transfer { target, concurrency, progress }.run(&image).await?;
        self.progress.event(&Event::Manifest { reference: self.from.reference() });
        let (blobs_fetched, _) = tally(&outcomes, BlobState::Fetched);
        let (blobs_skipped, bytes_skipped) = tally(&outcomes, BlobState::Exists);
        let digest = image.root().digest.clone();
        let pulled = Pulled {
            url: source.image(&digest)?,
            target: self.target.clone(),
            directory: self.target.path().map(Path::to_owned),
            name: self.target.name().map(str::to_owned),
            blobs_fetched,
            bytes_fetched: outcomes.iter().map(|outcome| outcome.bytes).sum(),
            blobs_skipped,
            bytes_skipped,
            duration: started.elapsed(),
            digest,
        };
        tracing::info!(image = %pulled.url, fetched = pulled.bytes_fetched, "pulled");
        Ok(pulled)
    }

    async fn open_target<'a>(&'a self, progress: &'a dyn Progress) -> Result<OpenTarget<'a>> {
        let Some(folder) = self.target.layout().map(Path::to_owned) else {
            return ArchiveTarget::create(&self.target, progress).await.map(OpenTarget::Archive);
        };
        let layout = Arc::new(in_background(move || Layout::open(&folder)).await?);
        Ok(OpenTarget::Layout(LayoutTarget { layout, name: self.target.name(), progress }))
    }

    /// Rejects an image with several platforms for a target that supports one.
    async fn check_single_platform(&self, source: &RegistrySource, image: &Image) -> Result<()> {
        if image.root().content()?.image_config().is_some() {
            return Ok(());
        }
        if image.children().is_empty() {
            let image = source.image_name(self.from.reference());
            return Err(Error::invalid(format!(
                "{} takes an image, and {image} is not an image",
                self.target
            )));
        }
        let found = platforms::platforms(source, image.root()).await?;
        let found = platform_names(&found);
        Err(Error::invalid(format!(
            "{} takes an image for one platform, and {} has: {found}",
            self.target,
            source.image_name(self.from.reference())
        )))
    }
}

/// The opened target of a pull.
enum OpenTarget<'a> {
    Layout(LayoutTarget<'a>),
    Archive(ArchiveTarget<'a>),
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
            .field("from", &self.from)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The result of a pull.
///
/// The JSON is the output of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pulled {
    /// The image by digest.
    pub url: ImageReference,
    /// The target.
    #[serde(serialize_with = "as_text")]
    pub target: ImageTarget,
    /// The folder in the OCI image layout, or the archive.
    pub directory: Option<PathBuf>,
    /// The name of the image in the target, if it has one.
    pub name: Option<String>,
    /// The number of fetched blobs.
    pub blobs_fetched: usize,
    /// The number of fetched bytes.
    pub bytes_fetched: u64,
    /// The number of blobs that the layout had before the pull.
    pub blobs_skipped: usize,
    /// The total size of the skipped blobs, in bytes.
    pub bytes_skipped: u64,
    /// The duration of the pull; `seconds` in JSON.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub duration: Duration,
    #[serde(skip)]
    digest: Digest,
}

impl Pulled {
    /// Returns the digest of the manifest or index of the image.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulled_has_the_json_of_the_command_line() {
        let digest = crate::distribution::Manifest::new("", "content").digest;
        let image = format!("h.example/prod/{}/a@{digest}", crate::model::OrganizationId::TBD);
        let pulled = Pulled {
            url: image.parse().unwrap(),
            target: ImageTarget::oci_layout("build/image"),
            directory: Some("build/image".into()),
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
             \"target\":\"oci:build/image\",\"directory\":\"build/image\",\"name\":null,\"blobs_fetched\":1,\"bytes_fetched\":2,\
             \"blobs_skipped\":3,\"bytes_skipped\":4,\
             \"seconds\":1.5}}"
        );
        assert_eq!(serde_json::to_string(&pulled).unwrap(), expected);
    }
}
