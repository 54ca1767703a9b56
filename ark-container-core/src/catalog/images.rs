//! What a catalog does with images.

use std::path::PathBuf;
use std::sync::Arc;

use super::name::Named;
use super::opened::Catalog;
#[cfg(feature = "ecr")]
use super::outside::Outside;
#[cfg(any(feature = "ecr", feature = "local"))]
use super::place::Place;
use crate::error::{Error, Result};
use crate::model::{Platform, Reference, RepositoryName, RepositoryPath};
use crate::pull::{Pull, Pulled, Resolve, ResolvedImage};
use crate::push::{ImageSource, Push, Pushed};

/// The tag where none is given, as for docker.
const DEFAULT_TAG: &str = "latest";

/// An image is a repository's name, path or URL, with `:<tag>` or `@<digest>`; the tag is `latest` where
/// neither is given. A folder of this machine needs no server: while images move, it is served on a port
/// of its own.
impl Catalog {
    /// Uploads an image, and puts its tag on it in the end.
    ///
    /// The source is `docker-daemon:REF`, `podman:REF`, `docker-archive:FILE[:REF]`, `oci:DIR[:REF]`,
    /// `oci-archive:FILE[:REF]` or `-`, as [`ImageSource`] reads it. [`Push`] says all that is
    /// promised, and [`prepare_push`](Self::prepare_push) lets one choose platforms, compression and the
    /// like.
    ///
    /// # Errors
    /// Those of [`Push`]; [`Error::Parse`] and [`Error::InvalidInput`] if the name or the source is
    /// none.
    pub async fn push(&self, image: &str, source: &str) -> Result<Pushed> {
        self.prepare_push(image, source.parse()?)?.await
    }

    /// A push that is yet to be run, to say how.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name is none, has a digest, or lies outside of
    /// the organizations.
    pub fn prepare_push(&self, image: &str, source: ImageSource) -> Result<Push> {
        let (path, reference) = self.image(image)?;
        let Reference::Tag(tag) = reference else {
            let problem = "a push takes a tag, and the digest is the image's own";
            return Err(Error::invalid(format!("{image}: {problem}")));
        };
        let push = Push::new(Arc::new(self.backend.clone()), &path, source).with_tag(tag);
        #[cfg(feature = "local")]
        if let Some(Place::Local(local)) = self.place() {
            return Ok(push.with_local(local));
        }
        Ok(push)
    }

    /// Fetches an image into a folder in the OCI image layout, with all its platforms.
    ///
    /// # Errors
    /// Those of [`Pull`]; [`Error::Parse`] and [`Error::InvalidInput`] if the name is none.
    pub async fn pull(&self, image: &str, directory: impl Into<PathBuf>) -> Result<Pulled> {
        self.prepare_pull(image, directory)?.await
    }

    /// A pull that is yet to be run, to say how.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name is none, or lies outside of the
    /// organizations.
    pub fn prepare_pull(&self, image: &str, directory: impl Into<PathBuf>) -> Result<Pull> {
        let (path, reference) = self.image(image)?;
        let pull = Pull::new(Arc::new(self.backend.clone()), &path, reference, directory);
        #[cfg(feature = "local")]
        if let Some(Place::Local(local)) = self.place() {
            return Ok(pull.with_local(local));
        }
        Ok(pull)
    }

    /// What an image is now: its digest, and its size, media type and platforms.
    ///
    /// No layer is fetched. The tag may stand for another image the next moment;
    /// [`ResolvedImage::url`] goes on to name this one.
    ///
    /// # Errors
    /// Those of [`Resolve`]; [`Error::Parse`] and [`Error::InvalidInput`] if the name is none.
    pub async fn resolve(&self, image: &str) -> Result<ResolvedImage> {
        self.resolve_with(image, None).await
    }

    /// The same, of the image for one platform, such as [`Platform::of_this_machine`].
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve); [`Error::InvalidInput`] if the image is not for the platform.
    pub async fn resolve_for(&self, image: &str, platform: &Platform) -> Result<ResolvedImage> {
        self.resolve_with(image, Some(platform)).await
    }

    async fn resolve_with(
        &self,
        image: &str,
        platform: Option<&Platform>,
    ) -> Result<ResolvedImage> {
        if let Named::Outside(name, reference) = self.named(image)? {
            let reference = reference.map_or_else(default_reference, Ok)?;
            return self.resolve_outside(image, &name, &reference, platform).await;
        }
        let (path, reference) = self.image(image)?;
        let mut resolve = Resolve::new(Arc::new(self.backend.clone()), &path, reference);
        if let Some(platform) = platform {
            resolve = resolve.with_platform(platform.clone());
        }
        #[cfg(feature = "local")]
        if let Some(Place::Local(local)) = self.place() {
            resolve = resolve.with_local(local);
        }
        resolve.await
    }

    fn image(&self, text: &str) -> Result<(RepositoryPath, Reference)> {
        match self.named(text)? {
            Named::Inside(path, Some(reference)) => Ok((path, reference)),
            Named::Inside(path, None) => Ok((path, default_reference()?)),
            Named::Outside(..) => Err(self.not_outside(text)),
        }
    }

    /// What an image of a repository of no organization is, where AWS has it and the program wants it.
    async fn resolve_outside(
        &self,
        image: &str,
        name: &RepositoryName,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<ResolvedImage> {
        #[cfg(feature = "ecr")]
        if let Some(Place::Ecr(ecr)) = self.place() {
            if !self.shared.outside_repositories {
                return Err(Error::invalid(format!(
                    "{image} is of no organization, so that AWS alone decides who may read it; a \
                     program that takes this sets with_outside_repositories(true)"
                )));
            }
            return ResolvedImage::look_up(&Outside { ecr, name }, reference, platform).await;
        }
        let _ = (name, reference, platform);
        Err(self.not_outside(image))
    }
}

fn default_reference() -> Result<Reference> {
    Ok(Reference::Tag(DEFAULT_TAG.parse()?))
}
