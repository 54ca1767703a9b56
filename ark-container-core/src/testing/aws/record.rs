//! [`Call`]: what was asked of the fake.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One request, in the order in which the answers were given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// As policies name it, such as `ecr:CreateRepository`.
    pub action: String,
    /// The ARNs that the principal's policies were asked about, or `*`.
    pub resources: Vec<String>,
    /// The ARN of who signed it, where that is known.
    pub principal: Option<String>,
    /// The code of the error that it was answered with; `None` if it succeeded.
    pub error: Option<String>,
    /// The identifier that the answer had in `x-amzn-RequestId`.
    pub request_id: String,
}

/// Every call so far.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<Call>>);

impl Record {
    pub(super) fn add(&self, call: Call) {
        self.calls().push(call);
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
