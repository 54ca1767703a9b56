//! `DescribeImages`, `ListImages`, `BatchGetImage`, `BatchDeleteImage`, `UpdateImageStorageClass`.

use std::collections::{BTreeMap, BTreeSet};

use ark_container_core::Error;
use ark_container_core::backend::local::ecr_emulation;
use ark_container_core::backend::{Image, RegistryBackend};
use ark_container_core::model::{Reference, RepositoryPath};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{allowed, invalid, missing, paging, registry_id, unsatisfied};
use crate::aws::protocol::ApiError;
use crate::aws::registries::{Repository, behind};
use crate::aws::server::Exchange;
use crate::aws::world::epoch_seconds;

/// Source: `DescribeImagesRequest` in the service model; required: `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescribeRequest {
    registry_id: Option<String>,
    repository_name: String,
    image_ids: Option<Vec<ImageId>>,
    next_token: Option<String>,
    max_results: Option<i64>,
    filter: Option<Filter>,
}

/// Source: `DescribeImagesFilter` in the service model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    tag_status: Option<TagStatus>,
    image_status: Option<StatusFilter>,
}

/// Source: `ImageStatusFilter` in the service model. The fake restores images immediately, so that no image is
/// activating.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum StatusFilter {
    Active,
    Archived,
    Activating,
    Any,
}

/// Source: `TagStatus` in the service model.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum TagStatus {
    Tagged,
    Untagged,
    Any,
}

impl Filter {
    /// Returns whether an image matches. Without a status, only active images match.
    fn takes(filter: Option<&Self>, tagged: bool, archived: bool) -> bool {
        let status = filter.and_then(|filter| filter.image_status).unwrap_or(StatusFilter::Active);
        let own = if archived { StatusFilter::Archived } else { StatusFilter::Active };
        if status != own && status != StatusFilter::Any {
            return false;
        }
        match filter.and_then(|filter| filter.tag_status).unwrap_or(TagStatus::Any) {
            TagStatus::Tagged => tagged,
            TagStatus::Untagged => !tagged,
            TagStatus::Any => true,
        }
    }
}

/// Returns `{ imageDetails, nextToken }`.
pub(super) async fn describe(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: DescribeRequest = exchange.request()?;
    let contents = contents(exchange, request.registry_id, request.repository_name).await?;
    let Contents { account, name, images, .. } = &contents;
    let archived = |image: &Image| contents.is_archived(exchange, image);
    let takes = |image: &Image| {
        Filter::takes(request.filter.as_ref(), !contents.tags(image).is_empty(), archived(image))
    };
    let detail = |image: &Image| contents.detail(image, archived(image));
    let Some(ids) = request.image_ids else {
        let paging = paging(exchange, request.max_results, request.next_token)?;
        let by_digest: BTreeMap<String, &Image> = images
            .iter()
            .filter(|image| takes(image))
            .map(|image| (image.digest.to_string(), image))
            .collect();
        let behind = behind(&by_digest, paging.after());
        let (page, next) = paging.page(exchange, behind, |_, image| detail(image));
        return Ok(with_next(json!({ "imageDetails": page }), next));
    };
    // Source: `maxResults` in the service model.
    if request.max_results.is_some() || request.next_token.is_some() {
        return Err(invalid("maxResults and nextToken cannot be used with imageIds"));
    }
    check_count(&ids)?;
    let mut details = Vec::with_capacity(ids.len());
    for id in &ids {
        let image = find(images, id).ok().filter(|image| takes(image)).ok_or_else(|| {
            let id = json!(id);
            let message = format!(
                "The image with imageId {id} does not exist within the repository with name \
                 '{name}' in the registry with id '{account}'"
            );
            ApiError::new("ImageNotFoundException", message)
        })?;
        details.push(detail(image));
    }
    Ok(json!({ "imageDetails": details }))
}

/// Source: `UpdateImageStorageClassRequest` in the service model; required: all but `registryId`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StorageClassRequest {
    registry_id: Option<String>,
    repository_name: String,
    image_id: ImageId,
    target_storage_class: StorageClass,
}

/// Source: `TargetStorageClass` in the service model.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum StorageClass {
    Standard,
    Archive,
}

/// Returns `{ registryId, repositoryName, imageId, imageStatus }`.
pub(super) async fn update_storage_class(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: StorageClassRequest = exchange.request()?;
    let Contents { account, name, images, path, .. } =
        contents(exchange, request.registry_id, request.repository_name).await?;
    let image = find(&images, &request.image_id);
    let image = image.map_err(|failure| ApiError::new("ImageNotFoundException", failure.reason))?;
    let archives = request.target_storage_class == StorageClass::Archive;
    if let Some(path) = &path {
        exchange.world.dialect.set_archived(path, &image.digest, archives);
    }
    Ok(json!({
        "registryId": account,
        "repositoryName": name,
        "imageId": request.image_id,
        "imageStatus": if archives { "ARCHIVED" } else { "ACTIVE" },
    }))
}

/// Source: `ListImagesRequest` in the service model; required: `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListRequest {
    registry_id: Option<String>,
    repository_name: String,
    next_token: Option<String>,
    max_results: Option<i64>,
    filter: Option<Filter>,
}

/// Returns `{ imageIds, nextToken }`, with an ID for each tag and for each untagged image.
pub(super) async fn list(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: ListRequest = exchange.request()?;
    let contents = contents(exchange, request.registry_id, request.repository_name).await?;
    let paging = paging(exchange, request.max_results, request.next_token)?;
    let mut by_text = BTreeMap::new();
    for image in &contents.images {
        let archived = contents.is_archived(exchange, image);
        let ids = contents.ids(image).into_iter();
        let ids = ids
            .filter(|id| Filter::takes(request.filter.as_ref(), id.image_tag.is_some(), archived));
        by_text.extend(ids.map(|id| (json!(id).to_string(), id)));
    }
    let behind = behind(&by_text, paging.after());
    let (page, next) = paging.page(exchange, behind, |_, id| json!(id));
    Ok(with_next(json!({ "imageIds": page }), next))
}

/// Source: `BatchGetImageRequest` in the service model; required: `repositoryName`, `imageIds`. The fake ignores
/// `acceptedMediaTypes` and returns manifests as they were pushed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GetRequest {
    registry_id: Option<String>,
    repository_name: String,
    image_ids: Vec<ImageId>,
    #[serde(default, rename = "acceptedMediaTypes")]
    _accepted_media_types: Vec<String>,
}

/// Returns `{ images: [{ registryId, repositoryName, imageId, imageManifest,
/// imageManifestMediaType }], failures }`.
pub(super) async fn get(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: GetRequest = exchange.request()?;
    let contents = contents(exchange, request.registry_id, request.repository_name).await?;
    let Contents { account, name, images, path, .. } = &contents;
    check_count(&request.image_ids)?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for id in &request.image_ids {
        let image =
            find(images, id).and_then(|image| match contents.is_archived(exchange, image) {
                true => Err(Failure::new("ImageNotFound", "Requested image not found")),
                false => Ok((image, path.clone())),
            });
        let (image, path) = match image {
            Ok((image, Some(path))) => (image, path),
            // Only a repository with a path has images.
            Ok((_, None)) => continue,
            Err(failure) => {
                failures.push(failure.of(id));
                continue;
            }
        };
        let store = exchange.world.registries.store.clone();
        let digest = image.digest.clone();
        let read = move || ecr_emulation::read_manifest(&store, &path, &digest);
        let internal = |error: &dyn std::fmt::Display| ApiError::internal(exchange.service, error);
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| internal(&error))?;
        let (media_type, manifest) = read.map_err(|error| internal(&error))?;
        let image_id = ImageId {
            image_digest: Some(image.digest.to_string()),
            image_tag: id.image_tag.clone(),
        };
        found.push(json!({
            "registryId": account,
            "repositoryName": name,
            "imageId": image_id,
            "imageManifest": String::from_utf8_lossy(&manifest),
            "imageManifestMediaType": media_type,
        }));
    }
    Ok(json!({ "images": found, "failures": failures }))
}

/// Source: `BatchDeleteImageRequest` in the service model; required: `repositoryName`, `imageIds`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteRequest {
    registry_id: Option<String>,
    repository_name: String,
    image_ids: Vec<ImageId>,
}

/// Returns `{ imageIds, failures }`. An ID with a tag deletes the tag. An image is deleted with its last tag.
pub(super) async fn delete(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: DeleteRequest = exchange.request()?;
    let contents = contents(exchange, request.registry_id, request.repository_name).await?;
    let Contents { images, path, .. } = &contents;
    check_count(&request.image_ids)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in &request.image_ids {
        let (image, path) = match (find(images, id), path) {
            (Ok(image), Some(path)) => (image, path),
            (Ok(_), None) => continue,
            (Err(failure), _) => {
                failures.push(failure.of(id));
                continue;
            }
        };
        let tag = id.image_tag.as_ref().and_then(|tag| tag.parse().ok());
        let reference = tag.map_or(Reference::Digest(image.digest.clone()), Reference::Tag);
        let names = match &id.image_tag {
            Some(_) => vec![ImageId { image_digest: Some(image.digest.to_string()), ..id.clone() }],
            None => contents.ids(image),
        };
        match exchange.world.registries.store.delete_image(path, &reference).await {
            Ok(_) => deleted.extend(names),
            // The request names the image twice.
            Err(Error::NotFound { .. }) => {
                failures.push(Failure::new("ImageNotFound", "Requested image not found").of(id));
            }
            Err(Error::Conflict { problem, .. }) => {
                let reason = format!("Requested image referenced by manifest list: it {problem}");
                failures.push(Failure::new("ImageReferencedByManifestList", reason).of(id));
            }
            Err(error) => return Err(ApiError::internal(exchange.service, error)),
        }
    }
    Ok(json!({ "imageIds": deleted, "failures": failures }))
}

/// The content of a repository that the caller may read.
struct Contents {
    account: String,
    name: String,
    path: Option<RepositoryPath>,
    images: Vec<Image>,
    long_tags: BTreeMap<String, BTreeSet<String>>,
}

impl Contents {
    fn is_archived(&self, exchange: &Exchange<'_>, image: &Image) -> bool {
        let dialect = &exchange.world.dialect;
        self.path.as_ref().is_some_and(|path| dialect.is_archived(path, &image.digest))
    }

    fn tags(&self, image: &Image) -> Vec<String> {
        let long = self.long_tags.get(&image.digest.to_string()).into_iter().flatten();
        image.tags.iter().map(ToString::to_string).chain(long.cloned()).collect()
    }

    /// Returns all IDs of an image.
    fn ids(&self, image: &Image) -> Vec<ImageId> {
        let digest = Some(image.digest.to_string());
        let tags = self.tags(image);
        if tags.is_empty() {
            return vec![ImageId { image_digest: digest, image_tag: None }];
        }
        let with_tag = |tag| ImageId { image_digest: digest.clone(), image_tag: Some(tag) };
        tags.into_iter().map(with_tag).collect()
    }

    /// Source: `ImageDetail` in the service model. The members about scans and pulls are absent, as for an image that
    /// was never scanned or pulled.
    fn detail(&self, image: &Image, archived: bool) -> Value {
        let mut detail = json!({
            "registryId": self.account,
            "repositoryName": self.name,
            "imageDigest": image.digest.to_string(),
            "imageSizeInBytes": image.size,
            "imagePushedAt": epoch_seconds(image.pushed_at),
            "imageManifestMediaType": image.media_type,
            "imageStatus": if archived { "ARCHIVED" } else { "ACTIVE" },
        });
        let tags = self.tags(image);
        if !tags.is_empty() {
            detail["imageTags"] = json!(tags);
        }
        detail
    }
}

async fn contents(
    exchange: &mut Exchange<'_>,
    registry_id_asked: Option<String>,
    name: String,
) -> Result<Contents, ApiError> {
    let account = registry_id(exchange, registry_id_asked)?;
    let Repository { path, long_tags, .. } = allowed(exchange, &account, &name, None)?;
    let images = match &path {
        None => Vec::new(),
        Some(path) => {
            let images = exchange.world.registries.store.list_images(path).try_collect().await;
            images.map_err(|error| match error {
                Error::NotFound { .. } => missing(&account, &name),
                error => ApiError::internal(exchange.service, error),
            })?
        }
    };
    Ok(Contents { account, name, path, images, long_tags })
}

fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    answer
}

/// Source: `ImageIdentifierList` in the service model: 1 to 100.
const MAX_IDS: usize = 100;

/// Source: `ImageIdentifier` in the service model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImageId {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_tag: Option<String>,
}

/// The reason why an image is not in the response.
///
/// Source: `ImageFailure` and `ImageFailureCode` in the service model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: &'static str,
    reason: String,
}

impl Failure {
    pub(super) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(super) fn of(&self, id: &ImageId) -> Value {
        json!({ "imageId": id, "failureCode": self.code, "failureReason": self.reason })
    }
}

/// Checks the number of image IDs.
pub(super) fn check_count(ids: &[ImageId]) -> Result<(), ApiError> {
    match ids.len() {
        1..=MAX_IDS => Ok(()),
        0 => Err(invalid("Invalid parameter at 'imageIds': at least one image must be named")),
        _ => Err(unsatisfied("imageIds", "Member must have length less than or equal to 100")),
    }
}

/// Returns the image with an ID.
pub(super) fn find<'i>(images: &'i [Image], id: &ImageId) -> Result<&'i Image, Failure> {
    let missing = || Failure::new("ImageNotFound", "Requested image not found");
    let has_tag = |image: &&Image, tag: &str| image.tags.iter().any(|known| known.as_str() == tag);
    match (&id.image_digest, &id.image_tag) {
        (None, None) => Err(Failure::new(
            "MissingDigestAndTag",
            "Invalid request parameters: both tag and digest cannot be null",
        )),
        (Some(digest), tag) => {
            if digest.parse::<ark_container_core::model::Digest>().is_err() {
                let reason = format!("Invalid request parameters: image digest '{digest}'");
                return Err(Failure::new("InvalidImageDigest", reason));
            }
            let mut images = images.iter();
            let image = images.find(|image| image.digest.to_string() == *digest);
            let image = image.ok_or_else(missing)?;
            match tag {
                Some(tag) if !has_tag(&image, tag) => Err(Failure::new(
                    "ImageTagDoesNotMatchDigest",
                    "Requested image tag does not match digest",
                )),
                _ => Ok(image),
            }
        }
        (None, Some(tag)) => images.iter().find(|image| has_tag(image, tag)).ok_or_else(missing),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn failure(digest: Option<&str>, tag: Option<&str>) -> Option<&'static str> {
        let hex = "ab".repeat(32);
        let digest_of = format!("sha256:{hex}").parse().unwrap();
        let mut image = Image::new(digest_of, "type", 1, SystemTime::UNIX_EPOCH);
        image.tags.push("v1".parse().unwrap());
        let digest = digest.map(|digest| digest.replace("HEX", &hex));
        let id = ImageId { image_digest: digest, image_tag: tag.map(str::to_owned) };
        find(&[image], &id).err().map(|failure| failure.code)
    }

    #[test]
    fn images_are_found_by_digest_and_tag() {
        assert_eq!(failure(Some("sha256:HEX"), None), None);
        assert_eq!(failure(None, Some("v1")), None);
        assert_eq!(failure(Some("sha256:HEX"), Some("v1")), None);
        assert_eq!(failure(Some("sha256:HEX"), Some("v2")), Some("ImageTagDoesNotMatchDigest"));
        assert_eq!(failure(None, Some("v2")), Some("ImageNotFound"));
        assert_eq!(
            failure(Some(&format!("sha256:{}", "0".repeat(64))), None),
            Some("ImageNotFound")
        );
        assert_eq!(failure(Some("sha256:1"), None), Some("InvalidImageDigest"));
        assert_eq!(failure(None, None), Some("MissingDigestAndTag"));
    }
}
