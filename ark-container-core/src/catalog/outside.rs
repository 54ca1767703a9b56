//! Images outside of the scheme `<stage>/<organization>/<name>`: what they are, and no more.
//!
//! Older repositories of the same account are of no organization, so that no policy can decide about
//! them. AWS does, by the caller's own rights.

use async_trait::async_trait;

use crate::backend::ecr::EcrBackend;
use crate::digester::Digester;
use crate::distribution::{Manifest, fetch_presigned};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, Reference};
use crate::transfer::{MAX_CONFIG_BYTES, ManifestSource};

/// A repository of no organization.
pub(super) struct Outside<'a> {
    pub(super) ecr: &'a EcrBackend,
    pub(super) repository: &'a str,
}

#[async_trait]
impl ManifestSource for Outside<'_> {
    fn repository(&self) -> String {
        format!("{}/{}", self.ecr.ecr_host(), self.repository)
    }

    async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        let (digest, media_type, text) =
            self.ecr.outside_manifest(self.repository, reference).await?;
        let manifest = Manifest::with_algorithm(media_type, text, digest.algorithm());
        match manifest.digest == digest {
            true => Ok(manifest),
            false => Err(something_else(&digest)),
        }
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        let url = self.ecr.outside_blob(self.repository, &config.digest).await?;
        let content = fetch_presigned(&url, MAX_CONFIG_BYTES).await?;
        match config.digest == Digester::digest(config.digest.algorithm(), &content) {
            true => Ok(content),
            false => Err(something_else(&config.digest)),
        }
    }
}

fn something_else(digest: &Digest) -> Error {
    Error::failed(format!("what came for {digest} is something else"))
}
