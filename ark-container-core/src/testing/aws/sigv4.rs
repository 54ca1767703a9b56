//! Whether a request is signed by who holds the key: Signature Version 4, in the header.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::request::Parts;

use crate::digester::Digester;
use crate::model::Algorithm;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far the request's time may be from AWS's.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// Why a request is not taken for signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignatureError {
    /// There is no signature.
    Missing,
    /// The signature's parts are not all there.
    Incomplete(String),
    /// The signature is of something else, another key, or another time.
    Wrong(String),
}

/// What the header `Authorization` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) access_key_id: String,
    date: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
    signature: Vec<u8>,
    time: String,
}

impl Signature {
    /// The signature of a request, which is yet to be checked.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let header = header.ok_or(SignatureError::Missing)?;
        let incomplete = |what: &str| {
            SignatureError::Incomplete(format!("Authorization header requires {what}."))
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
        let signature = decode_hex(part("Signature")?);
        let time = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: part("SignedHeaders")?.split(';').map(str::to_owned).collect(),
            signature: signature.ok_or_else(|| incomplete("a Signature in hexadecimal digits"))?,
            time: time.ok_or_else(|| incomplete("existence of 'X-Amz-Date'"))?.to_owned(),
        })
    }

    /// Whether the request may come now, for this service of these regions.
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

    /// Whether the holder of `secret` signed this request.
    pub(super) fn check(
        &self,
        secret: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<(), SignatureError> {
        // A header that is not signed could have been put there by anybody.
        let unsigned = parts.headers.keys().map(|name| name.as_str()).find(|name| {
            (*name == "host" || name.starts_with("x-amz-"))
                && !self.signed_headers.iter().any(|signed| signed == name)
        });
        if let Some(name) = unsigned {
            let problem = format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.");
            return Err(SignatureError::Wrong(problem));
        }
        let canonical = self.canonical_request(parts, body);
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let hash = Digester::digest(Algorithm::Sha256, canonical.as_bytes());
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{}", self.time, hash.hex());
        let key = hmac::Key::new(HMAC_SHA256, &self.signing_key(secret));
        hmac::verify(&key, to_sign.as_bytes(), &self.signature).map_err(|_| {
            SignatureError::Wrong(
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method. Consult the service \
                 documentation for details."
                    .into(),
            )
        })
    }

    fn signing_key(&self, secret: &str) -> Vec<u8> {
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [&self.date, &self.region, &self.service, "aws4_request"] {
            let of_part = hmac::Key::new(HMAC_SHA256, &key);
            key = hmac::sign(&of_part, part.as_bytes()).as_ref().to_vec();
        }
        key
    }

    fn canonical_request(&self, parts: &Parts, body: &[u8]) -> String {
        let mut headers = String::new();
        for name in &self.signed_headers {
            let values = parts.headers.get_all(name.as_str()).iter();
            let values: Vec<String> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .map(|value| value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            headers.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
        query.sort_unstable();
        format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            parts.method,
            parts.uri.path(),
            query.join("&"),
            self.signed_headers.join(";"),
            Digester::digest(Algorithm::Sha256, body).hex(),
        )
    }
}

/// `None` if a character is no digit or one is left over.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    pairs.collect()
}

/// A time such as `20150830T123600Z`.
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
