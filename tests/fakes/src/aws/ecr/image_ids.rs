//! How images are named in requests, and why one is not found.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{invalid, unsatisfied};
use crate::aws::error::ApiError;
use ark_container_core::backend::Image;

/// Source: `ImageIdentifierList` in the service model: 1 to 100.
const MOST_IDS: usize = 100;

/// Source: `ImageIdentifier` in the service model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImageId {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_tag: Option<String>,
}

/// Why an image is not among the answers.
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

/// Checks how many are named.
pub(super) fn check_count(ids: &[ImageId]) -> Result<(), ApiError> {
    match ids.len() {
        1..=MOST_IDS => Ok(()),
        0 => Err(invalid("Invalid parameter at 'imageIds': at least one image must be named")),
        _ => Err(unsatisfied("imageIds", "Member must have length less than or equal to 100")),
    }
}

/// The image of a name.
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
    fn images_are_found_by_digest_by_tag_and_by_both() {
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
