//! Images: listed, described and deleted in repositories of organizations, and read in the others.

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
use super::web_identity::Rights;
use crate::backend::{Image, ImageState};
use crate::error::{BoxError, Error, ResourceKind, Result};
use crate::model::{Digest, Reference, RepositoryPath, Tag, media_type};

/// Maximum number of images in a page.
///
/// Source: `maxResults` of DescribeImages in the ECR service model.
const MAX_IMAGES_PER_PAGE: i32 = 1000;

/// The code of AWS's error for a missing image.
const IMAGE_NOT_FOUND: &str = "ImageNotFoundException";

/// The media types that are accepted, so that AWS converts no manifest.
const MEDIA_TYPES: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// The images of a repository, those in the archive too, page by page.
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
    let answer = request.max_results(MAX_IMAGES_PER_PAGE).set_next_token(token).send().await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(backend.call_on("list the images of", path).error(error)),
    };
    let found = answer.image_details.unwrap_or_default();
    let images: Result<_> = found.iter().map(|detail| image(backend, path, detail)).collect();
    Ok((images?, answer.next_token))
}

/// Requests images, those in the archive too: without a filter, AWS leaves them out.
async fn describe_images(
    backend: &EcrBackend,
    path: &RepositoryPath,
) -> Result<DescribeImagesFluentBuilder> {
    let filter = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    let request = backend.ecr().await?.describe_images().filter(filter);
    Ok(request.registry_id(backend.ecr_host().account()).repository_name(path.to_string()))
}

/// Says what keeps a repository from being deleted, such as `has 3 images, 2 of them archived`.
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
        detail.image_pushed_at().ok_or_else(|| unclear("no time of its push".into()))?;
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

/// Describes one image, with what its manifest tells.
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
    // By digest, since the tag may have moved meanwhile.
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

/// Deletes an image by digest with all its tags, or a tag and the image with its last tag. Returns the
/// digest of the image.
pub(super) async fn delete(
    backend: &EcrBackend,
    path: &RepositoryPath,
    reference: &Reference,
) -> Result<Option<Digest>> {
    let answer = backend
        .ecr_with(Rights::Administrator)
        .await?
        .batch_delete_image()
        .registry_id(backend.ecr_host().account())
        .repository_name(path.to_string())
        .image_ids(image_id(reference))
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(backend.call_on("delete an image of", path).error(error)),
    };
    if let Some(failure) = answer.failures().first() {
        return Err(image_failure(backend, "delete", path, reference, failure));
    }
    let digest = answer.image_ids().first().and_then(ImageIdentifier::image_digest);
    // The image has been deleted, so an invalid digest is no failure.
    Ok(digest.and_then(|digest| digest.parse().ok()))
}

/// Images of the account's other repositories, which belong to no organization.
#[cfg(feature = "push")]
impl EcrBackend {
    /// Reads the manifest of an image: its digest, its media type and its text. Only AWS decides whether
    /// the caller may read it.
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

    /// Returns a presigned URL of a blob, which is valid for a while.
    pub(crate) async fn outside_blob(&self, repository: &str, digest: &Digest) -> Result<String> {
        let request = self.ecr().await?.get_download_url_for_layer();
        let answer = request
            .registry_id(self.ecr_host().account())
            .repository_name(repository)
            .layer_digest(digest.to_string())
            .send()
            .await;
        let answer = answer.map_err(|error| match error.code() {
            Some("LayersNotFoundException" | "LayerInaccessibleException") => {
                let name = format!("{digest} in {}/{repository}", self.ecr_host());
                Error::not_found(ResourceKind::Blob, name)
            }
            _ => self.outside_error(repository, error),
        })?;
        answer.download_url.ok_or_else(|| self.invalid_image(repository))
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
    /// The error of an answer about an image that lacks or garbles a member.
    fn invalid_image(&self, repository: impl fmt::Display) -> Error {
        Error::failed(format!("AWS describes an image of {repository} in {self} invalidly"))
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

/// Why an image cannot be read that exists.
fn in_archive(backend: &EcrBackend, path: &RepositoryPath, image: &Image) -> String {
    if image.state == ImageState::Activating {
        return "it is being restored from the archive; try again in a while".to_owned();
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

/// The error of a batch call for the image that it failed for.
fn image_failure(
    backend: &EcrBackend,
    doing: &str,
    repository: impl fmt::Display,
    reference: &Reference,
    failure: &ImageFailure,
) -> Error {
    let image = image_name(backend, repository, reference);
    match failure.failure_code() {
        Some(ImageFailureCode::ImageNotFound) => Error::not_found(ResourceKind::Image, image),
        Some(ImageFailureCode::ImageReferencedByManifestList) => {
            let problem = "belongs to an index: delete that first";
            Error::conflict(ResourceKind::Image, image, problem)
        }
        code => {
            let word = code.map_or("an unknown failure", ImageFailureCode::as_str);
            let reason = failure.failure_reason().unwrap_or("no reason given");
            let message = format!("cannot {doing} the image {image}: {word}: {reason}");
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
