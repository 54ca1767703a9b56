//! [`ObservedRequest`]: one try of a request to a registry.

use std::time::Instant;

use metrics::{counter, histogram};
use reqwest::{Method, StatusCode};
use tracing::Span;

use super::{REQUEST_SECONDS, REQUESTS};

/// A try of a request, which is counted when it is dropped, and the span around it.
#[derive(Debug)]
pub(crate) struct ObservedRequest {
    method: Method,
    status: Option<StatusCode>,
    started: Instant,
    span: Span,
}

impl ObservedRequest {
    /// A try that begins now; `url` is one that may be shown.
    pub(crate) fn start(method: &Method, url: &str) -> Self {
        let span =
            tracing::debug_span!("ark.request", %method, url, status = tracing::field::Empty);
        Self { method: method.clone(), status: None, started: Instant::now(), span }
    }

    /// The span around it.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Notes the answer.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.span.record("status", status.as_u16());
    }
}

impl Drop for ObservedRequest {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or("none", StatusCode::as_str).to_owned();
        let method = self.method.to_string();
        let labels = [("method", method), ("status", status)];
        counter!(REQUESTS, &labels).increment(1);
        histogram!(REQUEST_SECONDS, &labels).record(self.started.elapsed().as_secs_f64());
    }
}
