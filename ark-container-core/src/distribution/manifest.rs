//! [`Manifest`]: manifests and indexes as bytes and as JSON; fetching and putting them; publishing an image.

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::client::Client;
use super::client::Request;
use super::error::RequestTarget;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{
    Algorithm, Descriptor, Digest, ImageManifest, Index, ManifestContent, Platform, Reference, Tag,
    media_type,
};

/// A manifest or index: its bytes, which are never changed, with their type and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, from the registry's header or its author's descriptor.
    pub media_type: String,
    /// The JSON as it was written.
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
    /// [`Error::Failed`] if it is invalid.
    pub(crate) fn content(&self) -> Result<ManifestContent> {
        ManifestContent::parse(&self.media_type, &self.bytes).map_err(|problem| {
            Error::failed(format!("manifest {} is invalid: {problem}", self.digest))
        })
    }

    /// Returns this manifest with the media type in a descriptor, which counts more than the registry's.
    ///
    /// # Errors
    /// [`Error::Failed`] if its size or digest is not the one in the descriptor.
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
    /// This manifest as it is put.
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_MANIFEST, json(self)?))
    }
}

impl Index {
    /// This index as it is put.
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_INDEX, json(self)?))
    }
}

/// The maximum depth of an index or manifest below the root of an image. Deep indexes are legal, but no
/// tool builds them.
pub(crate) const MAX_MANIFEST_DEPTH: usize = 4;
/// The maximum sum of the manifests of one image and of its referrers, in bytes. They are in memory
/// during a transfer. A manifest usually has a few kB, so that the bound admits thousands of them.
pub(crate) const MAX_MANIFESTS_BYTES: u64 = 32 * 1024 * 1024;

/// Bounds what a hostile registry or layout makes a program hold in memory.
#[derive(Debug, Default)]
pub(crate) struct ManifestBounds {
    bytes: u64,
}

impl ManifestBounds {
    /// Counts a manifest at a depth below the root of its image.
    ///
    /// Counting the sizes in descriptors before a manifest is fetched is enough, since
    /// [`Manifest::described_by`] holds them against the content.
    ///
    /// # Errors
    /// The bound that is exceeded.
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

/// Returns the images for a platform: the one that names it exactly, or else all that it admits.
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

/// The names of platforms, each once.
pub(crate) fn platform_names<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let mut names: Vec<String> = platforms.into_iter().map(Platform::to_string).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

fn json(manifest: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(manifest)
        .map_err(|error| Error::failed("writing a manifest").with_source(error))
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The header of a registry that lists the referrers of a manifest.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Client {
    /// Returns the descriptor of the manifest at a tag or digest, or `None` if there is none.
    ///
    /// # Behavior
    /// - The answer for a repository that does not exist is the same as for a missing manifest.
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
            // The specification does not require these headers; without them the manifest is fetched.
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
    /// [`Error::NotFound`] if the repository or the manifest does not exist; [`Error::Failed`] if what
    /// comes is larger than [`Manifest::MAX_LEN`] or not what the digest says.
    pub async fn fetch_manifest(&self, reference: &Reference) -> Result<Manifest> {
        let request = self.manifest_request(Method::GET, reference)?;
        let target = RequestTarget::Image(reference.clone());
        let (response, bytes) = self.fetch(request, target, Manifest::MAX_LEN).await?;
        let media_type = content_type(&response);
        let promised = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => content_digest(&response),
        };
        let algorithm = promised.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let manifest = Manifest::with_algorithm(media_type, bytes, algorithm);
        match promised {
            Some(promised) if promised != manifest.digest => {
                let found = &manifest.digest;
                let message = format!("the registry sent {found} for manifest {promised}");
                Err(Error::failed(message))
            }
            _ => Ok(manifest),
        }
    }

    /// Puts a manifest at a tag or at its own digest.
    ///
    /// # Behavior
    /// - A manifest that the repository has already is no error, also where tags are immutable.
    /// - AWS ECR accepts ten in a second, and is not sent more.
    /// - If the manifest has a subject and the registry does not list referrers, the client lists it under
    ///   the tag that the specification defines for that.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the tag stands for another image and may not be moved;
    /// [`Error::NotFound`] if the repository does not exist; [`Error::Failed`] if the registry finds
    /// the manifest faulty, lacks what it names, or stores it under another digest.
    pub async fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<()> {
        let is_listed = self.put(reference, manifest).await?;
        // The registry decides about what is no manifest here.
        let Ok(content) = manifest.content() else { return Ok(()) };
        match content.subject() {
            Some(subject) => {
                let referrer = manifest.as_referrer(&content);
                self.attach(&subject.digest, referrer, is_listed).await
            }
            None => Ok(()),
        }
    }

    /// Puts a manifest, and returns whether the registry lists it as a referrer; `None` if its answer was
    /// lost.
    pub(super) async fn put(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<Option<bool>> {
        let mut tries = self.retry().tries();
        loop {
            let error = match self.try_put(reference, manifest).await {
                Ok(is_listed) => return Ok(Some(is_listed)),
                // Some registries refuse to put a manifest again that they have: that is no conflict.
                Err(error @ Error::Conflict { .. }) => {
                    let there = self.stands_for(reference, manifest).await;
                    return if there.unwrap_or(false) { Ok(None) } else { Err(error) };
                }
                Err(error) => error,
            };
            sleep(tries.failed(error)?).await;
            // The answer may have been lost, and not the manifest.
            if self.stands_for(reference, manifest).await? {
                return Ok(None);
            }
        }
    }

    async fn stands_for(&self, reference: &Reference, manifest: &Manifest) -> Result<bool> {
        let there = self.manifest(reference).await?;
        Ok(there.is_some_and(|there| there.digest == manifest.digest))
    }

    async fn try_put(&self, reference: &Reference, manifest: &Manifest) -> Result<bool> {
        let request = Request::new(Method::PUT, self.url(&format!("manifests/{reference}"))?)
            .header(CONTENT_TYPE, &manifest.media_type)
            .body(manifest.bytes.clone());
        self.manifests_turn().await;
        let target = RequestTarget::Image(reference.clone());
        let response = self.ask(&request, &target, &[StatusCode::CREATED]).await?;
        match content_digest(&response) {
            // The registry may prefer another hash function for the manifest of a tag.
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

fn content_type(response: &Response) -> String {
    let media_type = header(response, &CONTENT_TYPE).unwrap_or_default();
    media_type.split(';').next().unwrap_or_default().trim().to_owned()
}

fn content_digest(response: &Response) -> Option<Digest> {
    header(response, &CONTENT_DIGEST)?.parse().ok()
}

/// How many manifests are put at once.
const CONCURRENT_PUTS: usize = 4;

impl Client {
    /// Puts the manifests of an image whose blobs exist: those `below` the root, each after those that it
    /// names, those that are found by tags of their own, then the root, at the tag if there is one. Each
    /// manifest is reported when it was put.
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
        // An index names what comes before it, so those wait for the images.
        let (indexes, images): (Vec<_>, Vec<_>) =
            below.into_iter().partition(|child| media_type::is_index(&child.media_type));
        let put = |reference: Reference, manifest| async move {
            self.put_manifest(&reference, manifest).await?;
            report(&reference);
            Ok(())
        };
        let images = images.into_iter().map(|manifest| put(by_digest(manifest), manifest));
        // A stream that makes the futures as it goes could not be sent to another thread.
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
