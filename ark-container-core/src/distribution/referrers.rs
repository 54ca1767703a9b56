//! Lists the referrers of a manifest: by the referrers API, or from the index at the referrers tag.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>

use futures_util::future::join;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::error::{DistributionError, RequestTarget};
use super::manifest::Manifest;
use super::response::pages;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, Reference, Tag, media_type};

/// The maximum number of pages of referrers.
const MAX_REFERRERS_PAGES: usize = 100;
/// The maximum total size of the pages of referrers, which are held in memory.
const MAX_REFERRERS_BYTES: usize = 8 * 1024 * 1024;
/// The maximum number of concurrent lookups of referrers.
const CONCURRENT_LOOKUPS: usize = 8;

impl Client {
    /// Lists the manifests whose subject is `digest`, of one artifact type or of all types.
    ///
    /// # Behavior
    /// - If the registry does not support the referrers API, the list is the index at the referrers tag.
    /// - The list is empty for a digest without referrers, and for a digest that does not exist.
    pub async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut referrers = match self.referrers_by_api(digest, artifact_type).await? {
            Some(listed) => listed,
            None => self.referrers_by_tag(digest).await?,
        };
        if let Some(artifact_type) = artifact_type {
            // The specification does not require a registry to filter.
            referrers.retain(|found| found.artifact_type.as_deref() == Some(artifact_type));
        }
        Ok(referrers)
    }

    /// Returns whether the repository has all these manifests and lists each as a referrer.
    ///
    /// Without the permission to list referrers, having the manifests is enough.
    pub(crate) async fn are_attached(&self, referrers: &[Manifest]) -> Result<bool> {
        let attached = referrers.iter().map(|referrer| self.is_attached(referrer));
        // A stream that creates the futures lazily would not be `Send`.
        let attached =
            stream::iter(attached.collect::<Vec<_>>()).buffer_unordered(CONCURRENT_LOOKUPS);
        attached.try_fold(true, |all, one| async move { Ok(all && one) }).await
    }

    async fn is_attached(&self, manifest: &Manifest) -> Result<bool> {
        let by_digest = Reference::Digest(manifest.digest.clone());
        let content = manifest.content()?;
        let Some(subject) = content.subject() else {
            return Ok(self.manifest(&by_digest).await?.is_some());
        };
        let listed = self.referrers(&subject.digest, None);
        let (stored, listed) = join(self.manifest(&by_digest), listed).await;
        let is_listed = match listed {
            Err(Error::PermissionDenied { .. }) => true,
            listed => listed?.iter().any(|listed| listed.digest == manifest.digest),
        };
        Ok(is_listed && stored?.is_some())
    }

    /// Adds a referrer that was put to the index at the referrers tag, unless the registry lists referrers itself.
    /// `is_listed` is the response of the registry, or `None` if it was lost.
    pub(super) async fn attach(
        &self,
        subject: &Digest,
        referrer: Descriptor,
        is_listed: Option<bool>,
    ) -> Result<()> {
        let is_listed = match is_listed {
            Some(is_listed) => is_listed,
            None => self.referrers_by_api(subject, None).await?.is_some(),
        };
        match is_listed {
            true => Ok(()),
            false => self.list_under_tag(subject, referrer).await,
        }
    }

    /// Adds a referrer to the index at the referrers tag of its subject.
    ///
    /// Another program that writes the same tag concurrently can remove the referrer: these registries do not support
    /// conditional requests.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests-with-subject>
    async fn list_under_tag(&self, subject: &Digest, referrer: Descriptor) -> Result<()> {
        // Two manifests of a push may have the same subject.
        let _lock = self.lock_referrers().await;
        let tag = Self::referrers_tag(subject)?;
        let reference = Reference::Tag(tag.clone());
        let written =
            |error| Error::failed(format!("cannot write the index at {tag}")).with_source(error);
        let mut index = match self.fetch_manifest(&reference).await {
            Ok(index) => {
                let listed = listed_under_tag(&tag, &index).map_err(|error| {
                    let problem = format!("tag {tag} has no index of referrers");
                    let message = format!("{} cannot be listed: {problem}", referrer.digest);
                    Error::failed(message).with_source(error)
                })?;
                if listed.iter().any(|listed| listed.digest == referrer.digest) {
                    return Ok(());
                }
                // Parsing as a JSON value keeps unknown fields.
                serde_json::from_slice(&index.bytes).map_err(written)?
            }
            Err(Error::NotFound { .. }) => {
                json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX})
            }
            Err(error) => return Err(error),
        };
        let referrer = serde_json::to_value(referrer).map_err(written)?;
        match &mut index["manifests"] {
            Value::Array(listed) => listed.push(referrer),
            empty => *empty = json!([referrer]),
        }
        let bytes = serde_json::to_vec(&index).map_err(written)?;
        self.put(&reference, &Manifest::new(media_type::OCI_INDEX, bytes)).await.map(drop)
    }

    /// Lists referrers by the referrers API, or returns `None` if the registry does not support it.
    pub(crate) async fn referrers_by_api(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>> {
        let mut url = self.url(&format!("referrers/{digest}"))?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let target = RequestTarget::Image(digest.clone().into());
        let pages =
            pages::<Page>(self.clone(), target, Ok(url), MAX_REFERRERS_PAGES, MAX_REFERRERS_BYTES);
        let listed = pages.map_ok(|page| stream::iter(page.manifests.unwrap_or_default()).map(Ok));
        match listed.try_flatten().try_collect().await {
            Ok(listed) => Ok(Some(listed)),
            Err(error) if is_unsupported(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the referrers in the index at the referrers tag.
    pub(crate) async fn referrers_by_tag(&self, digest: &Digest) -> Result<Vec<Descriptor>> {
        let tag = Self::referrers_tag(digest)?;
        match self.fetch_manifest(&Reference::Tag(tag.clone())).await {
            Ok(index) => listed_under_tag(&tag, &index),
            Err(Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// A page of the referrers API, in the form of an index without a digest.
#[derive(Deserialize)]
struct Page {
    manifests: Option<Vec<Descriptor>>,
}

/// Returns whether a registry does not support a request. Older registries respond with other statuses than 404.
fn is_unsupported(error: &Error) -> bool {
    let status = DistributionError::of(error).map(DistributionError::status);
    matches!(error, Error::NotFound { .. }) || matches!(status, Some(400 | 405 | 406 | 501))
}

/// The suffixes of the tags at which cosign stores signatures, attestations and SBOMs.
///
/// Source: <https://github.com/sigstore/cosign/blob/v2.4.1/specs/SIGNATURE_SPEC.md>
const SIGNATURE_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

impl Client {
    /// Returns the tags at which cosign stores the signatures, attestations and SBOMs of a manifest:
    /// `sha256-<hex>.sig`, `.att` and `.sbom`. A digest that is too long for a tag has no such tags.
    pub fn signature_tags(digest: &Digest) -> Vec<Tag> {
        let name = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        let tags = SIGNATURE_SUFFIXES.iter().map(|suffix| format!("{name}.{suffix}").parse());
        tags.filter_map(Result::ok).collect()
    }

    /// Returns the referrers tag of a manifest.
    pub(crate) fn referrers_tag(digest: &Digest) -> Result<Tag> {
        Ok(digest.referrers_tag().parse()?)
    }
}

/// Returns the referrers in the index at a referrers tag.
fn listed_under_tag(tag: &Tag, index: &Manifest) -> Result<Vec<Descriptor>> {
    if index.media_type != media_type::OCI_INDEX {
        let message = format!("tag {tag} refers to {:?}, not to an index", index.media_type);
        return Err(Error::failed(message));
    }
    Ok(index.content()?.into_listed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digester::Digester;
    use crate::model::Algorithm;

    #[test]
    fn referrers_tag_of_long_digest_is_truncated() {
        for (algorithm, name) in [(Algorithm::Sha256, "sha256"), (Algorithm::Sha512, "sha512")] {
            let digest = Digester::digest(algorithm, b"content");
            let tag = Client::referrers_tag(&digest).unwrap().to_string();
            assert_eq!(tag, format!("{name}-{}", &digest.hex()[..64]));
        }
    }

    #[test]
    fn signature_tags_contain_the_digest() {
        let digest = Digester::digest(Algorithm::Sha256, b"content");
        let tags: Vec<String> =
            Client::signature_tags(&digest).iter().map(Tag::to_string).collect();
        let expected = ["sig", "att", "sbom"].map(|end| format!("sha256-{}.{end}", digest.hex()));
        assert_eq!(tags, expected);
        assert!(Client::signature_tags(&Digester::digest(Algorithm::Sha512, b"")).is_empty());
    }
}
