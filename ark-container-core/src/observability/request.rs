//! [`ObservedRequest`]: one try of a request to a registry.

use std::time::Instant;

use metrics::{counter, histogram};
use tracing::Span;

use super::{REQUEST_SECONDS, REQUESTS};

/// A try of a request, which is counted when it is dropped, and the span around it.
#[derive(Debug)]
pub(crate) struct ObservedRequest {
    method: String,
    status: Option<u16>,
    started: Instant,
    span: Span,
}

impl ObservedRequest {
    /// A try that begins now; `url`, which is asked for where somebody listens, is one that may be shown.
    pub(crate) fn start(method: &str, url: impl FnOnce() -> String) -> Self {
        let span = tracing::debug_span!(
            "ark.request",
            method,
            url = url(),
            status = tracing::field::Empty
        );
        Self { method: method.to_owned(), status: None, started: Instant::now(), span }
    }

    /// The span around it.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Notes the answer.
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
