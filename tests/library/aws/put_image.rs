//! [`ApiImages`]: puts images by ECR's API, where an emulator has no registry.

use ark_container_core::BoxError;
use ark_container_core::model::{Reference, RepositoryPath};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::PutImage;
use async_trait::async_trait;
use aws_sdk_ecr::Client;

/// Puts manifests, and no blobs: the emulator looks at none.
pub(super) struct ApiImages(pub(super) Client);

#[async_trait]
impl PutImage for ApiImages {
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        let manifest = std::str::from_utf8(image.manifest())?;
        let put = self.0.put_image().repository_name(path.to_string()).image_manifest(manifest);
        let put = put.image_manifest_media_type(image.media_type());
        // moto makes digests up where it is told none.
        let put = put.image_digest(image.digest().to_string());
        let put = match reference {
            Reference::Tag(tag) => put.image_tag(tag.as_str()),
            Reference::Digest(_) => put,
        };
        put.send().await?;
        Ok(())
    }
}
