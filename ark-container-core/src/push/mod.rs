//! Uploading an image of this machine to a repository.
//!
//! The order is the safety: blobs, then manifests by digest, then the tag. A push that dies at any
//! point leaves no tag that stands for something incomplete.

mod compress;
mod image;
mod memory;
mod open_file;
mod pieces;
mod platforms;
mod regular_file;
mod resume;
mod send;
mod source;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use etcetera::BaseStrategy;

use self::compress::Compressor;
use self::memory::Memory;
use self::resume::Unfinished;
use self::send::{Neighbours, Sender};
use crate::backend::RegistryBackend;
#[cfg(feature = "local")]
use crate::backend::local::LocalBackend;
use crate::connection::{Connection, Endpoint, TRANSFER_CREDENTIALS};
use crate::distribution::{Client, Renewals, Retry};
use crate::error::Result;
use crate::model::{Access, ImageUrl, RegistryHost, RepositoryPath, Scope, Tag};
use crate::observability::{Run, count_bytes};

pub use crate::connection::LoginScope;
pub use crate::progress::{BlobState, Event, Progress};
pub use compress::Compression;
pub use image::{Layer, LocalBlob, LocalImage, Part};
pub use platforms::PlatformChoice;
pub use source::ImageSource;

/// A push to one repository, yet to be run.
///
/// ```no_run
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::RepositoryPath;
/// use ark_container_core::push::Push;
///
/// # async fn example(backend: &dyn RegistryBackend, path: &RepositoryPath)
/// # -> ark_container_core::Result<()> {
/// let source = "oci:build/image".parse()?;
/// let pushed = Push::new(backend, path).with_tag("v1".parse()?).run(&source).await?;
/// assert!(pushed.image.to_string().contains("@sha256:"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Push<'a> {
    backend: &'a dyn RegistryBackend,
    path: RepositoryPath,
    tag: Option<Tag>,
    platforms: PlatformChoice,
    endpoint: Endpoint,
    login_scope: LoginScope,
    concurrency: Option<usize>,
    compression: Compression,
    memory: Option<Memory>,
    unfinished: Option<Unfinished>,
    retry: Retry,
    progress: &'a dyn Progress,
}

impl<'a> Push<'a> {
    /// A push to the repository at `path`, by digest only.
    pub fn new(backend: &'a dyn RegistryBackend, path: &RepositoryPath) -> Self {
        Self {
            backend,
            path: path.clone(),
            tag: None,
            platforms: PlatformChoice::default(),
            endpoint: Endpoint::default(),
            login_scope: LoginScope::default(),
            concurrency: None,
            compression: Compression::default(),
            memory: None,
            unfinished: None,
            retry: Retry::default(),
            progress: &(),
        }
    }

    /// This push with a tag that stands for the image in the end.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// This push with the platforms that are meant where an index has several; unless told, there may
    /// be only one.
    pub fn with_platforms(self, platforms: PlatformChoice) -> Self {
        Self { platforms, ..self }
    }

    /// This push, dialled at another host than its credentials name: the registry that a program
    /// serves to itself on a port of the moment.
    pub fn with_endpoint(self, endpoint: RegistryHost) -> Self {
        Self { endpoint: Endpoint::Host(endpoint), ..self }
    }

    /// This push, through a registry over a folder of this machine that lives as long as the push: so no
    /// server has to run, and one that does is not disturbed.
    #[cfg(feature = "local")]
    pub fn with_local(self, local: &LocalBackend) -> Self {
        Self { endpoint: Endpoint::Folder(local.clone()), ..self }
    }

    /// This push with a login that goes so far; to its repository alone unless told.
    pub fn with_login_scope(self, login_scope: LoginScope) -> Self {
        Self { login_scope, ..self }
    }

    /// This push with so many blobs sent at once, at least one; unless told, as many as the link likes.
    pub fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: Some(concurrency.max(1)), ..self }
    }

    /// This push with the layers that are not compressed yet compressed so; with gzip unless told.
    pub fn with_compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// This push with a folder that is its own, where it remembers for the next ones what layers became
    /// when they were compressed, where blobs were sent to, and how far uploads are that may break off.
    /// Unless told it remembers nothing.
    ///
    /// # Behavior
    /// - It is created when there is something to remember, for its owner only. What is kept there is
    ///   bounded, and goes when it has not been of use for long.
    /// - Pushes may share it, at once and from several processes.
    /// - Where it cannot be used, or what is there makes no sense, the push does without.
    pub fn with_memory(self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let unfinished = Some(Unfinished::new(directory.join("uploads")));
        Self { memory: Some(Memory::new(directory)), unfinished, ..self }
    }

    /// This push, trying again in another way what fails for now. What it shares with other pushes is
    /// their budget.
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The folder that a user's programs share, `$XDG_CACHE_HOME/ark/push`; `None` if the user has no
    /// home.
    ///
    /// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>
    pub fn user_memory_directory() -> Option<PathBuf> {
        let folders = etcetera::base_strategy::Xdg::new().ok()?;
        Some(folders.cache_dir().join("ark/push"))
    }

    /// This push, telling what it does while it does it.
    pub fn with_progress(self, progress: &'a dyn Progress) -> Self {
        Self { progress, ..self }
    }

    /// Uploads what the repository lacks of an image.
    ///
    /// # Behavior
    /// - Nothing is sent before the whole source has been looked at and found to fit together.
    /// - What the repository has is not sent again; if the tag stands for this image already, nothing is.
    /// - The tag comes last. Until then the repository's tags are as they were, however this ends.
    /// - What refers to the image in its source, such as a signature, goes along.
    /// - The same image gives the same digest each time, on every machine.
    /// - What fails for now is tried again, and a login that the registry refuses meanwhile is replaced.
    /// - It may be dropped at any moment. With a [memory](Self::with_memory) the next push goes on in the
    ///   middle of large blobs, where the registry lets it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if it is not clear which image of the
    /// source is meant, or which of its platforms; [`Error::NotFound`](crate::Error::NotFound) if the source or the repository does
    /// not exist; [`Error::Conflict`](crate::Error::Conflict) if the tag stands for another image and may
    /// not be moved; [`Error::Failed`](crate::Error::Failed) if the source is damaged, with the name of the
    /// faulty file; and those of [`Client`] and of the backend's
    /// [`credentials`](RegistryBackend::credentials).
    pub async fn run(&self, source: &ImageSource) -> Result<Pushed> {
        let dialled = |endpoint| async move {
            let push = Self { endpoint, ..self.clone() };
            push.upload(source).await
        };
        let run = Run::transfer("push", &self.path);
        let pushed = run.around(self.endpoint.reach(dialled)).await?;
        count_bytes(
            "push",
            [
                ("sent", pushed.bytes_sent),
                ("skipped", pushed.bytes_skipped),
                ("mounted", pushed.bytes_mounted),
            ],
        );
        Ok(pushed)
    }

    async fn upload(&self, source: &ImageSource) -> Result<Pushed> {
        let image = LocalImage::open_for(source, &self.platforms).await?;
        let scope = self.login_scope.of(&self.path, Access::Push);
        let (authenticate, renewals) = Renewals::new();
        let client = self.connect(&scope).await?.with_authenticate(authenticate);
        let neighbours = Neighbours::find(self, client.repository()).await;
        let sender = Sender {
            client: &client,
            tag: self.tag.as_ref(),
            concurrency: self.concurrency,
            compressor: Compressor::new(self.compression),
            memory: self.memory.as_ref(),
            unfinished: self.unfinished.as_ref(),
            neighbours,
            progress: self.progress,
        };
        let backend = self.backend;
        renewals
            .serve(sender.send(&image), || backend.credentials(&scope, &TRANSFER_CREDENTIALS))
            .await
    }

    /// A client of the repository, with credentials for `scope`.
    async fn connect(&self, scope: &Scope) -> Result<Client> {
        let Self { backend, endpoint, retry, .. } = self;
        let connection = Connection { backend: *backend, endpoint: endpoint.host(), retry };
        connection.open(&self.path, scope).await
    }
}

impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("path", &self.path)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The image by digest.
    pub image: ImageUrl,
    /// The tag that stands for it now, if one was asked for.
    pub tag: Option<Tag>,
    /// The blobs that were sent.
    pub blobs_sent: usize,
    /// Their bytes, as they were sent.
    pub bytes_sent: u64,
    /// The blobs that the repository had.
    pub blobs_skipped: usize,
    /// Their bytes.
    pub bytes_skipped: u64,
    /// The blobs that the registry took over from another repository.
    pub blobs_mounted: usize,
    /// Their bytes.
    pub bytes_mounted: u64,
    /// The bytes of sent blobs that an earlier push had sent before it broke off.
    pub bytes_resumed: u64,
    /// What compression spared: the bytes of the layers that were compressed, less those that were
    /// sent for them.
    pub bytes_saved: u64,
    /// How many times something was tried again.
    pub retries: u64,
    /// How long it took.
    pub duration: Duration,
}
