//! [`Retry`]: retries operations that fail with a temporary error.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::error::{DistributionError, is_unreachable, timed_out};
use crate::error::{Error, Result};
use crate::observability;

/// The maximum number of retries of one operation. With the default delays, they take half a minute: enough time for a
/// registry to restart.
const DEFAULT_RETRIES: u32 = 8;
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The maximum total delay of one operation before the first connection.
const MAX_UNREACHABLE_DELAY: Duration = Duration::from_secs(5);
/// The maximum difference between failed and successful requests that share a budget.
const RETRY_BUDGET: u32 = 64;
/// The maximum total delay of one operation that a registry can request.
const MAX_RETRY_AFTER_DELAY: Duration = Duration::from_secs(120);

/// A retry policy for temporary errors: exponential backoff, or the delay that the registry requests.
///
/// # Behavior
/// - An operation is retried up to 8 times. The first delay is 0.25 s and doubles each time, up to 10 s. Half of each
///   delay is random.
/// - A `Retry-After` of a registry, or the reset time of its rate limit, sets the minimum delay. If the total delay of
///   an operation would exceed 120 s, the operation is not retried.
/// - Before the first connection, the total delay of an operation is at most 5 s. A wrong host or port therefore fails
///   within 5 s.
/// - Clones share one budget: no operation is retried while 64 more requests have failed than succeeded, so that
///   retries do not overload a failing registry.
///
/// ```
/// use std::time::Duration;
///
/// use ark_container_core::Error;
/// use ark_container_core::distribution::Retry;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ark_container_core::Result<()> {
/// let retry = Retry::default().with_retries(20).with_delays(Duration::ZERO, Duration::ZERO);
/// let mut tries = 0;
/// let result = retry.run(|| {
///     tries += 1;
///     let result = if tries < 3 { Err(Error::temporary("the service restarts")) } else { Ok(42) };
///     async { result }
/// });
/// assert_eq!(result.await?, 42);
/// assert_eq!(retry.retries(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    max_retries: u32,
    first_delay: Duration,
    max_delay: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    budget: AtomicU32,
    retries: AtomicU64,
    overloads: AtomicU64,
    reached: AtomicBool,
}

impl Default for Retry {
    fn default() -> Self {
        let shared = Shared {
            budget: AtomicU32::new(RETRY_BUDGET),
            retries: AtomicU64::new(0),
            overloads: AtomicU64::new(0),
            reached: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        Self {
            max_retries: DEFAULT_RETRIES,
            first_delay: FIRST_DELAY,
            max_delay: MAX_DELAY,
            shared,
        }
    }
}

impl Retry {
    /// Returns a policy without retries.
    pub fn never() -> Self {
        Self::default().with_retries(0)
    }

    /// Sets the maximum number of retries of one operation. The default is 8.
    pub fn with_retries(self, max_retries: u32) -> Self {
        Self { max_retries, ..self }
    }

    /// Sets the first delay, which doubles with each failure, and the maximum delay. Half of each delay is random. The
    /// defaults are 0.25 s and 10 s.
    pub fn with_delays(self, first_delay: Duration, max_delay: Duration) -> Self {
        Self { first_delay, max_delay, ..self }
    }

    /// Returns the number of retries so far.
    pub fn retries(&self) -> u64 {
        self.shared.retries.load(Ordering::Relaxed)
    }

    /// Returns the number of responses with status 429 or 503, and of timeouts, so far.
    pub(crate) fn overloads(&self) -> u64 {
        self.shared.overloads.load(Ordering::Relaxed)
    }

    /// Starts the retries of one operation.
    pub(crate) fn tries(&self) -> Tries<'_> {
        Tries { retry: self, failures: 0, waited: Duration::ZERO }
    }

    /// Runs an operation until it succeeds, fails with an error that is not [temporary](Error::is_temporary), or has no
    /// retries left.
    ///
    /// # Errors
    /// The last error of the operation.
    pub async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tries = self.tries();
        loop {
            match attempt().await {
                Ok(done) => {
                    tries.succeeded();
                    return Ok(done);
                }
                Err(error) => sleep(tries.failed(error)?).await,
            }
        }
    }

    /// Returns the delay after `failures` failures.
    fn delay(&self, failures: u32) -> Duration {
        let doubled = self.first_delay.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let delay = doubled.min(self.max_delay);
        delay / 2 + (delay / 2).mul_f64(fraction())
    }
}

/// The retries of one operation.
#[derive(Debug)]
pub(crate) struct Tries<'a> {
    retry: &'a Retry,
    failures: u32,
    /// The total delay since the last success.
    waited: Duration,
}

impl Tries<'_> {
    /// Records a success, which resets the failures of this operation.
    pub(crate) fn succeeded(&mut self) {
        (self.failures, self.waited) = (0, Duration::ZERO);
        self.retry.shared.reached.store(true, Ordering::Relaxed);
        let earn = |budget: u32| (budget < RETRY_BUDGET).then_some(budget + 1);
        // An error means that the budget is full.
        let _ = self.retry.shared.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
    }

    /// Records a failure, and returns the delay before the retry.
    ///
    /// # Errors
    /// `error` if the operation must not be retried.
    pub(crate) fn failed(&mut self, error: Error) -> Result<Duration> {
        let Retry { max_retries, first_delay, shared, .. } = self.retry;
        if !error.is_temporary() {
            return Err(error);
        }
        let refusal = DistributionError::of(&error);
        let is_overloaded = refusal.is_some_and(|refusal| matches!(refusal.status(), 429 | 503));
        if is_overloaded || timed_out(&error) {
            shared.overloads.fetch_add(1, Ordering::Relaxed);
        }
        let requested = refusal.and_then(DistributionError::retry_after);
        let is_too_long =
            |requested: Duration| self.waited.saturating_add(requested) > MAX_RETRY_AFTER_DELAY;
        if self.failures >= *max_retries || requested.is_some_and(is_too_long) {
            return Err(error);
        }
        let delay = self.retry.delay(self.failures + 1);
        // A random addition, since other clients received the same delay.
        let delay = requested
            .map_or(delay, |requested| delay.max(requested + first_delay.mul_f64(fraction())));
        let was_reached = shared.reached.load(Ordering::Relaxed) || !is_unreachable(&error);
        if !was_reached && self.waited + delay > MAX_UNREACHABLE_DELAY {
            return Err(error);
        }
        let spend = |budget: u32| budget.checked_sub(1);
        if shared.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            return Err(error);
        }
        self.failures += 1;
        self.waited += delay;
        shared.retries.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(observability::RETRIES).increment(1);
        tracing::debug!(%error, ?delay, failures = self.failures, "retrying after a temporary error");
        Ok(delay)
    }
}

/// Returns a random number from 0 to 1.
fn fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, RETRY_AFTER};
    use reqwest::{Method, StatusCode};
    use tokio::time::Instant;

    use super::*;
    use crate::distribution::error::timeout_error;
    use crate::secrets::Secrets;

    fn error_with_status(status: u16, retry_after: Option<&str>) -> Error {
        let url = "http://h.example/v2/a".parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let headers = retry_after.map(|after| (RETRY_AFTER, after.parse().unwrap()));
        let headers = HeaderMap::from_iter(headers);
        let secrets = Secrets::default();
        let refusal = DistributionError::new(Method::GET, &url, status, &headers, b"", &secrets);
        Error::temporary("the request failed temporarily").with_source(refusal)
    }

    /// Fails until there are no retries left, and returns the total delay and the number of attempts.
    async fn exhaust(retry: &Retry, retry_after: Option<&str>) -> (Duration, u32) {
        let (started, mut count) = (Instant::now(), 0);
        let attempt = || {
            count += 1;
            let error = error_with_status(503, retry_after);
            async { Err::<(), _>(error) }
        };
        let error = retry.run(attempt).await.unwrap_err();
        assert!(error.is_temporary());
        (started.elapsed(), count)
    }

    #[tokio::test(start_paused = true)]
    async fn delay_doubles_and_half_of_it_is_random() {
        let retry = Retry::default();
        let (elapsed, count) = exhaust(&retry, None).await;
        assert_eq!(count, DEFAULT_RETRIES + 1);
        // 0.25, 0.5, 1, 2, 4, 8, 10 and 10 seconds.
        let max = Duration::from_millis(35_750);
        assert!(max / 2 <= elapsed && elapsed <= max + Duration::from_millis(10), "{elapsed:?}");
        let (again, _) = exhaust(&Retry::default(), None).await;
        assert_ne!(again, elapsed);
        assert_eq!((retry.retries(), retry.overloads()), (8, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_waits_for_retry_after() {
        let retry = Retry::default().with_retries(2);
        let (elapsed, count) = exhaust(&retry, Some("30")).await;
        assert_eq!(count, 3);
        assert!(elapsed >= Duration::from_secs(60) && elapsed < Duration::from_secs(62));
        let (elapsed, count) = exhaust(&retry, Some("3600")).await;
        assert_eq!((elapsed, count), (Duration::ZERO, 1));
        let (elapsed, count) = exhaust(&Retry::default(), Some("50")).await;
        assert_eq!((elapsed.as_secs() / 10, count), (10, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn clones_share_a_retry_budget() {
        let retry = Retry::default().with_retries(u32::MAX);
        assert_eq!(exhaust(&retry, None).await.1, RETRY_BUDGET + 1);
        let clone = retry.clone();
        assert_eq!(exhaust(&clone, None).await.1, 1);
        for _ in 0..3 {
            clone.run(|| async { Ok(()) }).await.unwrap();
        }
        assert_eq!(exhaust(&retry, None).await.1, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_error_is_not_retried() {
        let started = Instant::now();
        let attempt = || async { Err::<(), _>(Error::invalid("nonsense")) };
        let error = Retry::default().run(attempt).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }));
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(exhaust(&Retry::never(), None).await.1, 1);
    }

    #[test]
    fn timeout_counts_as_overload() {
        let retry = Retry::default();
        let mut tries = retry.tries();
        tries.failed(timeout_error(&Method::GET, "http://h.example/")).unwrap();
        tries.failed(error_with_status(502, None)).unwrap();
        assert_eq!((retry.overloads(), retry.retries()), (1, 2));
        tries.failed(error_with_status(429, None)).unwrap();
        assert_eq!((retry.overloads(), retry.retries()), (2, 3));
    }
}
