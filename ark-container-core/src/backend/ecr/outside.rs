//! Images in the account's other repositories, which are of no organization: read, by AWS's own API.

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{ImageFailure, ImageFailureCode, ImageIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::backend::EcrBackend;
use super::errors::REPOSITORY_NOT_FOUND;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Digest, Reference, RepositoryName, media_type};

/// What clients say that they understand, so that AWS translates nothing.
const MEDIA_TYPES: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// A manifest as AWS keeps it: what it is called, its media type, and its text.
pub(crate) type OutsideManifest = (Digest, String, String);

impl EcrBackend {
    /// The manifest of an image. Nothing but AWS decides whether the caller may have it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist.
    pub(crate) async fn outside_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<OutsideManifest> {
        let request = self.ecr().await?.batch_get_image();
        let answer = request
            .registry_id(self.ecr_host().account())
            .repository_name(repository.as_str())
            .image_ids(identifier(reference))
            .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).to_vec()))
            .send()
            .await;
        let answer = answer.map_err(|error| self.outside_error(repository, error))?;
        if let Some(failure) = answer.failures().first() {
            return Err(self.outside_failure(repository, reference, failure));
        }
        let image = answer.images().first().ok_or_else(|| self.no_sense(repository))?;
        let digest = image.image_id().and_then(ImageIdentifier::image_digest);
        let (Some(digest), Some(text)) = (digest, image.image_manifest()) else {
            return Err(self.no_sense(repository));
        };
        let media_type = image.image_manifest_media_type().unwrap_or_default();
        Ok((digest.parse()?, media_type.to_owned(), text.to_owned()))
    }

    /// Where the content of a blob is to be had for a while, without further proof.
    pub(crate) async fn outside_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<String> {
        let request = self.ecr().await?.get_download_url_for_layer();
        let answer = request
            .registry_id(self.ecr_host().account())
            .repository_name(repository.as_str())
            .layer_digest(digest.to_string())
            .send()
            .await;
        let answer = answer.map_err(|error| self.outside_error(repository, error))?;
        answer.download_url.ok_or_else(|| self.no_sense(repository))
    }

    fn outside_error<E>(
        &self,
        repository: &RepositoryName,
        error: SdkError<E, HttpResponse>,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if error.code() == Some(REPOSITORY_NOT_FOUND) {
            let name = format!("{}/{repository}", self.ecr_host());
            return Error::not_found(ResourceKind::Repository, name);
        }
        self.call(&format!("read an image of {repository} in")).error(error)
    }

    fn outside_failure(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        failure: &ImageFailure,
    ) -> Error {
        let separator = reference.separator();
        let image = format!("{}/{repository}{separator}{reference}", self.ecr_host());
        match failure.failure_code() {
            Some(ImageFailureCode::ImageNotFound) => Error::not_found(ResourceKind::Image, image),
            code => {
                let code = code.map_or("an unknown failure", ImageFailureCode::as_str);
                let reason = failure.failure_reason().unwrap_or("no reason given");
                let message = format!("cannot read the image {image}: {code}: {reason}");
                Error::failed(message)
            }
        }
    }

    fn no_sense(&self, repository: &RepositoryName) -> Error {
        let message = format!("what AWS says of an image of {repository} in {self} makes no sense");
        Error::failed(message)
    }
}

fn identifier(reference: &Reference) -> ImageIdentifier {
    let id = ImageIdentifier::builder();
    match reference {
        Reference::Tag(tag) => id.image_tag(tag.as_str()),
        Reference::Digest(digest) => id.image_digest(digest.to_string()),
    }
    .build()
}

#[cfg(test)]
mod tests;
