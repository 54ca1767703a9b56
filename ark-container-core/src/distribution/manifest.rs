//! [`Manifest`]: a manifest or index. Fetches and puts manifests, and publishes the manifests of an image.

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::client::Client;
use super::client::Request;
use super::error::RequestTarget;
use super::response::BoundedResponse;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{
    Algorithm, Descriptor, Digest, ImageManifest, Index, ManifestContent, Platform, Reference, Tag,
    media_type,
};

/// A manifest or index: its unchanged bytes, with their media type and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The digest.
    pub digest: Digest,
    /// The media type, from the header of the registry or from a descriptor.
    pub media_type: String,
    /// The unchanged JSON.
    pub bytes: Bytes,
}

impl Manifest {
    /// The maximum size that registries accept, in bytes.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>
    pub const MAX_LEN: usize = 4 * 1024 * 1024;

    /// Returns a manifest with its SHA-256 digest.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::with_algorithm(media_type, bytes, Algorithm::Sha256)
    }

    /// Returns a manifest with its digest by the given algorithm.
    pub fn with_algorithm(
        media_type: impl Into<String>,
        bytes: impl Into<Bytes>,
        algorithm: Algorithm,
    ) -> Self {
        let bytes = bytes.into();
        let digest = Digester::digest(algorithm, &bytes);
        Self { digest, media_type: media_type.into(), bytes }
    }

    /// Parses and checks the manifest, by the same rules as the embedded registry.
    ///
    /// # Errors
    /// [`Error::Failed`] if the manifest is invalid.
    pub(crate) fn content(&self) -> Result<ManifestContent> {
        ManifestContent::parse(&self.media_type, &self.bytes).map_err(|problem| {
            Error::failed(format!("manifest {} is invalid: {problem}", self.digest))
        })
    }

    /// Replaces the media type of the registry by the one in a descriptor.
    ///
    /// # Errors
    /// [`Error::Failed`] if the size or digest differs from the descriptor.
    pub(crate) fn described_by(self, descriptor: &Descriptor) -> Result<Self> {
        let Descriptor { media_type, digest, size, .. } = descriptor;
        if self.digest != *digest {
            return Err(Error::failed(format!(
                "manifest {digest}: its content is {}",
                self.digest
            )));
        }
        let found = self.bytes.len();
        if found as u64 != *size {
            let message = format!("manifest {digest} has {found} bytes, not {size}");
            return Err(Error::failed(message));
        }
        Ok(Self { media_type: media_type.clone(), ..self })
    }

    /// Returns the descriptor of this manifest.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }

    /// Returns the descriptor of this manifest in a list of referrers.
    pub(super) fn as_referrer(&self, content: &ManifestContent) -> Descriptor {
        Descriptor {
            artifact_type: content.artifact_type().map(str::to_owned),
            annotations: content.annotations().clone(),
            ..self.descriptor()
        }
    }
}

impl ImageManifest {
    /// Returns the manifest as bytes.
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_MANIFEST, json(self)?))
    }
}

impl Index {
    /// Returns the index as bytes.
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_INDEX, json(self)?))
    }
}

/// The maximum depth of a manifest below the root of an image. Deeper indexes are valid, but no tool builds them.
pub(crate) const MAX_MANIFEST_DEPTH: usize = 4;
/// The maximum total size of the manifests of one image and of its referrers, which a transfer holds in memory. A
/// manifest usually has a few kB, so the limit allows thousands of manifests.
pub(crate) const MAX_MANIFESTS_BYTES: u64 = 32 * 1024 * 1024;

/// Limits the memory and depth of the manifests of a hostile registry or layout.
#[derive(Debug, Default)]
pub(crate) struct ManifestBounds {
    bytes: u64,
}

impl ManifestBounds {
    /// Counts a manifest at a depth below the root of its image.
    ///
    /// `size` is the size in the descriptor, and is counted before the manifest is fetched. [`Manifest::described_by`]
    /// later compares it with the content.
    ///
    /// # Errors
    /// The exceeded limit.
    pub(crate) fn add(&mut self, size: u64, depth: usize) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(size);
        if depth > MAX_MANIFEST_DEPTH {
            return Err(format!("its indexes are nested more than {MAX_MANIFEST_DEPTH} deep"));
        }
        match self.bytes > MAX_MANIFESTS_BYTES {
            true => Err(format!("its manifests have more than {MAX_MANIFESTS_BYTES} bytes")),
            false => Ok(()),
        }
    }
}

/// Returns the image with exactly this platform, or else all images that the platform admits.
pub(crate) fn images_for<'a>(
    images: impl Iterator<Item = (&'a Descriptor, &'a Platform)>,
    wanted: &Platform,
) -> Vec<(&'a Descriptor, &'a Platform)> {
    let fitting: Vec<_> = images.filter(|(_, found)| wanted.admits(found)).collect();
    match fitting.iter().find(|(_, found)| wanted.is_same_as(found)) {
        Some(exact) => vec![*exact],
        None => fitting,
    }
}

/// Returns the names of platforms, without duplicates.
pub(crate) fn platform_names<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let mut names: Vec<String> = platforms.into_iter().map(Platform::to_string).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

fn json(manifest: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(manifest)
        .map_err(|error| Error::failed("cannot write a manifest").with_source(error))
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The header of a registry that lists referrers itself.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Client {
    /// Returns the descriptor of the manifest at a tag or digest, or `None` if it does not exist.
    ///
    /// # Behavior
    /// - A missing repository is the same as a missing manifest: `None`.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let request = self.manifest_request(Method::HEAD, reference)?;
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response =
            self.send(request, RequestTarget::Image(reference.clone()), &expected).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let length = header(&response, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
        match (content_digest(&response), length) {
            (Some(digest), Some(length)) => {
                Ok(Some(Descriptor::new(content_type(&response), digest, length)))
            }
            // The specification does not require these headers. Without them, the manifest is fetched.
            _ => match self.fetch_manifest(reference).await {
                Ok(manifest) => Ok(Some(manifest.descriptor())),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Fetches the manifest at a tag or digest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the manifest does not exist; [`Error::Failed`] if the content is
    /// larger than [`Manifest::MAX_LEN`] or does not have the digest.
    pub async fn fetch_manifest(&self, reference: &Reference) -> Result<Manifest> {
        let request = self.manifest_request(Method::GET, reference)?;
        let target = RequestTarget::Image(reference.clone());
        let (response, bytes) = self.fetch(request, target, Manifest::MAX_LEN).await?;
        let media_type = content_type(&response);
        let expected = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => content_digest(&response),
        };
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let manifest = Manifest::with_algorithm(media_type, bytes, algorithm);
        match expected {
            Some(expected) if expected != manifest.digest => {
                let found = &manifest.digest;
                let message = format!("the registry sent {found} for manifest {expected}");
                Err(Error::failed(message))
            }
            _ => Ok(manifest),
        }
    }

    /// Puts a manifest at a tag or at its own digest.
    ///
    /// # Behavior
    /// - Putting a manifest that exists succeeds, also if tags are immutable.
    /// - AWS ECR accepts 10 manifests per second. The client waits to stay below this quota.
    /// - If the manifest has a subject and the registry does not list referrers, the client adds the manifest to the
    ///   index at the referrers tag of the specification.
    ///
    /// # Errors
    /// - [`Error::Conflict`] if the tag is immutable and refers to another image.
    /// - [`Error::NotFound`] if the repository does not exist.
    /// - [`Error::Failed`] if the manifest is invalid, names a blob or manifest that is missing, or is stored under
    ///   another digest.
    pub async fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<()> {
        let is_listed = self.put(reference, manifest).await?;
        // The registry decides whether other content is valid.
        let Ok(content) = manifest.content() else { return Ok(()) };
        match content.subject() {
            Some(subject) => {
                let referrer = manifest.as_referrer(&content);
                self.attach(&subject.digest, referrer, is_listed).await
            }
            None => Ok(()),
        }
    }

    /// Puts a manifest, and returns whether the registry lists it as a referrer; `None` if the response was lost.
    pub(super) async fn put(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<Option<bool>> {
        let mut tries = self.retry().tries();
        loop {
            let error = match self.try_put(reference, manifest).await {
                Ok(is_listed) => return Ok(Some(is_listed)),
                // Some registries reject a manifest that already exists, which is no conflict.
                Err(error @ Error::Conflict { .. }) => {
                    let is_stored = self.is_stored_at(reference, manifest).await;
                    return if is_stored.unwrap_or(false) { Ok(None) } else { Err(error) };
                }
                Err(error) => error,
            };
            sleep(tries.failed(error)?).await;
            // The registry may have stored the manifest although the response was lost.
            if self.is_stored_at(reference, manifest).await? {
                return Ok(None);
            }
        }
    }

    async fn is_stored_at(&self, reference: &Reference, manifest: &Manifest) -> Result<bool> {
        let stored = self.manifest(reference).await?;
        Ok(stored.is_some_and(|stored| stored.digest == manifest.digest))
    }

    async fn try_put(&self, reference: &Reference, manifest: &Manifest) -> Result<bool> {
        let request = Request::new(Method::PUT, self.url(&format!("manifests/{reference}"))?)
            .header(CONTENT_TYPE, &manifest.media_type)
            .body(manifest.bytes.clone());
        self.wait_for_manifest_quota().await;
        let target = RequestTarget::Image(reference.clone());
        let response = self.try_send(&request, &target, &[StatusCode::CREATED]).await?;
        match content_digest(&response) {
            // For a tag, the registry may use another hash function.
            Some(stored)
                if stored != manifest.digest
                    && stored.algorithm() == manifest.digest.algorithm() =>
            {
                let sent = &manifest.digest;
                let message = format!("the registry stored {stored} for manifest {sent}");
                Err(Error::failed(message))
            }
            _ => Ok(response.headers().contains_key(OCI_SUBJECT)),
        }
    }

    fn manifest_request(&self, method: Method, reference: &Reference) -> Result<Request> {
        const ACCEPTED: [&str; 4] = [
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_MANIFEST_LIST,
        ];
        let url = self.url(&format!("manifests/{reference}"))?;
        Ok(Request::new(method, url).header(ACCEPT, ACCEPTED.join(", ")))
    }
}

fn header<'a>(response: &'a Response, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn content_type(response: &BoundedResponse) -> String {
    let first = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    let known = first(header(response, &CONTENT_TYPE).unwrap_or_default());
    match media_type::is_index(&known) || media_type::is_manifest(&known) {
        true => known,
        // Errors show the type, so an unknown one is redacted.
        false => first(&response.printable_header(&CONTENT_TYPE)),
    }
}

fn content_digest(response: &Response) -> Option<Digest> {
    header(response, &CONTENT_DIGEST)?.parse().ok()
}

/// The maximum number of concurrent PUT requests for manifests.
const CONCURRENT_PUTS: usize = 4;

impl Client {
    /// Puts the manifests of an image whose blobs exist, and reports each one.
    ///
    /// The order is: the manifests `below` the root, each after the manifests that it names; the `tagged` manifests;
    /// the root, at its tag or else by digest.
    ///
    /// # Errors
    /// Those of [`put_manifest`](Self::put_manifest).
    pub(crate) async fn publish(
        &self,
        below: impl IntoIterator<Item = &Manifest>,
        tagged: &[(Tag, Manifest)],
        root: &Manifest,
        tag: Option<&Tag>,
        report: &(dyn Fn(&Reference) + Sync),
    ) -> Result<()> {
        // An index names other manifests, so all images are put before the indexes, which keep their order.
        let (indexes, images): (Vec<_>, Vec<_>) =
            below.into_iter().partition(|child| media_type::is_index(&child.media_type));
        let put = |reference: Reference, manifest| async move {
            self.put_manifest(&reference, manifest).await?;
            report(&reference);
            Ok(())
        };
        let images = images.into_iter().map(|manifest| put(by_digest(manifest), manifest));
        // A stream that creates the futures lazily would not be `Send`.
        stream::iter(images.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENT_PUTS)
            .try_collect::<()>()
            .await?;
        for index in indexes {
            put(by_digest(index), index).await?;
        }
        for (tag, manifest) in tagged {
            put(tag.clone().into(), manifest).await?;
        }
        put(tag.map_or_else(|| by_digest(root), |tag| tag.clone().into()), root).await
    }
}

fn by_digest(manifest: &Manifest) -> Reference {
    Reference::Digest(manifest.digest.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_must_match_its_descriptor() {
        let manifest = Manifest::new("application/json", "{}");
        let described = Descriptor::new(media_type::OCI_INDEX, manifest.digest.clone(), 2);
        let found = manifest.clone().described_by(&described).unwrap();
        assert_eq!(found, Manifest::new(media_type::OCI_INDEX, "{}"));
        let longer = Descriptor { size: 3, ..described.clone() };
        let error = manifest.clone().described_by(&longer).unwrap_err().to_string();
        let expected = format!("manifest {} has 2 bytes, not 3", manifest.digest);
        assert_eq!(error, expected);
        let other = Digester::digest(Algorithm::Sha512, b"{}");
        assert!(manifest.described_by(&Descriptor { digest: other, ..described }).is_err());
    }

    #[test]
    fn invalid_manifest_is_named_with_its_key() {
        let manifest = Manifest::new(media_type::OCI_MANIFEST, r#"{"Layers":[],"config":{}}"#);
        let error = manifest.content().unwrap_err().to_string();
        let expected =
            format!("manifest {} is invalid: the key \"Layers\" differs", manifest.digest);
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn manifests_are_bounded_by_bytes_and_depth() {
        let mut bounds = ManifestBounds::default();
        for _ in 0..1000 {
            bounds.add(4096, MAX_MANIFEST_DEPTH).unwrap();
        }
        let problem = bounds.add(0, MAX_MANIFEST_DEPTH + 1).unwrap_err();
        assert_eq!(problem, "its indexes are nested more than 4 deep");
        let problem = bounds.add(u64::MAX, 0).unwrap_err();
        assert_eq!(problem, "its manifests have more than 33554432 bytes");
    }
}
