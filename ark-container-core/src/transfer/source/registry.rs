//! A repository as a source of images, by the client of its registry.

use async_trait::async_trait;

use crate::distribution::{Client, Manifest};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, Reference, Tag};
use crate::transfer::blob::Blob;
use crate::transfer::image::{MAX_CONFIG_BYTES, Source};

#[async_trait]
impl Source for Client {
    fn name(&self) -> String {
        Self::name(self)
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        self.fetch_manifest(&descriptor.digest.clone().into()).await?.described_by(descriptor)
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.fetch_blob_bytes(&config.digest, MAX_CONFIG_BYTES).await?.into())
    }

    async fn has(&self, content: &Descriptor) -> Result<bool> {
        match content.may_be_missing() {
            true => self.blob_exists(&content.digest).await,
            false => Ok(true),
        }
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        Ok(Blob::remote(descriptor, self))
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        match Self::referrers(self, subject, None).await {
            Err(error @ Error::PermissionDenied { .. }) => {
                tracing::warn!(%error, "the referrers of the image cannot be listed, and are not copied");
                Ok(Vec::new())
            }
            listed => listed,
        }
    }

    async fn tagged(&self, tag: &Tag) -> Result<Option<Manifest>> {
        let reference = Reference::Tag(tag.clone());
        match Self::manifest(self, &reference).await? {
            Some(_) => self.fetch_manifest(&reference).await.map(Some),
            None => Ok(None),
        }
    }
}
