//! [`Resolve`]: finds out what a tag stands for, without fetching the image.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Serialize, Serializer};

use super::blob::Blob;
use super::image::{Image, Source};
use super::platforms::{self, PlatformChoice};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, connection_options};
use crate::distribution::Manifest;
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
            let root = client.fetch_manifest(&reference).await?;
            ResolvedImage::look_up(&client, root, platform.as_ref()).await
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

/// The image at a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResolvedImage {
    /// The image by digest, `<repository URL>@<digest>`: what one pins. It is no
    /// [`ImageUrl`](crate::model::ImageUrl) since the repository may belong to no organization.
    pub url: String,
    digest: Digest,
    /// The media type of the manifest or index.
    pub media_type: String,
    /// The bytes of manifests, configurations and layers as they are stored, each once.
    pub size: u64,
    /// The platforms that it runs on: several for an index, none where nothing says. JSON has their names.
    #[serde(serialize_with = "as_names")]
    pub platforms: Vec<Platform>,
}

fn as_names<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(Platform::to_string))
}

impl ResolvedImage {
    /// The digest of the image's manifest or index.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Resolves the image at `root`, or the one for `platform` in it, by its manifests.
    pub(crate) async fn look_up(
        source: &dyn Source,
        root: Manifest,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let choice = platform.cloned().map_or(PlatformChoice::AsIs, PlatformChoice::One);
        let image = Image::read(source, root, &choice).await?;
        let root = image.root();
        let platforms = platforms::platforms(source, root).await?;
        let manifests = image.children().iter().chain([root]);
        let manifests = manifests.map(|manifest| manifest.bytes.len() as u64);
        Ok(Self {
            size: manifests.chain(image.blobs().iter().map(Blob::size)).sum(),
            url: format!("{}@{}", source.name(), root.digest),
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
            platforms,
        })
    }
}
