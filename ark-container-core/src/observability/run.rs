//! [`Run`]: the measurement of an operation or a transfer.

use std::fmt::Display;
use std::time::Instant;

use metrics::{counter, histogram};
use tracing::{Instrument, Span};

use super::{OPERATION_SECONDS, OPERATIONS};
#[cfg(feature = "push")]
use super::{TRANSFER_SECONDS, TRANSFERS};
use crate::error::{Error, Result};

/// The outcome of a run that is dropped before its end.
const DROPPED: &str = "dropped";
const DONE: &str = "done";

/// A measured run, with its span. Counts the run when it is dropped.
#[derive(Debug)]
pub(crate) struct Run {
    measure: Measure,
    span: Span,
    started: Instant,
    outcome: &'static str,
}

/// The kind of a run.
#[derive(Debug, Clone, Copy)]
enum Measure {
    Operation {
        action: &'static str,
    },
    #[cfg(feature = "push")]
    Transfer {
        transfer: &'static str,
    },
}

impl Run {
    /// Starts the run of a backend call, in a new span.
    pub(crate) fn operation(action: &'static str, resource: impl Display) -> Self {
        let span = tracing::info_span!("ark.operation", action, %resource, outcome = tracing::field::Empty);
        Self::start(Measure::Operation { action }, span)
    }

    /// Starts the run of a push, pull or copy, in a new span.
    #[cfg(feature = "push")]
    pub(crate) fn transfer(transfer: &'static str, repository: &dyn std::fmt::Display) -> Self {
        let span = tracing::info_span!(
            "ark.transfer",
            transfer,
            %repository,
            outcome = tracing::field::Empty
        );
        Self::start(Measure::Transfer { transfer }, span)
    }

    fn start(measure: Measure, span: Span) -> Self {
        Self { measure, span, started: Instant::now(), outcome: DROPPED }
    }

    /// Runs `work` in the span, and records the result.
    pub(crate) async fn around<T>(mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = work.instrument(self.span.clone()).await;
        self.ended(result.as_ref().map(|_| ()));
        result
    }

    /// Returns the span of the run.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the outcome.
    ///
    /// Only the first outcome counts: polling a listing after its error changes nothing.
    pub(crate) fn ended(&mut self, result: Result<(), &Error>) {
        if self.outcome == DROPPED {
            self.outcome = result.map_or_else(|error| error.kind().as_str(), |()| DONE);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let (outcome, seconds) = (self.outcome, self.started.elapsed().as_secs_f64());
        self.span.record("outcome", outcome);
        match self.measure {
            Measure::Operation { action } => {
                counter!(OPERATIONS, "action" => action, "outcome" => outcome).increment(1);
                histogram!(OPERATION_SECONDS, "action" => action, "outcome" => outcome)
                    .record(seconds);
            }
            #[cfg(feature = "push")]
            Measure::Transfer { transfer } => {
                counter!(TRANSFERS, "transfer" => transfer, "outcome" => outcome).increment(1);
                histogram!(TRANSFER_SECONDS, "transfer" => transfer, "outcome" => outcome)
                    .record(seconds);
            }
        }
    }
}
