//! Images: listed, described and deleted in repositories of organizations, and read in other repositories.

use std::fmt;
use std::time::SystemTime;

use aws_sdk_ecr::error::ProvideErrorMetadata;
#[cfg(feature = "push")]
use aws_sdk_ecr::error::SdkError;
use aws_sdk_ecr::operation::batch_get_image::builders::BatchGetImageFluentBuilder;
use aws_sdk_ecr::operation::describe_images::builders::DescribeImagesFluentBuilder;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageFailure, ImageFailureCode, ImageIdentifier,
    ImageStatus, ImageStatusFilter,
};
#[cfg(feature = "push")]
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures_util::stream::BoxStream;

use super::backend::EcrBackend;
#[cfg(feature = "push")]
use super::errors::REPOSITORY_NOT_FOUND;
use super::pages::{Page, listing};
use super::web_identity::IamRole;
use crate::backend::{Image, ImageState};
use crate::error::{BoxError, Error, ResourceKind, Result};
use crate::model::{Digest, Reference, RepositoryPath, Tag, media_type};

/// The maximum number of images in a page.
///
/// Source: `maxResults` of DescribeImages in the ECR service model.
const MAX_PAGE_IMAGES: i32 = 1000;

/// AWS's error code for a missing image.
const IMAGE_NOT_FOUND: &str = "ImageNotFoundException";

/// The accepted media types, so that AWS does not convert a manifest.
const MEDIA_TYPES: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// Lists the images of a repository, including archived ones.
pub(super) fn list(backend: EcrBackend, path: RepositoryPath) -> BoxStream<'static, Result<Image>> {
    listing(
        format!("the list of images of {path}"),
        None,
        |image| &image.digest,
        move |token| {
            let (backend, path) = (backend.clone(), path.clone());
            async move { page(&backend, &path, token).await }
        },
    )
}

async fn page(
    backend: &EcrBackend,
    path: &RepositoryPath,
    token: Option<String>,
) -> Result<Page<Image>> {
    let request = describe_images(backend, path).await?;
    let response = request.max_results(MAX_PAGE_IMAGES).set_next_token(token).send().await;
    let response = match response {
        Ok(response) => response,
        Err(error) => return Err(backend.call_on("list the images of", path).error(error)),
    };
    let found = response.image_details.unwrap_or_default();
    let images: Result<_> = found.iter().map(|detail| image(backend, path, detail)).collect();
    Ok((images?, response.next_token))
}

/// Requests images, including archived ones, which AWS omits without this filter.
async fn describe_images(
    backend: &EcrBackend,
    path: &RepositoryPath,
) -> Result<DescribeImagesFluentBuilder> {
    let filter = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    let request = backend.ecr().await?.describe_images().filter(filter);
    Ok(request.registry_id(backend.ecr_host().account()).repository_name(path.to_string()))
}

/// Describes the images that prevent the deletion of a repository, such as `has 3 images, 2 of them archived`.
pub(super) async fn count(backend: &EcrBackend, path: &RepositoryPath) -> String {
    let counted = page(backend, path, None).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the images cannot be counted");
        Page::default()
    });
    let (images, token) = counted;
    let archived = images.iter().filter(|image| image.state != ImageState::Active).count();
    let more = if token.is_some() { "more than " } else { "" };
    match (images.len(), archived) {
        (0, _) => "has images".to_owned(),
        (1, 0) => format!("has {more}1 image"),
        (count, 0) => format!("has {more}{count} images"),
        (count, _) => format!("has {more}{count} images, {archived} of them archived"),
    }
}

fn image(backend: &EcrBackend, path: &RepositoryPath, detail: &ImageDetail) -> Result<Image> {
    let unclear = |source: BoxError| backend.invalid_image(path).with_source(source);
    let digest = detail.image_digest().unwrap_or_default().parse();
    let digest = digest.map_err(|error| unclear(Box::new(error)))?;
    let size = u64::try_from(detail.image_size_in_bytes().unwrap_or_default());
    let size = size.map_err(|error| unclear(error.into()))?;
    let pushed_at =
        detail.image_pushed_at().ok_or_else(|| unclear("the push time is missing".into()))?;
    let pushed_at = SystemTime::try_from(*pushed_at).map_err(|error| unclear(error.into()))?;
    let media_type = detail.image_manifest_media_type().unwrap_or_default();
    let mut image = Image::new(digest, media_type, size, pushed_at);
    for tag in detail.image_tags() {
        image.tags.push(Tag::of_ecr(tag).map_err(|error| unclear(Box::new(error)))?);
    }
    image.tags.sort();
    image.state = match detail.image_status() {
        Some(ImageStatus::Archived) => ImageState::Archived,
        Some(ImageStatus::Activating) => ImageState::Activating,
        _ => ImageState::Active,
    };
    image.artifact_type = detail.artifact_media_type().map(str::to_owned);
    Ok(image)
}

/// Describes one image with the contents of its manifest.
pub(super) async fn describe(
    backend: &EcrBackend,
    path: &RepositoryPath,
    reference: &Reference,
) -> Result<Image> {
    let call = backend.call_on("describe an image of", path);
    let request = describe_images(backend, path).await?;
    let described = match request.image_ids(image_id(reference)).send().await {
        Ok(described) => described,
        Err(error) if error.code() == Some(IMAGE_NOT_FOUND) => {
            return Err(missing_image(backend, path, reference));
        }
        Err(error) => return Err(call.error(error)),
    };
    let detail = described.image_details().first();
    let detail = detail.ok_or_else(|| missing_image(backend, path, reference))?;
    let mut image = image(backend, path, detail)?;
    if image.state != ImageState::Active {
        let cause = in_archive(backend, path, &image);
        return Err(missing_image(backend, path, reference).with_source(cause));
    }
    // By digest, because the tag may have moved since the previous request.
    let by_digest = Reference::Digest(image.digest.clone());
    let read = match read_manifest(backend, path, &by_digest).await?.send().await {
        Ok(read) => read,
        Err(error) => return Err(call.error(error)),
    };
    if let Some(failure) = read.failures().first() {
        return Err(image_failure(backend, "read", path, reference, failure));
    }
    let found = read.images().first();
    let manifest = found.and_then(|found| Some((found, found.image_manifest()?)));
    let (found, manifest) = manifest.ok_or_else(|| backend.invalid_image(path))?;
    let media_type = found.image_manifest_media_type().unwrap_or_default();
    image.set_manifest(media_type, manifest.as_bytes());
    Ok(image)
}

/// Deletes an image and all its tags by digest, or deletes a tag and, with the last tag, its image. Returns the digest
/// of the image.
pub(super) async fn delete(
    backend: &EcrBackend,
    path: &RepositoryPath,
    reference: &Reference,
) -> Result<Option<Digest>> {
    let response = backend
        .ecr_with(IamRole::Administrator)
        .await?
        .batch_delete_image()
        .registry_id(backend.ecr_host().account())
        .repository_name(path.to_string())
        .image_ids(image_id(reference))
        .send()
        .await;
    let response = match response {
        Ok(response) => response,
        Err(error) => return Err(backend.call_on("delete an image of", path).error(error)),
    };
    if let Some(failure) = response.failures().first() {
        return Err(image_failure(backend, "delete", path, reference, failure));
    }
    let digest = response.image_ids().first().and_then(ImageIdentifier::image_digest);
    // The deletion succeeded, so an invalid digest is not an error.
    Ok(digest.and_then(|digest| digest.parse().ok()))
}

/// Images in the repositories of the account that belong to no organization.
#[cfg(feature = "push")]
impl EcrBackend {
    /// Reads the manifest of an image, and returns its digest, media type and text. Only AWS authorizes the
    /// caller.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist.
    pub(crate) async fn outside_manifest(
        &self,
        repository: &str,
        reference: &Reference,
    ) -> Result<(Digest, String, String)> {
        let read = read_manifest(self, repository, reference).await?.send().await;
        let read = read.map_err(|error| self.outside_error(repository, error))?;
        if let Some(failure) = read.failures().first() {
            return Err(image_failure(self, "read", repository, reference, failure));
        }
        let image = read.images().first().ok_or_else(|| self.invalid_image(repository))?;
        let digest = image.image_id().and_then(ImageIdentifier::image_digest);
        let (Some(digest), Some(text)) = (digest, image.image_manifest()) else {
            return Err(self.invalid_image(repository));
        };
        let media_type = image.image_manifest_media_type().unwrap_or_default();
        Ok((digest.parse()?, media_type.to_owned(), text.to_owned()))
    }

    /// Returns a presigned URL of a blob, which is valid for a limited time.
    pub(crate) async fn outside_blob(&self, repository: &str, digest: &Digest) -> Result<String> {
        let request = self.ecr().await?.get_download_url_for_layer();
        let response = request
            .registry_id(self.ecr_host().account())
            .repository_name(repository)
            .layer_digest(digest.to_string())
            .send()
            .await;
        let response = response.map_err(|error| match error.code() {
            Some("LayersNotFoundException" | "LayerInaccessibleException") => {
                let name = format!("{digest} in {}/{repository}", self.ecr_host());
                Error::not_found(ResourceKind::Blob, name)
            }
            _ => self.outside_error(repository, error),
        })?;
        response.download_url.ok_or_else(|| self.invalid_image(repository))
    }

    fn outside_error<E>(&self, repository: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if error.code() == Some(REPOSITORY_NOT_FOUND) {
            let name = format!("{}/{repository}", self.ecr_host());
            return Error::not_found(ResourceKind::Repository, name);
        }
        self.call(&format!("read an image of {repository} in")).error(error)
    }
}

impl EcrBackend {
    /// Returns the error of an invalid response about an image.
    fn invalid_image(&self, repository: impl fmt::Display) -> Error {
        Error::failed(format!("AWS returned an invalid image of {repository} in {self}"))
    }
}

/// Requests the manifest of one image.
async fn read_manifest(
    backend: &EcrBackend,
    repository: impl fmt::Display,
    reference: &Reference,
) -> Result<BatchGetImageFluentBuilder> {
    let request = backend.ecr().await?.batch_get_image();
    Ok(request
        .registry_id(backend.ecr_host().account())
        .repository_name(repository.to_string())
        .image_ids(image_id(reference))
        .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).to_vec())))
}

fn image_id(reference: &Reference) -> ImageIdentifier {
    let id = ImageIdentifier::builder();
    match reference {
        Reference::Tag(tag) => id.image_tag(tag.as_str()),
        Reference::Digest(digest) => id.image_digest(digest.to_string()),
    }
    .build()
}

/// Returns the reason why an existing image cannot be read.
fn in_archive(backend: &EcrBackend, path: &RepositoryPath, image: &Image) -> String {
    if image.state == ImageState::Activating {
        return "it is being restored from the archive; try again later".to_owned();
    }
    let (host, digest) = (backend.ecr_host(), &image.digest);
    format!(
        "it is archived; restore it: aws ecr update-image-storage-class --region {} --registry-id {} \
         --repository-name {path} --image-id imageDigest={digest} --target-storage-class STANDARD",
        host.region(),
        host.account(),
    )
}

fn missing_image(
    backend: &EcrBackend,
    repository: impl fmt::Display,
    reference: &Reference,
) -> Error {
    Error::not_found(ResourceKind::Image, image_name(backend, repository, reference))
}

fn image_name(
    backend: &EcrBackend,
    repository: impl fmt::Display,
    reference: &Reference,
) -> String {
    format!("{}/{repository}{}{reference}", backend.ecr_host(), reference.separator())
}

/// Returns the error of one image in the response of a batch call.
fn image_failure(
    backend: &EcrBackend,
    operation: &str,
    repository: impl fmt::Display,
    reference: &Reference,
    failure: &ImageFailure,
) -> Error {
    let image = image_name(backend, repository, reference);
    match failure.failure_code() {
        Some(ImageFailureCode::ImageNotFound) => Error::not_found(ResourceKind::Image, image),
        Some(ImageFailureCode::ImageReferencedByManifestList) => {
            let problem = "belongs to an index: delete the index first";
            Error::conflict(ResourceKind::Image, image, problem)
        }
        code => {
            let word = code.map_or("an unknown failure", ImageFailureCode::as_str);
            let reason = failure.failure_reason().unwrap_or("no reason given");
            let message = format!("cannot {operation} the image {image}: {word}: {reason}");
            match code {
                Some(
                    ImageFailureCode::UpstreamTooManyRequests
                    | ImageFailureCode::UpstreamUnavailable,
                ) => Error::temporary(message),
                _ => Error::failed(message),
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "push")]
mod tests;
