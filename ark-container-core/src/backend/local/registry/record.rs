//! [`Record`]: one event in the log for every request, when its answer has been sent or cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::{Method, StatusCode};
use metrics::{counter, histogram};

use super::body::Body;
use crate::observability::{SERVED, SERVED_BYTES, SERVED_SECONDS};

/// What the log says of a request: nothing of its headers, and no names. It is written on drop.
#[derive(Debug)]
pub(super) struct Record {
    method: Method,
    kind: &'static str,
    started: Instant,
    status: Option<StatusCode>,
    received: u64,
    sent: u64,
}

impl Record {
    /// A record of a request that begins now.
    pub(super) fn start(method: Method, kind: &'static str) -> Self {
        Self { method, kind, started: Instant::now(), status: None, received: 0, sent: 0 }
    }

    /// Notes the answer, and how much had come when it was given.
    pub(super) fn answered(&mut self, status: StatusCode, received: u64) {
        self.status = Some(status);
        self.received = received;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let status = self.status.as_ref().map_or("none", StatusCode::as_str).to_owned();
        let labels = [
            ("method", method_label(&self.method)),
            ("kind", self.kind.to_owned()),
            ("status", status),
        ];
        counter!(SERVED, &labels).increment(1);
        histogram!(SERVED_SECONDS, &labels).record(elapsed.as_secs_f64());
        counter!(SERVED_BYTES, "direction" => "received").increment(self.received);
        counter!(SERVED_BYTES, "direction" => "sent").increment(self.sent);
        tracing::info!(
            method = %self.method,
            kind = self.kind,
            // 0: the client went away before there was an answer.
            status = self.status.map_or(0, |status| status.as_u16()),
            received = self.received,
            sent = self.sent,
            milliseconds = elapsed.as_millis() as u64,
            "request"
        );
    }
}

/// A method as a label: any word may come as one, and labels are to stay few.
fn method_label(method: &Method) -> String {
    let known =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if known.contains(method) { method.to_string() } else { "other".to_owned() }
}

/// A response's body that tells the record what has been sent of it.
#[derive(Debug)]
pub(super) struct Recorded {
    body: Body,
    record: Record,
}

impl Recorded {
    pub(super) fn new(body: Body, record: Record) -> Self {
        Self { body, record }
    }
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.record.sent += bytes.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
