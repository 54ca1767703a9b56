//! What refers to an image: signatures, bills of materials and the like.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>

use hyper::header::{self, HeaderName};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::{self, Body, WithHeader};
use super::error::ApiError;
use super::service::{InRepository, Query, parse_digest};
use crate::model::media_type::OCI_INDEX;

/// Names the filters that were applied.
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn list(
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
