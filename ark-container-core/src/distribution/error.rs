//! [`DistributionError`]: an unexpected response of a registry, and its conversion to an [`Error`].

use std::error::Error as _;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::client::Repository;
use crate::error::{Error, ResourceKind, is_untrusted, untrusted};
use crate::model::{Access, Digest, Reference};
use crate::secrets::Secrets;

/// The reason why a tag of a repository with immutable tags cannot be moved.
const IMMUTABLE_REASON: &str = "the tags of this repository are immutable";

/// An error message in the response of a registry.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes>
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryMessage {
    /// The code, such as `NAME_UNKNOWN`. Registries also use codes that are not in the specification.
    pub code: String,
    /// The text for people, which may be empty.
    pub message: String,
}

impl fmt::Display for RegistryMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.code),
            message => write!(f, "{}: {message}", self.code),
        }
    }
}

/// An unexpected response of a registry: the `source` of an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributionError {
    method: Method,
    url: String,
    status: StatusCode,
    messages: Vec<RegistryMessage>,
    excerpt: String,
    retry_after: Option<Duration>,
}

impl DistributionError {
    pub(super) fn new(
        method: Method,
        url: &Url,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &Secrets,
    ) -> Self {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            code: String,
            #[serde(default)]
            message: Option<String>,
        }
        let shown = |text: &str| secrets.printable(text);
        let mut messages = Vec::new();
        let mut excerpt = String::new();
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => messages.extend(body.errors.into_iter().map(|entry| RegistryMessage {
                code: shown(&entry.code),
                message: shown(&entry.message.unwrap_or_default()),
            })),
            Err(_) => excerpt = shown(&String::from_utf8_lossy(body)),
        }
        let now = SystemTime::now();
        let retry_after = match status {
            StatusCode::TOO_MANY_REQUESTS => rate_limit_reset(headers, now),
            _ => retry_after(headers, now),
        };
        let url = secrets.redacted(url);
        Self { method, url, status, messages, excerpt, retry_after }
    }

    /// Returns the response that is the direct source of an error.
    pub fn of(error: &Error) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Returns the URL of the request, without query and credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the messages. A response in another format than the specified one has none.
    pub fn messages(&self) -> &[RegistryMessage] {
        &self.messages
    }

    /// Returns the delay before a retry, if the registry requests one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns whether one of the messages has this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.messages.iter().any(|message| message.code == code)
    }

    /// Returns the messages of the registry, or else the start of the body or the status.
    fn summary(&self) -> String {
        if !self.messages.is_empty() {
            let messages: Vec<_> = self.messages.iter().map(ToString::to_string).collect();
            messages.join("; ")
        } else if !self.excerpt.is_empty() {
            self.excerpt.clone()
        } else {
            self.status.to_string()
        }
    }

    fn has_message(&self, text: &str) -> bool {
        self.messages.iter().any(|message| message.message.to_ascii_lowercase().contains(text))
    }

    /// Returns the error of the request.
    pub(super) fn into_error(self, context: &Context<'_>) -> Error {
        let repository = context.repository;
        // For an immutable tag, ECR responds with 400 and other registries with 409.
        let immutable = self.has_message("immutable");
        let is_conflict = self.status == StatusCode::CONFLICT || immutable;
        // A 404 for PUT means that a blob or manifest which the manifest names is missing.
        let putting_manifest =
            self.method == Method::PUT && matches!(context.target, RequestTarget::Image(_));
        if self.rejects_login() {
            let message = match context.username {
                Some(_) => format!("{} rejects the credentials", repository.host()),
                None => format!("{repository} does not exist, or requires credentials"),
            };
            Error::unauthenticated(message).with_source(self)
        } else if is_conflict {
            let (kind, name) = context.target.kind_and_name(repository);
            // The messages of registries are long, and repeat the name of the image.
            let why = if immutable { IMMUTABLE_REASON.to_owned() } else { self.summary() };
            Error::conflict(kind, name, format!("cannot be changed: {why}"))
        } else if self.status == StatusCode::FORBIDDEN {
            let action = match context.access {
                Access::Pull => "pull from",
                Access::Push | Access::Delete => "push to",
            };
            let principal = match context.username {
                Some(username) => format!("the login as {username}"),
                None => "an anonymous client".to_owned(),
            };
            let resource = format!("{repository} ({})", self.summary());
            Error::permission_denied(principal, action, resource)
        } else if self.has_code("NAME_UNKNOWN") {
            Error::not_found(ResourceKind::Repository, repository)
        } else if self.status == StatusCode::NOT_FOUND && !putting_manifest {
            let (kind, name) = context.target.kind_and_name(repository);
            Error::not_found(kind, name)
        } else if self.is_temporary() {
            let description = context.target.description();
            let message = match self.reset_time() {
                Some(reset) => format!(
                    "{description} exceeds the rate limit of {}, which is reset {reset}",
                    repository.host()
                ),
                None => format!("{description} failed temporarily"),
            };
            Error::temporary(message).with_source(self)
        } else {
            let message = format!("{} was rejected", context.target.description());
            Error::failed(message).with_source(self)
        }
    }

    /// Returns the reset time of the exceeded rate limit, as the end of a sentence.
    pub(super) fn reset_time(&self) -> Option<String> {
        let delay = self.retry_after.filter(|_| self.status == StatusCode::TOO_MANY_REQUESTS)?;
        let time = SystemTime::now().checked_add(delay)?;
        let delay = humantime::format_duration(Duration::from_secs(delay.as_secs()));
        Some(format!("in {delay}, at {}", humantime::format_rfc3339_seconds(time)))
    }

    /// Returns whether the registry rejected the login, and not the request.
    pub(super) fn rejects_login(&self) -> bool {
        // ECR responds with 403 to expired credentials.
        let expired = self.status == StatusCode::FORBIDDEN && self.has_message("token has expired");
        self.status == StatusCode::UNAUTHORIZED || expired
    }

    /// Returns the offset to resume an upload at, from a message of AWS ECR: "First byte of the layer part is 0 instead
    /// of 10485760".
    pub(crate) fn expected_offset(&self) -> Option<u64> {
        let mut texts = self.messages.iter().map(|message| message.message.as_str());
        texts.find_map(|text| {
            let (_, after) = text.rsplit_once("instead of ")?;
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            after[..end].parse().ok()
        })
    }

    pub(super) fn is_temporary(&self) -> bool {
        let status = self.status;
        status == StatusCode::REQUEST_TIMEOUT
            || status == StatusCode::TOO_MANY_REQUESTS
            || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
    }
}

impl fmt::Display for DistributionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.method, self.url, self.status)?;
        match self.summary() {
            summary if summary != self.status.to_string() => write!(f, ": {summary}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for DistributionError {}

/// The context of a request, for the text of its errors.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) repository: &'a Repository,
    pub(super) username: Option<&'a str>,
    pub(super) access: Access,
    pub(super) target: RequestTarget,
}

/// The object of a request.
#[derive(Debug, Clone)]
pub(super) enum RequestTarget {
    Repository,
    Blob(Digest),
    Upload,
    Image(Reference),
}

impl RequestTarget {
    /// Returns the kind and name of the object, for errors.
    fn kind_and_name(&self, repository: &Repository) -> (ResourceKind, String) {
        match self {
            Self::Repository => (ResourceKind::Repository, repository.to_string()),
            Self::Blob(digest) => (ResourceKind::Blob, format!("{digest} in {repository}")),
            Self::Upload => (ResourceKind::Upload, format!("to {repository}")),
            Self::Image(reference) => {
                (ResourceKind::Image, format!("{repository}{}{reference}", reference.separator()))
            }
        }
    }

    /// Returns a description of the request, as the start of a sentence.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Repository => "the request to the repository".to_owned(),
            Self::Blob(digest) => format!("the request for blob {digest}"),
            Self::Upload => "the upload of a blob".to_owned(),
            Self::Image(reference) => format!("the request for manifest {reference}"),
        }
    }
}

/// Returns the error of a request without a response.
pub(super) fn connection_error(
    method: &Method,
    redacted_url: &str,
    error: reqwest::Error,
) -> Error {
    let request = format!("{method} {redacted_url}");
    let error = error.without_url();
    if error.is_redirect() || error.is_builder() {
        Error::failed(request).with_source(error)
    } else if error.is_connect() && is_untrusted(&error) {
        untrusted(request).with_source(error)
    } else if error.is_connect() {
        Error::temporary(format!("{request}: cannot connect")).with_source(error)
    } else {
        Error::temporary(format!("{request}: the connection failed")).with_source(error)
    }
}

/// Returns the error of a request that timed out.
pub(super) fn timeout_error(method: &Method, redacted_url: &str) -> Error {
    let message = format!("{method} {redacted_url}: the registry did not respond in time");
    Error::temporary(message).with_source(io::Error::from(io::ErrorKind::TimedOut))
}

/// Returns whether a timeout is the cause.
pub(super) fn timed_out(error: &Error) -> bool {
    error.source().is_some_and(|cause| {
        let io_error = cause.downcast_ref::<io::Error>();
        io_error.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
            || cause.downcast_ref().is_some_and(reqwest::Error::is_timeout)
    })
}

/// Returns whether a connection failure is the cause.
pub(super) fn is_unreachable(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(reqwest::Error::is_connect)
}

/// Returns the delay of a `Retry-After` header, in seconds or as a date.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3>
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// The maximum accepted delay: a year.
const MAX_RESET_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The minimum number that is a time since 1970 and not a delay.
const MIN_UNIX_TIME_SECONDS: u64 = 1_000_000_000;

/// Returns the delay until the reset of an exceeded rate limit.
///
/// Registries send `Retry-After`, the time of the reset, the delay until the reset, or the window of the limit, as in
/// `ratelimit-remaining: 0;w=21600`. The window is the maximum delay.
///
/// Source: <https://docs.docker.com/docker-hub/usage/pulls/> and
/// <https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-07>
fn rate_limit_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |text: &str| {
        let digits = text.trim().split([';', ',', '.']).next()?;
        let seconds = digits.parse::<u64>().ok()?;
        if seconds < MIN_UNIX_TIME_SECONDS {
            return Some(Duration::from_secs(seconds));
        }
        let reset = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        Some(reset.duration_since(now).unwrap_or_default())
    };
    let reset = || {
        let names = ["ratelimit-reset", "x-ratelimit-reset", "x-retry-after"];
        names.into_iter().filter_map(header).find_map(number)
    };
    let window = || {
        let remaining = header("ratelimit-remaining")?;
        let (number_left, parameters) = remaining.split_once(';')?;
        let window = parameters.trim().strip_prefix("w=").filter(|_| number_left.trim() == "0")?;
        number(window)
    };
    let delay = retry_after(headers, now).or_else(reset).or_else(window)?;
    (delay <= MAX_RESET_DELAY).then_some(delay)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn response(status: StatusCode, body: &str) -> DistributionError {
        let url = "http://h.example/v2/a".parse().unwrap();
        let (headers, secrets) = (HeaderMap::new(), Secrets::default());
        DistributionError::new(Method::PATCH, &url, status, &headers, body.as_bytes(), &secrets)
    }

    #[test]
    fn retry_after_is_seconds_or_date() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 10:00:00 GMT").unwrap();
        let delay = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(delay("7"), Some(Duration::from_secs(7)));
        assert_eq!(delay("Tue, 24 Nov 2026 10:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(delay("Tue, 24 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        for invalid in ["", "soon", "-1", "1.5"] {
            assert_eq!(delay(invalid), None, "{invalid}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn offset_is_parsed_from_message_of_ecr() {
        let offset = |text: &str| {
            let body = serde_json::json!({"errors": [{"code": "X", "message": text}]});
            response(StatusCode::RANGE_NOT_SATISFIABLE, &body.to_string()).expected_offset()
        };
        assert_eq!(
            offset("First byte of the layer part is 0 instead of 10485760"),
            Some(10_485_760)
        );
        assert_eq!(offset("First byte of the layer part is 5 instead of 7."), Some(7));
        for other in ["", "instead of", "instead of that", "the next byte of this upload is 7"] {
            assert_eq!(offset(other), None, "{other}");
        }
    }

    #[test]
    fn secret_is_redacted_in_every_form() {
        let secrets = Secrets::default().with_login("alice", "hunter2/é?").with("t-0123");
        let url = "http://h.example/hunter2/%C3%A9%3F?x".parse().unwrap();
        let basic = STANDARD.encode("alice:hunter2/é?");
        for text in ["hunter2/é?", "hunter2%2F%C3%A9%3F", "t-0123", &basic] {
            let bodies = [
                serde_json::json!({"errors": [{"code": text, "message": format!("no {text}")}]}),
                serde_json::json!(format!("<{text}>{text}")),
                serde_json::json!({"errors": [{"code": "X", "message": "x".repeat(390) + text}]}),
            ];
            for body in bodies {
                let (body, status) = (body.to_string(), StatusCode::BAD_REQUEST);
                let (method, headers) = (Method::GET, HeaderMap::new());
                let body = body.as_bytes();
                let error = DistributionError::new(method, &url, status, &headers, body, &secrets);
                let shown = format!("{error} {error:?} {secrets:?}");
                assert!(shown.contains("***"), "{shown}");
                for fragment in ["hunter2", "0123", &basic[..5]] {
                    assert!(!shown.contains(fragment), "{fragment}: {shown}");
                }
            }
        }
    }

    #[test]
    fn rate_limit_reset_is_read_from_headers() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let reset = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (reqwest::header::HeaderName::from_static(name), value.parse().unwrap())
            });
            rate_limit_reset(&headers.collect(), now).map(|delay| delay.as_secs())
        };
        for (headers, expected) in [
            (&[][..], None),
            (&[("retry-after", "7"), ("ratelimit-reset", "9")], Some(7)),
            (&[("ratelimit-reset", "3600")], Some(3600)),
            (&[("ratelimit-reset", "60;w=100")], Some(60)),
            (&[("x-ratelimit-reset", "1800000060")], Some(60)),
            (&[("x-retry-after", "1799999999")], Some(0)),
            (&[("ratelimit-remaining", "0;w=21600")], Some(21600)),
            (&[("ratelimit-remaining", "5;w=21600")], None),
            (&[("ratelimit-reset", "soon")], None),
            (&[("ratelimit-reset", "18446744073709551615")], None),
            (&[("retry-after", "18446744073709551615")], None),
        ] {
            assert_eq!(reset(headers), expected, "{headers:?}");
        }
    }
}
