//! The endpoints of manifests, tags and referrers.
//!
//! Sources: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-tags>,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>

use std::io::{Read as _, Seek as _};

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use super::blobs::stream_body;
use super::body::{self, Body, Content, DOCKER_CONTENT_DIGEST, WithHeader};
use super::error::{ApiError, Code};
use super::requests::{InRepository, Query, parse_digest};
use crate::backend::local::store::Store;
use crate::error::{Error, Result};
use crate::model::media_type::OCI_INDEX;
use crate::model::{Digest, ParseError, Reference, RepositoryPath, Tag};

/// The maximum size of a manifest: the limit that the specification recommends to clients.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>
pub(super) const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// The maximum size of a manifest that is sent from memory, together with its headers.
const MAX_UNSTREAMED_BYTES: u64 = 16 * 1024;

/// The header with which the registry announces that it supports referrers.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

pub(super) async fn get_manifest(
    repository: InRepository,
    reference: &str,
    method: &Method,
) -> Result<Response<Body>, ApiError> {
    let reference = existing(reference)?;
    let reading = repository.run(move |store, path| {
        let mut manifest = store.open_manifest(path, &reference)?;
        let mut small = Vec::new();
        if manifest.size <= MAX_UNSTREAMED_BYTES {
            let read = manifest.file.read_to_end(&mut small);
            read.map_err(|error| Error::failed("cannot read a manifest").with_source(error))?;
        }
        Ok::<_, Error>((manifest, small))
    });
    let (mut manifest, small) = reading.await?;
    if !repository.dialect().serves(repository.path(), &manifest.digest) {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            Code::ManifestUnknown,
            "the image is archived",
        ));
    }
    let body = match *method {
        Method::HEAD => body::empty(),
        _ if manifest.size <= MAX_UNSTREAMED_BYTES => body::full(small),
        _ => {
            let start = manifest.file.stream_position().map_err(ApiError::internal)?;
            stream_body(manifest.file, start..start + manifest.size, repository.memory())
        }
    };
    Ok(Response::new(body)
        .with(header::CONTENT_TYPE, manifest.media_type)
        .with(header::CONTENT_LENGTH, manifest.size)
        .with(DOCKER_CONTENT_DIGEST, manifest.digest))
}

pub(super) async fn put_manifest(
    repository: InRepository,
    reference: &str,
    headers: &HeaderMap,
    content: &mut Content,
) -> Result<Response<Body>, ApiError> {
    let reference: Reference = if reference.contains(':') {
        parse_digest(reference)?.into()
    } else {
        reference.parse().map_err(|error: ParseError| {
            ApiError::bad_request(Code::TagInvalid, error.to_string())
        })?
    };
    let media_type = media_type(headers)?;
    let received = content.manifest(MAX_MANIFEST_BYTES, repository.memory()).await?;
    let Some((bytes, permit)) = received else {
        let message = format!("the manifest has more than {MAX_MANIFEST_BYTES} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, Code::ManifestInvalid, message));
    };
    repository.dialect().check_manifest(&bytes)?;
    let base = repository.url();
    let put = repository
        .run(move |store, path| {
            // A missing repository is reported before an invalid manifest.
            store.repository(path)?;
            let _permit = permit;
            store.put_manifest(path, &reference, &media_type, &bytes)
        })
        .await?;
    let response = body::created(format!("{base}/manifests/{}", put.digest), &put.digest);
    Ok(match put.subject {
        Some(subject) => response.with(OCI_SUBJECT, subject),
        None => response,
    })
}

pub(super) async fn delete_manifest(
    repository: InRepository,
    reference: &str,
) -> Result<Response<Body>, ApiError> {
    let reference = existing(reference)?;
    repository
        .run(move |store, path| match &reference {
            Reference::Digest(digest) => store.delete_manifest(path, digest),
            Reference::Tag(tag) => store.delete_tag(path, tag),
        })
        .await?;
    Ok(body::status(StatusCode::ACCEPTED))
}

/// Parses the reference of an existing image. An invalid tag is reported as a missing image.
fn existing(reference: &str) -> Result<Reference, ApiError> {
    if reference.contains(':') {
        return parse_digest(reference).map(Reference::Digest);
    }
    reference.parse().map_err(|error: ParseError| {
        ApiError::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, error.to_string())
    })
}

/// Returns the media type without its parameters.
fn media_type(headers: &HeaderMap) -> Result<String, ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if essence.is_empty() {
        let message = "the manifest has no media type: the request needs a Content-Type";
        return Err(ApiError::bad_request(Code::ManifestInvalid, message));
    }
    Ok(essence.to_owned())
}

/// The maximum number of tags in a page, as in ECR.
const MAX_PAGE_TAGS: usize = 1000;

pub(super) async fn list_tags(
    repository: InRepository,
    query: &Query<'_>,
) -> Result<Response<Body>, ApiError> {
    #[derive(Serialize)]
    struct Page<'a> {
        name: &'a RepositoryPath,
        tags: &'a [Tag],
    }

    let wanted = query.get("n").map(|n| page_size(&n)).transpose()?;
    let last = query.get("last").map(String::from);
    let limit = wanted.map_or(MAX_PAGE_TAGS, |n| n.min(MAX_PAGE_TAGS));
    let listing = repository.memory().listing().await?;
    let reading =
        repository.run(move |store, path| store.tags_after(path, last.as_deref(), limit + 1));
    let mut tags = reading.await?;
    drop(listing);
    let has_more = tags.len() > limit;
    tags.truncate(limit);
    let page = Page { name: repository.path(), tags: &tags };
    let json = serde_json::to_vec(&page).map_err(ApiError::internal)?;
    let response = Response::new(body::full(repository.memory().page(json)?))
        .with(header::CONTENT_TYPE, "application/json");
    let Some(last) = tags.last().filter(|_| has_more) else { return Ok(response) };
    let size = wanted.map(|n| ("n", n.to_string()));
    Ok(response
        .with(header::LINK, next_page(&format!("{}/tags/list", repository.url()), size, last)))
}

fn page_size(text: &str) -> Result<usize, ApiError> {
    text.parse().map_err(|_| {
        let message = format!("the query parameter n is not a number of tags: {text:?}");
        ApiError::bad_request(Code::PaginationNumberInvalid, message)
    })
}

/// Returns the `Link` to the page after `last`, with a query parameter of the current page.
fn next_page(url: &str, parameter: Option<(&str, String)>, last: impl ToString) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameter).append_pair("last", &last.to_string());
    format!("<{url}?{}>; rel=\"next\"", query.finish())
}

/// The header with the names of the applied filters.
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The maximum number of referrers that are read for a page.
const MAX_PAGE_REFERRERS: usize = 1000;

/// The size at which a page is complete. The largest page has 512 KiB.
const MIN_PAGE_BYTES: usize = 128 * 1024;

pub(super) async fn list_referrers(
    repository: InRepository,
    subject: &str,
    query: &Query<'_>,
) -> Result<Response<Body>, ApiError> {
    let subject = parse_digest(subject)?;
    let wanted = query.get("artifactType").map(String::from);
    let last = query.get("last").map(|last| parse_digest(&last)).transpose()?;
    let listing = repository.memory().listing().await?;
    let url = format!("{}/referrers/{subject}", repository.url());
    let artifact_type = wanted.clone();
    let reading = repository.run(move |store, path| {
        referrers_page(store, path, &subject, last.as_ref(), artifact_type.as_deref())
    });
    let (json, last) = reading.await?;
    drop(listing);
    let mut response = Response::new(body::full(repository.memory().page(json)?))
        .with(header::CONTENT_TYPE, OCI_INDEX);
    if wanted.is_some() {
        response = response.with(OCI_FILTERS_APPLIED, "artifactType");
    }
    let Some(last) = last else { return Ok(response) };
    let filter = wanted.map(|wanted| ("artifactType", wanted));
    Ok(response.with(header::LINK, next_page(&url, filter, last)))
}

/// Returns a page of the referrers after `last` as JSON, and the last referrer that was read if there may be
/// more.
fn referrers_page(
    store: &Store,
    path: &RepositoryPath,
    subject: &Digest,
    last: Option<&Digest>,
    artifact_type: Option<&str>,
) -> Result<(Vec<u8>, Option<Digest>)> {
    let head = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":["#);
    let mut json = head.clone().into_bytes();
    let mut digests =
        store.referrers_after(path, subject, last, MAX_PAGE_REFERRERS + 1)?.into_iter();
    let (mut last, mut bytes_read) = (None, 0);
    for digest in digests.by_ref().take(MAX_PAGE_REFERRERS) {
        let referrer = store.referrer(path, subject, &digest)?;
        last = Some(digest);
        let Some(referrer) = referrer else { continue };
        let entry = serde_json::to_vec(&referrer)
            .map_err(|error| Error::failed("cannot list a referrer").with_source(error))?;
        if artifact_type.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted)) {
            if json.len() > head.len() {
                json.push(b',');
            }
            json.extend_from_slice(&entry);
        }
        bytes_read += entry.len();
        if bytes_read >= MIN_PAGE_BYTES {
            break;
        }
    }
    json.extend_from_slice(b"]}");
    Ok((json, last.filter(|_| digests.next().is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_size_is_whole_number() {
        assert_eq!(page_size("0").unwrap(), 0);
        for bad in ["", "-1", "x", "1.5", "99999999999999999999"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
    }
}
