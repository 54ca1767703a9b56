//! [`DistributionError`]: a registry's refusal, and the [`Error`] that it becomes.

use std::error::Error as _;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::error::{Error, ResourceKind};
use crate::model::{Access, Digest, Reference, RepositoryUrl};

/// The characters that are shown of a text that a registry chose.
const SHOWN_CHARS: usize = 400;

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
        let mut messages = Vec::new();
        let mut excerpt = String::new();
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => messages.extend(body.errors.into_iter().map(|entry| RegistryMessage {
                code: printable(&entry.code),
                message: printable(&entry.message.unwrap_or_default()),
            })),
            Err(_) => excerpt = printable(&String::from_utf8_lossy(body)),
        }
        let retry_after = retry_after(headers, SystemTime::now());
        Self { method, url: redacted(url), status, messages, excerpt, retry_after }
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
            let message = format!("{} refuses the credentials", repository.host());
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
            Error::temporary(format!("{} failed for now", context.target.attempt()))
                .with_source(self)
        } else {
            let message = format!("{} was refused", context.target.attempt());
            Error::failed(message).with_source(self)
        }
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
    pub(super) repository: &'a RepositoryUrl,
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
    fn named(&self, repository: &RepositoryUrl) -> (ResourceKind, String) {
        match self {
            Self::Repository => (ResourceKind::Repository, repository.to_string()),
            Self::Blob(digest) => (ResourceKind::Blob, format!("{digest} in {repository}")),
            Self::Upload => (ResourceKind::Upload, format!("to {repository}")),
            Self::Image(reference) => {
                (ResourceKind::Image, repository.image(reference.clone()).to_string())
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

/// Returns a URL without secrets: the query has the state of upload sessions and the keys of storage.
pub(super) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails for a URL that has a host, and one without has nothing to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Returns the error of a request without an answer.
pub(super) fn broken(method: &Method, url: &Url, error: reqwest::Error) -> Error {
    let what = format!("{method} {}", redacted(url));
    let error = error.without_url();
    if error.is_redirect() || error.is_builder() {
        Error::failed(what).with_source(error)
    } else if error.is_connect() {
        Error::temporary(format!("{what}: no connection")).with_source(error)
    } else {
        Error::temporary(format!("{what}: the connection broke")).with_source(error)
    }
}

/// Returns the error of a request that timed out.
pub(super) fn silent(method: &Method, url: &Url) -> Error {
    let message = format!("{method} {}: the registry did not respond in time", redacted(url));
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

/// Returns a text from outside as one line for a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(word);
        if let Some((cut, _)) = shown.char_indices().nth(SHOWN_CHARS) {
            shown.truncate(cut);
            shown.push('…');
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: StatusCode, body: &str) -> DistributionError {
        let url = "http://h.example/v2/a".parse().unwrap();
        DistributionError::new(Method::PATCH, &url, status, &HeaderMap::new(), body.as_bytes())
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
}
