//! Exports private parsers of the client for the fuzz targets.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};

use super::error::{self, DistributionError};
use super::login::Challenge;
use super::{blob, login, response, upload};
use crate::secrets::Secrets;

/// Returns the URL of the next page in a `Link` header.
pub fn next_page(header: &str) -> Option<&str> {
    response::parse_next_link(header)
}

/// Returns the realm, service and scope of the challenge in `WWW-Authenticate` headers.
pub fn challenge(headers: &[&[u8]]) -> Option<(String, Option<String>, Option<String>)> {
    let values = headers.iter().filter_map(|value| HeaderValue::from_bytes(value).ok());
    let headers = values.map(|value| (WWW_AUTHENTICATE, value)).collect();
    let Challenge { realm, service, scope } = Challenge::find(&headers)?;
    Some((realm, service, scope))
}

/// Returns the URL for the token of a challenge by the registry at `base`.
pub fn login_url(
    base: &str,
    realm: String,
    service: Option<String>,
    scope: Option<String>,
) -> Option<String> {
    let base = base.parse().ok()?;
    let challenge = Challenge { realm, service, scope };
    let mut url = login::service_url(&base, &challenge, &Secrets::default()).ok()?;
    challenge.add_to(&mut url);
    Some(url.into())
}

/// Returns the delay in a `Retry-After` header.
pub fn retry_after(header: &[u8], now: SystemTime) -> Option<Duration> {
    let value = HeaderValue::from_bytes(header).ok()?;
    error::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
}

/// Returns the first byte of a `Content-Range` header.
pub fn part_start(header: &str) -> Option<u64> {
    blob::range_start(header)
}

/// Returns the number of received bytes in the `Range` header of an upload.
pub fn received(header: &str) -> Option<u64> {
    upload::received(Some(header))
}

/// Parses an error response, and returns it with the offset to resume an upload at.
pub fn refusal(status: u16, body: &[u8]) -> Option<(DistributionError, Option<u64>)> {
    let url = "http://registry.example/v2/".parse().ok()?;
    let status = StatusCode::from_u16(status).ok()?;
    let (headers, secrets) = (HeaderMap::new(), Secrets::default());
    let refusal = DistributionError::new(Method::GET, &url, status, &headers, body, &secrets);
    let offset = refusal.expected_offset();
    Some((refusal, offset))
}
