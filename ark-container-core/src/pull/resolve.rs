//! [`Resolve`]: what an image is, without fetching it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::remote::{self, ManifestSource, RemoteImage};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, connection_options};
use crate::error::Result;
use crate::model::{Access, Digest, Platform, Reference, RepositoryPath, Scope};

/// A look at the manifests of one image, without fetching a layer. Awaiting it runs it.
///
/// # Errors
/// Those of [`Pull`](super::Pull), but for the disk's.
#[derive(Debug, Clone)]
#[must_use = "an image is resolved when this is awaited"]
pub struct Resolve {
    connection: Connection,
    path: RepositoryPath,
    reference: Reference,
    platform: Option<Platform>,
}

connection_options!(Resolve);

impl Resolve {
    /// Resolves the image that `reference` names in the repository at `path`, with all its platforms.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        path: &RepositoryPath,
        reference: Reference,
    ) -> Self {
        let connection = Connection::new(backend);
        Self { connection, path: path.clone(), reference, platform: None }
    }

    /// Resolves the image for one platform in an index.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    async fn run(self) -> Result<ResolvedImage> {
        let Self { connection, path, reference, platform } = self;
        let resolve = async |connection: Connection| {
            let scope = Scope::repository(path.clone(), Access::Pull);
            let client = connection.client(&path, &scope).await?;
            ResolvedImage::look_up(&client, &reference, platform.as_ref()).await
        };
        connection.serve_while(resolve).await
    }
}

impl IntoFuture for Resolve {
    type Output = Result<ResolvedImage>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What a tag or digest stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResolvedImage {
    /// The image by digest, `<repository URL>@<digest>`: what one pins. It is no
    /// [`ImageUrl`](crate::model::ImageUrl) since the repository may belong to no organization.
    pub url: String,
    digest: Digest,
    /// The media type of the manifest or index.
    pub media_type: String,
    /// In bytes: manifests, configurations and layers as they are stored, each once.
    pub size: u64,
    /// What it runs on; more than one for an index, none where nothing says.
    pub platforms: Vec<Platform>,
}

impl ResolvedImage {
    /// The digest of the image's manifest or index.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Looks at the manifests of the image that `reference` names, or of that for `platform` in it.
    pub(crate) async fn look_up(
        source: &impl ManifestSource,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let image = RemoteImage::fetch(source, reference, platform).await?;
        let platforms = remote::platforms(source, &image.root).await?;
        let RemoteImage { root, children, blobs, .. } = image;
        let manifests = children.iter().chain([&root]).map(|manifest| manifest.bytes.len() as u64);
        Ok(Self {
            size: manifests.chain(blobs.iter().map(|blob| blob.size)).sum(),
            url: format!("{}@{}", source.repository(), root.digest),
            digest: root.digest,
            media_type: root.media_type,
            platforms,
        })
    }
}
