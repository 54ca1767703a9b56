//! [`DistributionError`]: a registry's refusal, and the [`Error`] that it becomes.

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
const IMMUTABLE: &str = "the tags of this repository stay where they were first put";

/// An error message in a registry's answer.
///
/// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes>
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryMessage {
    /// The code, such as `NAME_UNKNOWN`. Registries have codes of their own besides the specified ones.
    pub code: String,
    /// The registry's text for people, which may be empty.
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

/// An unexpected answer of a registry: the `source` of the [`Error`] that it becomes.
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

    /// Returns the answer that is the direct source of an error.
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

    /// Returns the messages, if the answer has the specified form.
    pub fn messages(&self) -> &[RegistryMessage] {
        &self.messages
    }

    /// Returns the delay before a retry that the registry asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns whether one of the messages has this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.messages.iter().any(|message| message.code == code)
    }

    /// The messages of the registry, or the status if there are none.
    fn words(&self) -> String {
        if !self.messages.is_empty() {
            let messages: Vec<_> = self.messages.iter().map(ToString::to_string).collect();
            messages.join("; ")
        } else if !self.excerpt.is_empty() {
            self.excerpt.clone()
        } else {
            self.status.to_string()
        }
    }

    fn says(&self, text: &str) -> bool {
        self.messages.iter().any(|message| message.message.to_ascii_lowercase().contains(text))
    }

    /// Returns the error for the request that was refused.
    pub(super) fn into_error(self, context: &Context<'_>) -> Error {
        let repository = context.repository;
        // ECR answers 400 where a tag may not be moved, others 409.
        let immutable = self.says("immutable");
        let in_the_way = self.status == StatusCode::CONFLICT || immutable;
        // Then it is not the manifest that is missing but something that it names.
        let putting_manifest =
            self.method == Method::PUT && matches!(context.target, RequestTarget::Image(_));
        if self.refuses_login() {
            let message = match context.username {
                Some(_) => format!("{} refuses the credentials", repository.host()),
                None => format!("{repository} does not exist, or requires credentials"),
            };
            Error::unauthenticated(message).with_source(self)
        } else if in_the_way {
            let (kind, name) = context.target.named(repository);
            // Registries say so in many words, and name the image again.
            let why = if immutable { IMMUTABLE.to_owned() } else { self.words() };
            Error::conflict(kind, name, format!("cannot be changed: {why}"))
        } else if self.status == StatusCode::FORBIDDEN {
            let action = match context.access {
                Access::Pull => "pull from",
                Access::Push | Access::Delete => "push to",
            };
            let principal = match context.username {
                Some(username) => format!("the login as {username}"),
                None => "somebody without a login".to_owned(),
            };
            let resource = format!("{repository} ({})", self.words());
            Error::permission_denied(principal, action, resource)
        } else if self.has_code("NAME_UNKNOWN") {
            Error::not_found(ResourceKind::Repository, repository)
        } else if self.status == StatusCode::NOT_FOUND && !putting_manifest {
            let (kind, name) = context.target.named(repository);
            Error::not_found(kind, name)
        } else if self.is_temporary() {
            let attempt = context.target.attempt();
            let message = match self.reset_time() {
                Some(reset) => format!(
                    "{attempt} exceeds the rate limit of {}, which is reset {reset}",
                    repository.host()
                ),
                None => format!("{attempt} failed for now"),
            };
            Error::temporary(message).with_source(self)
        } else {
            let message = format!("{} was refused", context.target.attempt());
            Error::failed(message).with_source(self)
        }
    }

    /// Returns when the rate limit is reset that the request exceeds, as the end of a sentence.
    pub(super) fn reset_time(&self) -> Option<String> {
        let delay = self.retry_after.filter(|_| self.status == StatusCode::TOO_MANY_REQUESTS)?;
        let time = SystemTime::now().checked_add(delay)?;
        let delay = humantime::format_duration(Duration::from_secs(delay.as_secs()));
        Some(format!("in {delay}, at {}", humantime::format_rfc3339_seconds(time)))
    }

    /// Returns whether the login was refused, and not the request.
    pub(super) fn refuses_login(&self) -> bool {
        // ECR answers 403 to credentials that have expired.
        let expired = self.status == StatusCode::FORBIDDEN && self.says("token has expired");
        self.status == StatusCode::UNAUTHORIZED || expired
    }

    /// Returns the offset at which an upload continues, if the registry names it as AWS ECR does: "First byte
    /// of the layer part is 0 instead of 10485760".
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
        match self.words() {
            words if words != self.status.to_string() => write!(f, ": {words}"),
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
    /// Returns the object that is missing or in conflict, if the registry names no other.
    fn named(&self, repository: &Repository) -> (ResourceKind, String) {
        match self {
            Self::Repository => (ResourceKind::Repository, repository.to_string()),
            Self::Blob(digest) => (ResourceKind::Blob, format!("{digest} in {repository}")),
            Self::Upload => (ResourceKind::Upload, format!("to {repository}")),
            Self::Image(reference) => {
                (ResourceKind::Image, format!("{repository}{}{reference}", reference.separator()))
            }
        }
    }

    /// Returns the request as the start of a sentence.
    pub(super) fn attempt(&self) -> String {
        match self {
            Self::Repository => "the request to the repository".to_owned(),
            Self::Blob(digest) => format!("the request for blob {digest}"),
            Self::Upload => "the upload of a blob".to_owned(),
            Self::Image(reference) => format!("the request for manifest {reference}"),
        }
    }
}

/// Returns the error of a request without an answer.
pub(super) fn broken(method: &Method, shown_url: &str, error: reqwest::Error) -> Error {
    let what = format!("{method} {shown_url}");
    let error = error.without_url();
    if error.is_redirect() || error.is_builder() {
        Error::failed(what).with_source(error)
    } else if error.is_connect() && is_untrusted(&error) {
        untrusted(what).with_source(error)
    } else if error.is_connect() {
        Error::temporary(format!("{what}: no connection")).with_source(error)
    } else {
        Error::temporary(format!("{what}: the connection broke")).with_source(error)
    }
}

/// Returns the error of a request that timed out.
pub(super) fn silent(method: &Method, shown_url: &str) -> Error {
    let message = format!("{method} {shown_url}: the registry did not respond in time");
    Error::temporary(message).with_source(io::Error::from(io::ErrorKind::TimedOut))
}

/// Returns whether a timeout is the cause.
pub(super) fn timed_out(error: &Error) -> bool {
    error.source().is_some_and(|cause| {
        let silent = cause.downcast_ref::<io::Error>();
        silent.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
            || cause.downcast_ref().is_some_and(reqwest::Error::is_timeout)
    })
}

/// Returns whether no connection could be made.
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

/// The longest delay that is believed: a year.
const MAX_RESET: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Numbers above this one are a time in seconds since 1970, and no delay.
const MIN_UNIX_TIME: u64 = 1_000_000_000;

/// Returns the delay until a registry accepts requests again whose rate limit is exceeded.
///
/// Besides `Retry-After`, registries send the time or the delay of the reset, or the window of the limit, in
/// which it is reset at the latest: `ratelimit-remaining: 0;w=21600`.
///
/// Source: <https://docs.docker.com/docker-hub/usage/pulls/> and
/// <https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-07>
fn rate_limit_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |text: &str| {
        let digits = text.trim().split([';', ',', '.']).next()?;
        let seconds = digits.parse::<u64>().ok()?;
        if seconds < MIN_UNIX_TIME {
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
    (delay <= MAX_RESET).then_some(delay)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn answer(status: StatusCode, body: &str) -> DistributionError {
        let url = "http://h.example/v2/a".parse().unwrap();
        let (headers, secrets) = (HeaderMap::new(), Secrets::default());
        DistributionError::new(Method::PATCH, &url, status, &headers, body.as_bytes(), &secrets)
    }

    #[test]
    fn a_registry_says_in_two_ways_when_to_come_again() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 10:00:00 GMT").unwrap();
        let asked = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Tue, 24 Nov 2026 10:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(asked("Tue, 24 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "1.5"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn ecr_says_in_words_where_an_upload_goes_on() {
        let words = |text: &str| {
            let body = serde_json::json!({"errors": [{"code": "X", "message": text}]});
            answer(StatusCode::RANGE_NOT_SATISFIABLE, &body.to_string()).expected_offset()
        };
        assert_eq!(
            words("First byte of the layer part is 0 instead of 10485760"),
            Some(10_485_760)
        );
        assert_eq!(words("First byte of the layer part is 5 instead of 7."), Some(7));
        for other in ["", "instead of", "instead of that", "the next byte of this upload is 7"] {
            assert_eq!(words(other), None, "{other}");
        }
    }
    #[test]
    fn secret_is_struck_out_in_every_form() {
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
                for part in ["hunter2", "0123", &basic[..5]] {
                    assert!(!shown.contains(part), "{part}: {shown}");
                }
            }
        }
    }

    #[test]
    fn rate_limit_names_its_reset() {
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
