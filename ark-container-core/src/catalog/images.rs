//! What a catalog does with images.

use std::path::Path;

use super::name::Named;
use super::opened::Catalog;
use crate::error::{Error, Result};
use crate::model::{Platform, Reference, RepositoryPath, Tag};
use crate::pull::{Pull, Pulled, ResolvedImage};
use crate::push::{ImageSource, Push, Pushed};

/// The tag where none is given, as for docker.
const DEFAULT_TAG: &str = "latest";

impl Catalog {
    /// Uploads an image, from a source such as `docker-daemon:my-image`, `oci:DIR` or
    /// `docker-archive:FILE`.
    pub async fn push(&self, image: &str, source: &str) -> Result<Pushed> {
        let source: ImageSource = source.parse()?;
        self.prepare_push(image)?.run(&source).await
    }

    /// A push that is yet to be run, to say how.
    pub fn prepare_push(&self, image: &str) -> Result<Push<'_>> {
        let (path, reference) = self.image(image)?;
        let tag = match reference {
            Reference::Tag(tag) => tag,
            Reference::Digest(_) => {
                return Err(Error::invalid(format!(
                    "{image}: a push takes a tag; the digest is the image's own"
                )));
            }
        };
        Ok(Push::new(&self.backend, &path).with_tag(tag))
    }

    /// Fetches an image into a folder in the OCI image layout.
    pub async fn pull(&self, image: &str, directory: impl AsRef<Path>) -> Result<Pulled> {
        self.prepare_pull(image)?.into_layout(directory.as_ref()).await
    }

    /// A pull that is yet to be run, to say how.
    pub fn prepare_pull(&self, image: &str) -> Result<Pull<'_>> {
        let (path, reference) = self.image(image)?;
        Ok(Pull::new(&self.backend, &path, reference))
    }

    /// What an image is now: digest, size, media type and platforms.
    pub async fn resolve(&self, image: &str) -> Result<ResolvedImage> {
        let (path, reference) = self.image(image)?;
        Pull::new(&self.backend, &path, reference).resolve().await
    }

    /// The same, of the image for one platform.
    pub async fn resolve_for(&self, image: &str, platform: &Platform) -> Result<ResolvedImage> {
        let (path, reference) = self.image(image)?;
        Pull::new(&self.backend, &path, reference).with_platform(platform.clone()).resolve().await
    }

    fn image(&self, text: &str) -> Result<(RepositoryPath, Reference)> {
        match self.named(text)? {
            Named::Inside(path, Some(reference)) => Ok((path, reference)),
            Named::Inside(path, None) => Ok((path, Reference::Tag(DEFAULT_TAG.parse::<Tag>()?))),
            Named::Outside(..) => Err(self.not_outside(text)),
        }
    }
}
