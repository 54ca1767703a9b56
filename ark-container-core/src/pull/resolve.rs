//! [`ResolvedImage`]: what an image is, without fetching it.

use super::Pull;
use super::remote::{self, RemoteImage};
use crate::distribution::{Client, Renewals};
use crate::error::Result;
use crate::model::{Access, Digest, Platform, Scope};

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
        renewals.serve(self.look(&client), || self.backend.credentials(&scope)).await
    }

    async fn look(&self, client: &Client) -> Result<ResolvedImage> {
        let image = RemoteImage::fetch(client, &self.reference, self.platform.as_ref()).await?;
        let platforms = remote::platforms(client, &image.root).await?;
        let root = image.root;
        let manifests = image.children.iter().chain([&root]);
        let size = manifests.map(|manifest| manifest.bytes.len() as u64).sum::<u64>()
            + image.blobs.iter().map(|blob| blob.size).sum::<u64>();
        Ok(ResolvedImage {
            url: client.repository().image(root.digest.clone()).to_string(),
            digest: root.digest,
            media_type: root.media_type,
            size,
            platforms,
        })
    }
}
