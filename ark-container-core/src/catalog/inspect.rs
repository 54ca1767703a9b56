//! [`Inspect`]: reads the description of an image without downloading its layers.

use futures_util::future::BoxFuture;

use super::Catalog;
use super::name::ParsedName;
#[cfg(feature = "ecr")]
use super::outside::OutsideRepository;
#[cfg(feature = "ecr")]
use super::registry::OpenRegistry;
use crate::backend::RegistryBackend as _;
use crate::distribution::Manifest;
#[cfg(feature = "ecr")]
use crate::error::Error;
use crate::error::Result;
use crate::model::{ImageReference, Platform};
use crate::transfer::{Inspected, LoginScope, RegistryImage, ResolvedImage, Source};

impl Catalog {
    /// Returns the current digest of an image, with its size, media type and platforms. The name of an
    /// image in another registry is `docker://HOST/REPOSITORY:TAG`; the image is read with the credentials
    /// of docker and podman.
    ///
    /// No layer is downloaded. A tag may be moved to another image at any time. [`ResolvedImage::url`]
    /// refers to this image by its digest.
    ///
    /// # Errors
    /// See [`inspect`](Self::inspect).
    pub async fn resolve(&self, image: &str) -> Result<ResolvedImage> {
        let (source, root) = self.open_source(image).await?;
        ResolvedImage::read(&*source, root, None).await
    }

    /// Returns the same for one platform, such as [`Platform::of_this_machine`].
    ///
    /// # Errors
    /// As for [`resolve`](Self::resolve), and [`Error::InvalidInput`] if the image does not support the platform.
    pub async fn resolve_for(&self, image: &str, platform: &Platform) -> Result<ResolvedImage> {
        let (source, root) = self.open_source(image).await?;
        ResolvedImage::read(&*source, root, Some(platform)).await
    }

    /// Returns a future that inspects an image. The result contains the fields of [`resolve`](Self::resolve), the
    /// layers, the command that its containers run, and the referrers. No layer is downloaded.
    ///
    /// # Errors
    /// - [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid, or if the image does not
    ///   support the requested platform
    /// - [`Error::NotFound`] if the image does not exist
    /// - [`Error::Failed`] if a manifest or configuration is invalid
    /// - Errors of [`credentials`](Self::credentials) for pulling
    pub fn inspect(&self, image: impl Into<String>) -> Inspect {
        let (catalog, image) = (self.clone(), image.into());
        Inspect { catalog, image, platform: None, with_documents: false }
    }

    /// Opens the source of an image, and reads its manifest or index.
    async fn open_source(&self, image: &str) -> Result<(Box<dyn Source>, Manifest)> {
        let image = match self.named(image)? {
            ParsedName::Outside(image) if *image.host() == self.backend.host() => {
                return self.open_outside(&image).await;
            }
            named => RegistryImage::from(named),
        };
        let source = image.open(&self.connection(), LoginScope::Repository, false).await?;
        let root = source.fetch_manifest(image.reference()).await?;
        Ok((Box::new(source), root))
    }

    /// Opens a repository that belongs to no organization, if the registry is ECR and the program allows it.
    async fn open_outside(&self, image: &ImageReference) -> Result<(Box<dyn Source>, Manifest)> {
        #[cfg(feature = "ecr")]
        if let Some(OpenRegistry::Ecr(ecr)) = &self.shared.registry {
            if !self.shared.outside_repositories {
                return Err(Error::invalid(format!(
                    "{image} belongs to no organization; to read it with the permissions of AWS \
                     alone, set with_outside_repositories(true)"
                )));
            }
            let ecr = ecr.acting_as(&self.principal().await?);
            let outside = OutsideRepository { ecr, repository: image.repository().to_owned() };
            let root = outside.fetch_manifest(image.reference()).await?;
            return Ok((Box::new(outside), root));
        }
        Err(self.not_outside(&image.to_string()))
    }
}

/// An inspection of one image, by [`Catalog::inspect`]. Await it to run it.
#[derive(Debug, Clone)]
#[must_use = "an image is inspected when this is awaited"]
pub struct Inspect {
    catalog: Catalog,
    image: String,
    platform: Option<Platform>,
    with_documents: bool,
}

impl Inspect {
    /// Inspects the image for one platform of an index. The default is all platforms.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    /// Includes the text of manifests and configurations in the result.
    pub fn with_documents(self, with_documents: bool) -> Self {
        Self { with_documents, ..self }
    }

    async fn run(self) -> Result<Inspected> {
        let Self { catalog, image, platform, with_documents } = self;
        let (source, root) = catalog.open_source(&image).await?;
        Inspected::read(&*source, root, platform.as_ref(), with_documents).await
    }
}

impl IntoFuture for Inspect {
    type Output = Result<Inspected>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
