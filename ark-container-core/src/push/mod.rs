//! Uploading an image of this machine to a repository.
//!
//! The order is the safety: blobs, then manifests by digest, then the tag. A push that dies at any
//! point leaves no tag that stands for something incomplete.

mod image;
mod regular_file;
mod send;
mod source;

use crate::backend::RegistryBackend;
use crate::distribution::Client;
use crate::error::Result;
use crate::model::{Access, ImageUrl, RegistryHost, RepositoryPath, RepositoryUrl, Scope, Tag};

pub use image::{LocalBlob, LocalImage};
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
#[derive(Debug, Clone)]
pub struct Push<'a> {
    backend: &'a dyn RegistryBackend,
    path: &'a RepositoryPath,
    tag: Option<Tag>,
    endpoint: Option<RegistryHost>,
}

impl<'a> Push<'a> {
    /// A push to the repository at `path`, by digest only.
    pub fn new(backend: &'a dyn RegistryBackend, path: &'a RepositoryPath) -> Self {
        Self { backend, path, tag: None, endpoint: None }
    }

    /// This push with a tag that stands for the image in the end.
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// This push, dialled at another host than its credentials name: the registry that a program
    /// serves to itself on a port of the moment.
    pub fn with_endpoint(self, endpoint: RegistryHost) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// Uploads what the repository lacks of an image.
    ///
    /// # Behavior
    /// - Nothing is sent before the whole source has been looked at and found to fit together.
    /// - What the repository has is not sent again; if the tag stands for this image already, nothing is.
    /// - The tag comes last. Until then the repository's tags are as they were, however this ends.
    /// - The same image gives the same digest each time, on every machine.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if the source does not say which of its
    /// images is meant; [`Error::NotFound`](crate::Error::NotFound) if the source or the repository does
    /// not exist; [`Error::Conflict`](crate::Error::Conflict) if the tag stands for another image and may
    /// not be moved; [`Error::Failed`](crate::Error::Failed) if the source is damaged, with the name of the
    /// faulty file; and those of [`Client`] and of the backend's
    /// [`credentials`](RegistryBackend::credentials).
    pub async fn run(&self, source: &ImageSource) -> Result<Pushed> {
        let image = LocalImage::open(source).await?;
        let scope = Scope::repository(self.path.clone(), Access::Push);
        let credentials = self.backend.credentials(&scope).await?;
        // The credentials say which registry takes them, also where an emulator stands in for it.
        let host = credentials.host.clone();
        let endpoint = self.endpoint.as_ref().unwrap_or(&host);
        let url = RepositoryUrl::new(host.clone(), self.path.clone());
        let client = Client::with_endpoint(url, credentials, endpoint)?;
        send::send(&client, &image, self.tag.as_ref()).await
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
    /// Their bytes.
    pub bytes_sent: u64,
    /// The blobs that the repository had.
    pub blobs_skipped: usize,
    /// Their bytes.
    pub bytes_skipped: u64,
}
