//! Manifests: what a tag or digest stands for, and putting them.

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response, StatusCode};
use tokio::time::sleep;

use super::client::Client;
use super::document::{Manifest, Referring};
use super::error::Subject;
use super::request::Request;
use crate::error::{Error, Result};
use crate::model::{Algorithm, Descriptor, Digest, Reference, media_type};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// How a registry says that it lists what refers to a manifest.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Client {
    /// What a tag or digest stands for; `None` if the repository has no such manifest.
    ///
    /// # Behavior
    /// - A repository that does not exist has none: this answer cannot tell the two apart.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let request = self.manifest_request(Method::HEAD, reference)?;
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = self.send(request, Subject::Image(reference.clone()), &expected).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let length = header(&response, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
        match (content_digest(&response), length) {
            (Some(digest), Some(length)) => {
                Ok(Some(Descriptor::new(content_type(&response), digest, length)))
            }
            // The specification does not oblige a registry to tell these; then the manifest does.
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

    /// The manifest that a tag or digest stands for.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the manifest does not exist; [`Error::Failed`] if what
    /// comes is larger than [`Manifest::MAX_LEN`] or not what the digest says.
    pub async fn fetch_manifest(&self, reference: &Reference) -> Result<Manifest> {
        let request = self.manifest_request(Method::GET, reference)?;
        let subject = Subject::Image(reference.clone());
        let (response, bytes) = self.fetch(request, subject, Manifest::MAX_LEN).await?;
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
    /// - That it is there already is success, also where tags may not be moved.
    /// - AWS ECR takes ten in a second, and is not sent more.
    /// - Where the manifest refers to another and the registry does not list such manifests, it is listed
    ///   under the tag that the specification has for that.
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

    /// Puts a manifest, and tells whether the registry lists it with what it refers to; `None` if its
    /// answer got lost.
    pub(super) async fn put(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<Option<bool>> {
        let mut tries = self.retry().tries();
        loop {
            let error = match self.try_put(reference, manifest).await {
                Ok(is_listed) => return Ok(Some(is_listed)),
                // Some refuse to put again what they have: that is no conflict.
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
        let subject = Subject::Image(reference.clone());
        let response = self.ask(&request, &subject, &[StatusCode::CREATED]).await?;
        match content_digest(&response) {
            // A tag's manifest may be called by the hash function that the registry prefers.
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
