//! Read access to images outside the scheme `<stage>/<organization>/<name>`.
//!
//! Older repositories of the same account belong to no organization, so no policy can decide about them.
//! AWS decides, by the caller's permissions.

use async_trait::async_trait;

use crate::backend::ecr::EcrBackend;
use crate::digester::Digester;
use crate::distribution::{Manifest, fetch_presigned};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, Reference, Tag};
use crate::transfer::{Blob, MAX_CONFIG_BYTES, Source};

/// A repository that belongs to no organization.
pub(super) struct OutsideRepository {
    pub(super) ecr: EcrBackend,
    pub(super) repository: String,
}

impl OutsideRepository {
    /// Fetches the manifest of a tag or digest.
    pub(super) async fn fetch_manifest(&self, reference: &Reference) -> Result<Manifest> {
        let (digest, media_type, text) =
            self.ecr.outside_manifest(&self.repository, reference).await?;
        let manifest = Manifest::with_algorithm(media_type, text, digest.algorithm());
        match manifest.digest == digest {
            true => Ok(manifest),
            false => Err(digest_mismatch(&digest)),
        }
    }
}

#[async_trait]
impl Source for OutsideRepository {
    fn name(&self) -> String {
        format!("{}/{}", self.ecr.ecr_host(), self.repository)
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        self.fetch_manifest(&descriptor.digest.clone().into()).await
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        let url = self.ecr.outside_blob(&self.repository, &config.digest).await?;
        let content = fetch_presigned(&url, MAX_CONFIG_BYTES).await?;
        match config.digest == Digester::digest(config.digest.algorithm(), &content) {
            true => Ok(content),
            false => Err(digest_mismatch(&config.digest)),
        }
    }

    async fn has(&self, _: &Descriptor) -> Result<bool> {
        Ok(true)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        Ok(Blob::unavailable(descriptor, self.name()))
    }

    async fn referrers(&self, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    async fn tagged(&self, _: &Tag) -> Result<Option<Manifest>> {
        Ok(None)
    }
}

fn digest_mismatch(digest: &Digest) -> Error {
    Error::failed(format!("the content of {digest} has another digest"))
}
