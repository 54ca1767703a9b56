//! [`Call`]: what was asked of the fake.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One request of the API, or what one of the registry was judged by: an action each.
///
/// Calls come in the order in which the answers were given, those of the registry when they were judged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// As policies name it, such as `ecr:CreateRepository`.
    pub action: String,
    /// The ARNs that the principal's policies were asked about, or `*`.
    pub resources: Vec<String>,
    /// The ARN of who signed it, where that is known.
    pub principal: Option<String>,
    /// The code of the error that it was answered with; `None` if it succeeded, or the registry let it
    /// through.
    pub error: Option<String>,
    /// The identifier that the answer had in `x-amzn-RequestId`; empty for the registry's, which have
    /// none.
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
