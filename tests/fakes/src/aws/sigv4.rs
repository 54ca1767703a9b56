//! Verification of request signatures: Signature Version 4 in the header `Authorization`.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ark_container_core::BoxError;
use aws_credential_types::Credentials;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::http::request::Parts;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The maximum difference between the time of a request and the time of AWS.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// The reason why the signature of a request is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignatureError {
    /// The request has no signature.
    Missing,
    /// The signature lacks a part.
    Incomplete(String),
    /// The signature is that of another request, key, scope or time.
    Wrong(String),
}

/// The parsed header `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) access_key_id: String,
    date: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
    signature: String,
    time: String,
}

impl Signature {
    /// Parses the signature of a request without verifying it.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let header = header.ok_or(SignatureError::Missing)?;
        let incomplete = |missing: &str| {
            SignatureError::Incomplete(format!("Authorization header requires {missing}."))
        };
        let parts = header.strip_prefix(ALGORITHM).ok_or_else(|| incomplete(ALGORITHM))?;
        let parts: BTreeMap<&str, &str> =
            parts.split(',').filter_map(|part| part.trim().split_once('=')).collect();
        let part = |name| {
            parts.get(name).copied().ok_or_else(|| incomplete(&format!("'{name}' parameter")))
        };
        let scope: Vec<&str> = part("Credential")?.split('/').collect();
        let [access_key_id, date, region, service, "aws4_request"] = scope[..] else {
            return Err(incomplete("a Credential of 5 parts"));
        };
        let signature = part("Signature")?;
        if signature.len() != 64 || !signature.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(incomplete("a Signature in hexadecimal digits"));
        }
        let time = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: part("SignedHeaders")?.split(';').map(str::to_owned).collect(),
            signature: signature.to_owned(),
            time: time.ok_or_else(|| incomplete("existence of 'X-Amz-Date'"))?.to_owned(),
        })
    }

    /// Checks the time, the service and the region of the signature.
    pub(super) fn check_scope(
        &self,
        now: SystemTime,
        service: &str,
        regions: &[&str],
    ) -> Result<(), SignatureError> {
        let wrong = |problem: String| Err(SignatureError::Wrong(problem));
        let Some(time) = parse_time(&self.time) else {
            return wrong(format!("'{}' is not a valid date.", self.time));
        };
        if !self.time.starts_with(&self.date) {
            return wrong(
                "Date in Credential scope does not match YYYYMMDD from X-Amz-Date.".into(),
            );
        }
        if self.service != service {
            return wrong(format!("Credential should be scoped to correct service: '{service}'."));
        }
        if !regions.contains(&self.region.as_str()) {
            return wrong("Credential should be scoped to a valid region.".into());
        }
        let (now_text, sent) = (format_time(now), &self.time);
        if now.duration_since(time).is_ok_and(|age| age > MAX_SKEW) {
            let limit = format_time(now - MAX_SKEW);
            return wrong(format!(
                "Signature expired: {sent} is now earlier than {limit} ({now_text} - 15 min.)"
            ));
        }
        if time.duration_since(now).is_ok_and(|early| early > MAX_SKEW) {
            let limit = format_time(now + MAX_SKEW);
            return wrong(format!(
                "Signature not yet current: {sent} is still later than {limit} \
                 ({now_text} + 15 min.)"
            ));
        }
        Ok(())
    }

    /// Verifies that the holder of `secret` signed a request.
    pub(super) fn check(
        &self,
        secret: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<(), SignatureError> {
        if !parts.headers.contains_key(HOST) {
            return Err(SignatureError::Incomplete(
                "The request requires the header 'host'.".into(),
            ));
        }
        // Anybody could have added an unsigned header.
        let unsigned = parts.headers.keys().map(|name| name.as_str()).find(|name| {
            (*name == "host" || name.starts_with("x-amz-"))
                && !self.signed_headers.iter().any(|signed| signed == name)
        });
        if let Some(name) = unsigned {
            let problem = format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.");
            return Err(SignatureError::Wrong(problem));
        }
        let mismatch = || {
            SignatureError::Wrong(
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method. Consult the service \
                 documentation for details."
                    .into(),
            )
        };
        let expected = self.expected_signature(secret, parts, body).map_err(|_| mismatch())?;
        verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes())
            .map_err(|_| mismatch())
    }

    /// Computes the signature of the signed part of a request.
    fn expected_signature(
        &self,
        secret: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<String, BoxError> {
        let mut headers = Vec::new();
        for (name, value) in &parts.headers {
            if self.signed_headers.iter().any(|signed| signed == name.as_str()) {
                headers.push((name.as_str(), value.to_str()?));
            }
        }
        let mut settings = SigningSettings::default();
        settings.excluded_headers = None;
        let identity = Credentials::new(&self.access_key_id, secret, None, None, "fake").into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(parse_time(&self.time).ok_or("invalid time")?)
            .settings(settings)
            .build()?
            .into();
        let request = SignableRequest::new(
            parts.method.as_str(),
            parts.uri.to_string(),
            headers.into_iter(),
            SignableBody::Bytes(body),
        )?;
        Ok(sign(request, &parameters)?.into_parts().1)
    }
}

/// Parses a time such as `20150830T123600Z`.
fn parse_time(text: &str) -> Option<SystemTime> {
    let part = |range| text.get(range);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(9..11)?,
        part(11..13)?,
        part(13..15)?
    );
    (text.len() == 16).then(|| humantime::parse_rfc3339(&rfc3339).ok()).flatten()
}

fn format_time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests;
