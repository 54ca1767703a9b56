//! What a catalog does with images.

use std::sync::Arc;

use super::Catalog;
use super::name::Named;
#[cfg(feature = "ecr")]
use super::outside::Outside;
#[cfg(any(feature = "ecr", feature = "local"))]
use super::registry::OpenRegistry;
use crate::backend::RegistryBackend as _;
use crate::connection::Connection;
use crate::credentials::ForeignCredentials;
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::{Access, ImageReference, Platform, Reference, RepositoryPath, Scope, Tag};
use crate::transfer::{
    Copy, ImageSource, ImageTarget, Pull, Pulled, Push, Pushed, Resolve, ResolvedImage,
};

/// Images are named by a repository's name, path or URL, with `:<tag>` or `@<digest>`; the tag is `latest`
/// where neither is given. A folder of this machine needs no server: while images move, it is served on a
/// port of its own.
///
/// Pushes, pulls and copies are awaited. They own what they need, so that a task can be spawned with them.
impl Catalog {
    /// Uploads an image, and puts its tag on it in the end.
    ///
    /// The source is `docker-daemon:REF`, `podman:REF`, `docker-archive:FILE[:REF]`, `oci:DIR[:REF]`,
    /// `oci-archive:FILE[:REF]` or `-`, as [`ImageSource`] reads it. [`Push`] says all that is promised.
    ///
    /// # Errors
    /// Those of [`Push`], and of [`prepare_push`](Self::prepare_push).
    pub async fn push(&self, image: &str, source: &str) -> Result<Pushed> {
        self.prepare_push(image, source)?.await
    }

    /// Prepares a push, to choose platforms, compression and the like before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name or the source is not valid, or if the name
    /// has a digest or lies outside of the organizations.
    pub fn prepare_push(&self, image: &str, source: &str) -> Result<Push> {
        let source: ImageSource = source.parse()?;
        let (path, tag) = self.target(image)?;
        let push = Push::new(Arc::new(self.backend.clone()), &path, source).with_tag(tag);
        Ok(push.with_connection(self.connection()))
    }

    /// Fetches an image to this machine, with all its platforms.
    ///
    /// The target is `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`,
    /// `docker-daemon:NAME`, `podman:NAME` or `-`, as [`ImageTarget`] reads it.
    ///
    /// # Errors
    /// Those of [`Pull`], and of [`prepare_pull`](Self::prepare_pull).
    pub async fn pull(&self, image: &str, target: &str) -> Result<Pulled> {
        self.prepare_pull(image, target)?.await
    }

    /// Prepares a pull, to choose a platform and the like before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name is not valid, or lies outside of the
    /// organizations.
    pub fn prepare_pull(&self, image: &str, target: &str) -> Result<Pull> {
        let (path, reference) = self.image(image)?;
        let target: ImageTarget = target.parse()?;
        let pull = Pull::new(Arc::new(self.backend.clone()), &path, reference, target);
        Ok(pull.with_connection(self.connection()))
    }

    /// Copies an image to a repository, with all its platforms: from another repository of this registry, from
    /// another tag, or from any other registry, as `docker://HOST/REPOSITORY[:TAG|@DIGEST]`.
    ///
    /// # Errors
    /// Those of [`Copy`](struct@Copy), and of [`prepare_copy`](Self::prepare_copy).
    pub async fn copy(&self, from: &str, to: &str) -> Result<Pushed> {
        self.prepare_copy(from, to)?.await
    }

    /// Prepares a copy, to choose a platform and the like before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if a name is not valid or lies outside of the
    /// organizations, or if the name of the copy has a digest.
    pub fn prepare_copy(&self, from: &str, to: &str) -> Result<Copy> {
        let (to, tag) = self.target(to)?;
        let backend = Arc::new(self.backend.clone());
        let copy = match self.named(from)? {
            Named::Outside(image) => Copy::from_registry(backend, image, &to),
            Named::Inside(path, reference) => {
                let reference = reference.unwrap_or_else(|| Tag::latest().into());
                Copy::new(backend, &path, reference, &to)
            }
        };
        let copy = copy.with_tag(tag);
        Ok(copy.with_connection(self.connection()))
    }

    /// Opens a client of one repository for the OCI distribution API, with credentials for `access` that it
    /// renews by itself. A folder of this machine is served for as long as the client exists.
    ///
    /// # Errors
    /// Those of [`credentials`](Self::credentials).
    pub async fn client(&self, name: &str, access: Access) -> Result<Client> {
        let path = self.path(name)?;
        let scope = Scope::repository(path.clone(), access);
        self.connection().client(&path, &scope).await
    }

    fn connection(&self) -> Connection {
        let connection = Connection::audited(&self.backend);
        match &self.shared.registry {
            #[cfg(feature = "local")]
            Some(OpenRegistry::Local(local)) => connection.with_local(local),
            _ => connection,
        }
    }

    /// The repository and the tag of an image that is yet to be.
    fn target(&self, image: &str) -> Result<(RepositoryPath, Tag)> {
        match self.image(image)? {
            (path, Reference::Tag(tag)) => Ok((path, tag)),
            (_, Reference::Digest(_)) => Err(Error::invalid(format!(
                "{image}: the target takes a tag, and the digest is the image's own"
            ))),
        }
    }

    /// What an image is now: its digest, and its size, media type and platforms. An image in another registry
    /// is named `docker://HOST/REPOSITORY:TAG`, and read with the credentials of docker and podman.
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
        if let Named::Outside(image) = self.named(image)? {
            return self.resolve_outside(&image, platform).await;
        }
        let (path, reference) = self.image(image)?;
        let mut resolve = Resolve::new(Arc::new(self.backend.clone()), &path, reference);
        if let Some(platform) = platform {
            resolve = resolve.with_platform(platform.clone());
        }
        resolve.with_connection(self.connection()).await
    }

    /// What an image of another registry is, or one of a repository of no organization, where AWS has it and
    /// the program wants it.
    async fn resolve_outside(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
    ) -> Result<ResolvedImage> {
        if *image.host() != self.backend.host() {
            let client = Client::foreign(image, ForeignCredentials::find(image).await?, false)?;
            let root = client.fetch_manifest(image.reference()).await?;
            return ResolvedImage::look_up(&client, root, platform).await;
        }
        #[cfg(feature = "ecr")]
        if let Some(OpenRegistry::Ecr(ecr)) = &self.shared.registry {
            if !self.shared.outside_repositories {
                return Err(Error::invalid(format!(
                    "{image} is of no organization, so that AWS alone decides who may read it; a \
                     program that takes this sets with_outside_repositories(true)"
                )));
            }
            let ecr = &ecr.acting_as(&self.principal().await?);
            let outside = Outside { ecr, repository: image.repository() };
            let root = outside.fetch_manifest(image.reference()).await?;
            return ResolvedImage::look_up(&outside, root, platform).await;
        }
        Err(self.not_outside(&image.to_string()))
    }
}
