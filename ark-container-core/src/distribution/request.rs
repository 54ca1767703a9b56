//! [`Request`]: what is asked of a registry, as often as it takes.

use reqwest::header::HeaderName;
use reqwest::{Method, Url};
use tokio_util::bytes::Bytes;

/// A request that can be sent again: its content is in memory, or comes beside it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new() }
    }

    /// This request with one more header.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// This request with content.
    pub(super) fn body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }
}
