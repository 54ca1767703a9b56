//! [`ResolvedImage`]: what an image is, without fetching it.

use super::Pull;
use super::remote::{self, ManifestSource, RemoteImage};
use crate::connection::TRANSFER_CREDENTIALS;
use crate::distribution::Renewals;
use crate::error::Result;
use crate::model::{Access, Digest, Platform, Reference, Scope};

/// What a tag or digest stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedImage {
    /// The image by digest, `<repository URL>@<digest>`: what one pins.
    pub url: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// In bytes: manifests, configurations and layers as they are stored, each once.
    pub size: u64,
    /// What it runs on; more than one for an index, none where nothing says.
    pub platforms: Vec<Platform>,
}

impl ResolvedImage {
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

impl Pull<'_> {
    /// What the image is, by its manifests. Nothing is written, and no layer fetched.
    ///
    /// # Errors
    /// Those of [`into_layout`](Self::into_layout), but for the disk's.
    pub async fn resolve(&self) -> Result<ResolvedImage> {
        let dialled = |endpoint| async move {
            let pull = Self { endpoint, ..self.clone() };
            pull.look_up().await
        };
        self.endpoint.reach(dialled).await
    }

    async fn look_up(&self) -> Result<ResolvedImage> {
        let scope = Scope::repository(self.path.clone(), Access::Pull);
        let client = self.connection().open(&self.path, &scope).await?;
        let (authenticate, renewals) = Renewals::new();
        let client = client.with_authenticate(authenticate);
        let looking = ResolvedImage::look_up(&client, &self.reference, self.platform.as_ref());
        renewals.serve(looking, || self.backend.credentials(&scope, &TRANSFER_CREDENTIALS)).await
    }
}
