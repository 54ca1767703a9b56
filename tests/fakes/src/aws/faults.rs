//! [`Fault`]: a fault of AWS on demand.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::random::SeededRandom;

/// The kind of a fault.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Throttle,
    ServerError,
    Error { code: String, message: String },
    Cut,
    LostAnswer,
    Slow(Duration),
    ExpiredToken,
    ShortPage(usize),
    RepeatedToken,
    ExpiredPageToken,
}

/// A fault of AWS on demand. By default, the fault affects all requests.
///
/// ```
/// use ark_container_fakes::aws::Fault;
///
/// let third_page_is_throttled = Fault::throttle().on("ecr:DescribeRepositories").after(2).times(1);
/// # drop(third_page_is_throttled);
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    kind: Kind,
    action: Option<String>,
    skipped: u32,
    remaining: Option<u32>,
    probability: f64,
}

impl Fault {
    fn new(kind: Kind) -> Self {
        Self { kind, action: None, skipped: 0, remaining: None, probability: 1.0 }
    }

    /// Creates a fault that responds with the service's throttling error.
    pub fn throttle() -> Self {
        Self::new(Kind::Throttle)
    }

    /// Creates a fault that responds with a failure of the service and status 500.
    pub fn server_error() -> Self {
        Self::new(Kind::ServerError)
    }

    /// Creates a fault that responds with an error code, such as `KmsException`, and status 400.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Kind::Error { code: code.into(), message: message.into() })
    }

    /// Creates a fault that closes the connection without a response and without the operation.
    pub fn cut() -> Self {
        Self::new(Kind::Cut)
    }

    /// Creates a fault that closes the connection without a response after the operation.
    pub fn lost_answer() -> Self {
        Self::new(Kind::LostAnswer)
    }

    /// Creates a fault that delays the response.
    pub fn slow(delay: Duration) -> Self {
        Self::new(Kind::Slow(delay))
    }

    /// Creates a fault that reports the credentials of the request as expired.
    pub fn expired_token() -> Self {
        Self::new(Kind::ExpiredToken)
    }

    /// Creates a fault that limits pages of listings to `size` entries, which may be 0. The next page has the rest.
    pub fn short_page(size: usize) -> Self {
        Self::new(Kind::ShortPage(size))
    }

    /// Creates a fault that makes a page of a listing name itself as the next one.
    pub fn repeated_token() -> Self {
        Self::new(Kind::RepeatedToken)
    }

    /// Creates a fault that reports the page token of a request as expired. A request for a first page has no token.
    ///
    /// Source: `PaginationToken` of GetResources: a token is valid for 15 minutes.
    pub fn expired_page_token() -> Self {
        Self::new(Kind::ExpiredPageToken)
    }

    /// Restricts the fault to an action, such as `ecr:CreateRepository`.
    pub fn on(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// Skips the first `count` requests.
    pub fn after(mut self, count: u32) -> Self {
        self.skipped = count;
        self
    }

    /// Limits the fault to `count` requests.
    pub fn times(mut self, count: u32) -> Self {
        self.remaining = Some(count);
        self
    }

    /// Sets the probability, from 0 to 1, that the fault affects a request. The fake's
    /// [seed](super::FakeAwsBuilder::with_seed) determines the affected requests.
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// The active faults.
#[derive(Debug)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    faults: Vec<Fault>,
    random: SeededRandom,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(State { faults: Vec::new(), random: SeededRandom::new(seed) }))
    }

    pub(super) fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    pub(super) fn clear(&self) {
        self.state().faults.clear();
    }

    /// Returns the faults of the next request for `action`, and counts them.
    pub(super) fn next(&self, action: &str) -> Vec<Kind> {
        let State { faults, random } = &mut *self.state();
        let mut met = Vec::new();
        for fault in faults {
            let concerned = fault.action.as_ref().is_none_or(|wanted| wanted == action);
            if !concerned || fault.remaining == Some(0) {
                continue;
            }
            if fault.skipped > 0 {
                fault.skipped -= 1;
                continue;
            }
            if fault.probability < 1.0 && random.next_fraction() >= fault.probability {
                continue;
            }
            fault.remaining = fault.remaining.map(|remaining| remaining - 1);
            met.push(fault.kind.clone());
        }
        met
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_affects_requests_of_its_action() {
        let faults = Faults::new(0);
        faults.add(Fault::throttle().on("ecr:A").after(1).times(2));
        let met: Vec<usize> = ["ecr:A", "ecr:B", "ecr:A", "ecr:A", "ecr:A"]
            .map(|action| faults.next(action).len())
            .into();
        assert_eq!(met, [0, 0, 1, 1, 0]);
        faults.add(Fault::cut());
        assert_eq!(faults.next("ecr:B"), [Kind::Cut]);
        faults.clear();
        assert_eq!(faults.next("ecr:B"), []);
    }

    #[test]
    fn probability_is_repeatable() {
        let run = |seed| {
            let faults = Faults::new(seed);
            faults.add(Fault::throttle().with_probability(0.25));
            (0..1000).map(|_| faults.next("ecr:A").len()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let met: usize = run(7).iter().sum();
        assert!((200..300).contains(&met), "{met}");
    }
}
