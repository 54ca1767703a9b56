//! The endpoints of manifests, tags and referrers.
//!
//! Sources: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-tags>,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::body::{self, Body, Content, DOCKER_CONTENT_DIGEST, WithHeader};
use super::error::{ApiError, Code};
use super::requests::{InRepository, Query, parse_digest};
use crate::model::media_type::OCI_INDEX;
use crate::model::{ParseError, Reference, Tag};

/// The maximum size of a manifest: the limit that the specification recommends to clients.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests>
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// The header that tells the client that the registry supports referrers.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

pub(super) async fn get_manifest(
    repository: InRepository,
    reference: &str,
    method: &Method,
) -> Result<Response<Body>, ApiError> {
    let reference = existing(reference)?;
    let manifest = repository.run(move |store, path| store.manifest(path, &reference)).await?;
    if !repository.dialect().serves(repository.path(), &manifest.digest) {
        return Err(ApiError::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, "it is archived"));
    }
    let length = manifest.bytes.len();
    let body = if method == Method::HEAD { body::empty() } else { body::full(manifest.bytes) };
    Ok(Response::new(body)
        .with(header::CONTENT_TYPE, manifest.media_type)
        .with(header::CONTENT_LENGTH, length)
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
    let Some(bytes) = content.collect(MAX_MANIFEST_BYTES).await? else {
        let message = format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, Code::ManifestInvalid, message));
    };
    repository.dialect().take_manifest(&bytes)?;
    let base = repository.url();
    let put = repository
        .run(move |store, path| {
            // A missing repository is reported before an invalid manifest.
            store.repository(path)?;
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
        let message = "a manifest needs a Content-Type that says of what kind it is";
        return Err(ApiError::bad_request(Code::ManifestInvalid, message));
    }
    Ok(essence.to_owned())
}

pub(super) async fn list_tags(
    repository: InRepository,
    query: &Query<'_>,
) -> Result<Response<Body>, ApiError> {
    let limit = query.get("n").map(|n| page_size(&n)).transpose()?;
    let (path, url) = (repository.path().clone(), repository.url());
    let tags = repository.run(|store, path| store.tags(path)).await?;
    let (page, more) = page(&tags, query.get("last").as_deref(), limit);
    let response = body::json(StatusCode::OK, &json!({ "name": path.to_string(), "tags": page }));
    Ok(match (page.last(), limit) {
        (Some(last), Some(n)) if more => response
            .with(header::LINK, format!("<{url}/tags/list?n={n}&last={last}>; rel=\"next\"")),
        _ => response,
    })
}

fn page_size(text: &str) -> Result<usize, ApiError> {
    text.parse().map_err(|_| {
        let message = format!("n is a number of tags, 0 or more, and not {text:?}");
        ApiError::bad_request(Code::PaginationNumberInvalid, message)
    })
}

/// Returns at most `limit` of the sorted tags after `last`, and whether there are more.
fn page<'a>(tags: &'a [Tag], last: Option<&str>, limit: Option<usize>) -> (&'a [Tag], bool) {
    let start = last.map_or(0, |last| tags.partition_point(|tag| tag.as_str() <= last));
    let rest = &tags[start..];
    let length = limit.map_or(rest.len(), |limit| limit.min(rest.len()));
    (&rest[..length], length < rest.len())
}

/// The header with the names of the applied filters.
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn list_referrers(
    repository: InRepository,
    subject: &str,
    query: &Query<'_>,
) -> Result<Response<Body>, ApiError> {
    let subject = parse_digest(subject)?;
    let mut referrers = repository.run(move |store, path| store.referrers(path, &subject)).await?;
    let wanted = query.get("artifactType");
    if let Some(wanted) = wanted.as_deref() {
        referrers.retain(|referrer| referrer.artifact_type.as_deref() == Some(wanted));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": referrers });
    let response = body::json(StatusCode::OK, &index).with(header::CONTENT_TYPE, OCI_INDEX);
    Ok(match wanted {
        Some(_) => response.with(OCI_FILTERS_APPLIED, "artifactType"),
        None => response,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_page_starts_behind_the_last_tag_whether_or_not_it_exists() {
        let all = tags(&["1", "A", "a", "b"]);
        assert_eq!(page(&all, None, None), (&all[..], false));
        assert_eq!(page(&all, Some("A"), None), (&all[2..], false));
        assert_eq!(page(&all, Some("B"), Some(1)), (&all[2..3], true));
        assert_eq!(page(&all, Some("a"), Some(1)), (&all[3..], false));
        assert_eq!(page(&all, Some("z"), Some(5)), (&all[4..], false));
        assert_eq!(page(&all, None, Some(0)), (&all[..0], true));
    }

    #[test]
    fn a_page_size_is_a_whole_number() {
        assert_eq!(page_size("0").unwrap(), 0);
        for bad in ["", "-1", "x", "1.5", "99999999999999999999"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pages_one_after_another_give_every_tag_once(
            names in proptest::collection::btree_set("[a-zA-Z0-9]{1,4}", 0..30),
            limit in 1usize..8,
        ) {
            let all: Vec<Tag> = names.iter().map(|name| name.parse().unwrap()).collect();
            let (mut seen, mut last) = (Vec::new(), None::<String>);
            loop {
                let (found, more) = page(&all, last.as_deref(), Some(limit));
                seen.extend_from_slice(found);
                if !more {
                    break;
                }
                last = found.last().map(Tag::to_string);
            }
            prop_assert_eq!(seen, all);
        }
    }
}
