//! [`Manifest`]: manifests and indexes as bytes and as JSON; fetching and putting them; publishing an image.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::client::Client;
use super::client::Request;
use super::error::RequestTarget;
use super::response::Reply;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Algorithm, Descriptor, Digest, Platform, Reference, Tag, media_type};

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
}

/// The content of an image manifest: one configuration, and layers from the lowest up.
///
/// Its fields are written in this order, and must be for ever: the digest of the same image would
/// change with it.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    #[serde(default)]
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl ImageManifest {
    /// An OCI manifest.
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_MANIFEST.to_owned(), config, layers }
    }

    /// This manifest as it is put.
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_MANIFEST, json(self)?))
    }
}

/// The content of an index: its manifests. A list of referrers has the same form.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md>
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    #[serde(default)]
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    /// An OCI index.
    #[cfg(feature = "testing")]
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_INDEX.to_owned(), manifests }
    }

    /// This index as it is put.
    #[cfg(feature = "testing")]
    pub(crate) fn to_manifest(&self) -> Result<Manifest> {
        Ok(Manifest::new(media_type::OCI_INDEX, json(self)?))
    }
}

/// How deep indexes within indexes are followed. They are legal, but nobody builds deep ones.
pub(crate) const MAX_INDEX_DEPTH: usize = 4;
/// The manifests of one image, far more than there are platforms: a bound on what a hostile registry or
/// layout can make us hold in memory.
pub(crate) const MAX_MANIFESTS: usize = 256;
/// The operating system that builders write for an attestation, which runs nowhere.
///
/// Source: <https://github.com/moby/buildkit/blob/v0.18.0/docs/attestations/attestation-storage.md>
pub(crate) const UNKNOWN_OS: &str = "unknown";

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

/// The content of a manifest that refers to another one, its subject.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Referring {
    pub(crate) subject: Descriptor,
    artifact_type: Option<String>,
    config: Option<Typed>,
    annotations: Option<BTreeMap<String, String>>,
}

/// A descriptor, of which only the type matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: String,
}

impl Referring {
    /// Returns the content of a manifest, or `None` if it has no subject.
    pub(crate) fn of(manifest: &Manifest) -> Option<Self> {
        serde_json::from_slice(&manifest.bytes).ok()
    }

    /// Returns the descriptor of the manifest in a list of referrers.
    pub(super) fn describe(self, manifest: &Manifest) -> Descriptor {
        let Manifest { digest, media_type, bytes } = manifest;
        let own = self.artifact_type.filter(|own| !own.is_empty());
        Descriptor {
            artifact_type: own.or(self.config.map(|config| config.media_type)),
            annotations: self.annotations.unwrap_or_default(),
            ..Descriptor::new(media_type, digest.clone(), bytes.len() as u64)
        }
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document)
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
                Ok(manifest) => {
                    let Manifest { digest, media_type, bytes } = manifest;
                    Ok(Some(Descriptor::new(media_type, digest, bytes.len() as u64)))
                }
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
        match Referring::of(manifest) {
            Some(referring) => self.attach(manifest, referring, is_listed).await,
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

fn content_type(response: &Reply) -> String {
    let first = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    let known = first(header(response, &CONTENT_TYPE).unwrap_or_default());
    match media_type::is_index(&known) || media_type::is_manifest(&known) {
        true => known,
        // Errors name the type.
        false => first(&response.shown_header(&CONTENT_TYPE)),
    }
}

fn content_digest(response: &Response) -> Option<Digest> {
    header(response, &CONTENT_DIGEST)?.parse().ok()
}

/// How many manifests are put at once.
const CONCURRENT_PUTS: usize = 4;

impl Client {
    /// Puts the manifests of an image whose blobs exist: those `below` the root, each after those that it
    /// names, then the root, at the tag if there is one. Each manifest is reported when it was put.
    ///
    /// # Errors
    /// Those of [`put_manifest`](Self::put_manifest).
    pub(crate) async fn publish(
        &self,
        below: impl IntoIterator<Item = &Manifest>,
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
        put(tag.map_or_else(|| by_digest(root), |tag| tag.clone().into()), root).await
    }
}

fn by_digest(manifest: &Manifest) -> Reference {
    Reference::Digest(manifest.digest.clone())
}
