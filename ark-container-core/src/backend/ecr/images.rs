//! Images: listed and deleted.

use std::time::SystemTime;

use aws_sdk_ecr::types::{ImageDetail, ImageFailureCode, ImageIdentifier};
use futures_util::stream::BoxStream;

use super::backend::EcrBackend;
use super::repositories::{Pages, listing};
use super::web_identity::Rights;
use crate::backend::Image;
use crate::error::{BoxError, Error, ResourceKind, Result};
use crate::model::{Reference, RepositoryPath, RepositoryUrl};

/// Maximum number of images in a page.
///
/// Source: `maxResults` of DescribeImages in the ECR service model.
const MAX_IMAGES_PER_PAGE: i32 = 1000;

/// The images of a repository, page by page.
pub(super) fn list(backend: EcrBackend, path: RepositoryPath) -> BoxStream<'static, Result<Image>> {
    listing(move |mut pages| {
        let (backend, path) = (backend.clone(), path.clone());
        async move {
            let images = page(&backend, &path, &mut pages).await?;
            Ok(Some((images, pages)))
        }
    })
}

async fn page(
    backend: &EcrBackend,
    path: &RepositoryPath,
    pages: &mut Pages,
) -> Result<Vec<Image>> {
    let answer = backend
        .ecr()
        .await?
        .describe_images()
        .repository_name(path.to_string())
        .max_results(MAX_IMAGES_PER_PAGE)
        .set_next_token(pages.token())
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(backend.call_on("list the images of", path).failed(error).await),
    };
    let found = answer.image_details.unwrap_or_default();
    backend.check_registry(found.first().and_then(|detail| detail.registry_id())).await?;
    pages.advance(answer.next_token, &format!("the list of images of {path}"))?;
    found.iter().map(|detail| image(backend, path, detail)).collect()
}

fn image(backend: &EcrBackend, path: &RepositoryPath, detail: &ImageDetail) -> Result<Image> {
    let unclear = |source: BoxError| {
        Error::failed(format!("what AWS says of an image of {path} in {backend} makes no sense"))
            .with_source(source)
    };
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
        image.tags.push(tag.parse().map_err(|error| unclear(Box::new(error)))?);
    }
    image.tags.sort();
    Ok(image)
}

/// Deletes an image by digest with all its tags, or a tag and the image with its last tag.
pub(super) async fn delete(
    backend: &EcrBackend,
    path: &RepositoryPath,
    reference: &Reference,
) -> Result<()> {
    let id = match reference {
        Reference::Tag(tag) => ImageIdentifier::builder().image_tag(tag.as_str()),
        Reference::Digest(digest) => ImageIdentifier::builder().image_digest(digest.to_string()),
    };
    let answer = backend
        .ecr_with(Rights::Administrator)
        .await?
        .batch_delete_image()
        .registry_id(backend.ecr_host().account())
        .repository_name(path.to_string())
        .image_ids(id.build())
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(backend.call_on("delete an image of", path).failed(error).await),
    };
    let Some(failure) = answer.failures().first() else { return Ok(()) };
    let url = RepositoryUrl::new(backend.ecr_host().registry_host().clone(), path.clone());
    let image = url.image(reference.clone());
    match failure.failure_code() {
        Some(ImageFailureCode::ImageNotFound) => Err(Error::not_found(ResourceKind::Image, image)),
        Some(ImageFailureCode::ImageReferencedByManifestList) => Err(Error::conflict(
            ResourceKind::Image,
            image,
            "belongs to an index: delete that first",
        )),
        code => {
            let code = code.map_or("an unknown failure", ImageFailureCode::as_str);
            let reason = failure.failure_reason().unwrap_or("no reason given");
            let message = format!("cannot delete {image}: {code}: {reason}");
            Err(Error::failed(message))
        }
    }
}

#[cfg(test)]
mod tests;
