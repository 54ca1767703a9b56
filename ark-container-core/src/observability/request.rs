//! [`ObservedRequest`]: one attempt of a request to a registry.

use std::time::Instant;

use metrics::{counter, histogram};
use tracing::Span;

use super::{REQUEST_SECONDS, REQUESTS};

/// An attempt of a request, with its span. Counts the attempt when it is dropped.
#[derive(Debug)]
pub(crate) struct ObservedRequest {
    method: String,
    status: Option<u16>,
    started: Instant,
    span: Span,
}

impl ObservedRequest {
    /// Starts an attempt. `url` is called only if a subscriber needs it, and must contain no secret.
    pub(crate) fn start(method: &str, url: impl FnOnce() -> String) -> Self {
        let span = tracing::debug_span!(
            "ark.request",
            method,
            url = url(),
            status = tracing::field::Empty
        );
        Self { method: method.to_owned(), status: None, started: Instant::now(), span }
    }

    /// Returns the span of the attempt.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the status of the response.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        self.span.record("status", status);
    }
}

impl Drop for ObservedRequest {
    fn drop(&mut self) {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let labels = [("method", std::mem::take(&mut self.method)), ("status", status)];
        counter!(REQUESTS, &labels).increment(1);
        histogram!(REQUEST_SECONDS, &labels).record(self.started.elapsed().as_secs_f64());
    }
}
