//! The queue of a transfer: sends several blobs concurrently, the largest first; and [`ConcurrencyLimit`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::blob::Blob;
use super::engine::{Outcome, Transfer};
use super::progress::{BlobState, Event};
use crate::error::{Error, Result};
use crate::model::Descriptor;

/// The minimum size of a large blob. Smaller blobs hardly load the link, and do not count against the limit.
const MIN_LARGE_BLOB_BYTES: u64 = 1024 * 1024;
/// The maximum number of concurrent blobs, including small ones.
const MAX_CONCURRENT_BLOBS: usize = 16;
/// The interval of progress reports and of measurements of the link.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// The number of transferred bytes of a blob, counted when they are read.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns a function that counts the pieces of a copy, and stops the copy after `transfer` is dropped.
    pub(super) fn counting(&self, transfer: &Arc<()>) -> impl FnMut(u64) -> bool + Send + 'static {
        let (counter, transfer) = (self.clone(), Arc::downgrade(transfer));
        move |length| {
            counter.add(length);
            transfer.strong_count() > 0
        }
    }

    /// Sets the number of bytes, to restart or resume the blob.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A blob in transfer.
struct RunningBlob {
    index: usize,
    is_large: bool,
    counter: Counter,
    reported: u64,
}

impl Transfer<'_> {
    /// Writes the blobs that do not exist, and returns the outcomes in the order of the blobs.
    pub(super) async fn write(
        &self,
        blobs: &[Blob],
        known: &[Option<Descriptor>],
        exists: &[bool],
    ) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; blobs.len()];
        let mut waiting = Vec::new();
        for (index, blob) in blobs.iter().enumerate() {
            match &known[index] {
                Some(descriptor) if exists[index] => {
                    let (descriptor, state) = (descriptor.clone(), BlobState::Exists);
                    self.tell(Event::Blob { blob: blob.digest(), state });
                    outcomes[index] = Some(Outcome::unsent(descriptor, state));
                }
                _ => waiting.push(index),
            }
        }
        // The largest last, since `pop` takes the last.
        waiting.sort_by_key(|index| blobs[*index].size());

        let mut limit = ConcurrencyLimit::new(self.concurrency, Instant::now());
        let (mut sending, mut running) = (FuturesUnordered::new(), Vec::<RunningBlob>::new());
        let (mut moved, mut overloads) = (0, self.target.overloads());
        loop {
            while let Some(index) = self.next(&mut waiting, blobs, &running, &limit) {
                let counter = Counter::default();
                let is_large = blobs[index].size() >= MIN_LARGE_BLOB_BYTES;
                running.push(RunningBlob {
                    index,
                    is_large,
                    counter: counter.clone(),
                    reported: 0,
                });
                let known = known[index].as_ref();
                sending.push(async move {
                    (index, self.target.write(&blobs[index], known, &counter).await)
                });
            }
            if sending.is_empty() {
                break;
            }
            match select(sending.next(), std::pin::pin!(sleep(REPORT_INTERVAL))).await {
                Either::Left((Some((index, outcome)), _)) => {
                    moved += self.report_moved(&mut running, blobs);
                    running.retain(|blob| blob.index != index);
                    let outcome = outcome?;
                    let blob = blobs[index].digest();
                    self.tell(Event::Blob { blob, state: outcome.state });
                    outcomes[index] = Some(outcome);
                }
                Either::Left((None, _)) => break,
                Either::Right(_) => moved += self.report_moved(&mut running, blobs),
            }
            let current_overloads = self.target.overloads();
            if current_overloads > overloads {
                overloads = current_overloads;
                limit.halve(Instant::now(), moved);
            }
            limit.adapt(moved, !waiting.is_empty(), Instant::now());
        }
        outcomes
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::failed("a blob of the image was neither transferred nor found"))
    }

    /// Takes the index of the next blob from `waiting`, if the limits allow another blob.
    fn next(
        &self,
        waiting: &mut Vec<usize>,
        blobs: &[Blob],
        running: &[RunningBlob],
        limit: &ConcurrencyLimit,
    ) -> Option<usize> {
        let max = self.concurrency.unwrap_or(MAX_CONCURRENT_BLOBS);
        if running.len() >= max {
            return None;
        }
        let large = running.iter().filter(|blob| blob.is_large).count();
        if large < limit.current() {
            return waiting.pop();
        }
        // The smallest blob is the first.
        let first = *waiting.first()?;
        (blobs[first].size() < MIN_LARGE_BLOB_BYTES).then(|| waiting.remove(0))
    }

    /// Reports the bytes of each blob since the last report, and returns their sum without the negative ones.
    fn report_moved(&self, running: &mut [RunningBlob], blobs: &[Blob]) -> u64 {
        let mut moved = 0;
        for running_blob in running {
            let current = running_blob.counter.get();
            let bytes = current as i64 - running_blob.reported as i64;
            if bytes != 0 {
                let blob = blobs[running_blob.index].digest();
                self.tell(Event::Moved { blob, bytes });
            }
            moved += current.saturating_sub(running_blob.reported);
            running_blob.reported = current;
        }
        moved
    }
}

/// The initial limit, which suits most links. Browsers and container tools use similar numbers.
const INITIAL_CONCURRENT_BLOBS: usize = 4;
/// The maximum limit. More connections hardly increase the throughput.
const MAX_CONCURRENT_LARGE_BLOBS: usize = 16;
/// The duration of a measurement, before the limit changes.
const MEASUREMENT_PERIOD: Duration = Duration::from_millis(400);
/// The minimum increase of the throughput that justifies a higher limit.
const MIN_SPEEDUP_FACTOR: f64 = 1.08;

/// The maximum number of concurrent large blobs, fixed or adapted to the link.
///
/// The limit grows by one while the throughput grows, and then stays. An overloaded registry halves it.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    current: usize,
    is_adaptive: bool,
    /// The throughput before the last change, in bytes per second.
    previous_rate: f64,
    /// The start of the current measurement.
    measured_from: Instant,
    /// The moved bytes at the start of the current measurement.
    moved_before: u64,
}

impl ConcurrencyLimit {
    pub(super) fn new(fixed: Option<usize>, now: Instant) -> Self {
        Self {
            current: fixed.unwrap_or(INITIAL_CONCURRENT_BLOBS).max(1),
            is_adaptive: fixed.is_none(),
            previous_rate: 0.0,
            measured_from: now,
            moved_before: 0,
        }
    }

    /// Returns the current limit.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Increases the limit by one if the last increase improved the throughput.
    ///
    /// `moved` is the total number of transferred bytes. `has_waiting` is whether more blobs are waiting.
    pub(super) fn adapt(&mut self, moved: u64, has_waiting: bool, now: Instant) {
        let elapsed = now.saturating_duration_since(self.measured_from);
        if !self.is_adaptive || elapsed < MEASUREMENT_PERIOD {
            return;
        }
        let rate = moved.saturating_sub(self.moved_before) as f64 / elapsed.as_secs_f64();
        (self.measured_from, self.moved_before) = (now, moved);
        if has_waiting && rate > self.previous_rate * MIN_SPEEDUP_FACTOR {
            self.previous_rate = rate;
            self.current = (self.current + 1).min(MAX_CONCURRENT_LARGE_BLOBS);
        }
    }

    /// Halves the limit, after the registry was overloaded or did not respond in time.
    pub(super) fn halve(&mut self, now: Instant, moved: u64) {
        if self.is_adaptive {
            self.current = (self.current / 2).max(1);
            // The throughput of an overloaded registry is no reason to increase the limit again.
            (self.previous_rate, self.measured_from, self.moved_before) =
                (f64::INFINITY, now, moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a link with `rate` bytes per second at the current limit, and returns the final limit.
    fn settle(limit: &mut ConcurrencyLimit, rate: impl Fn(usize) -> f64) -> usize {
        let (mut now, mut moved) = (limit.measured_from, limit.moved_before);
        for _ in 0..100 {
            now += MEASUREMENT_PERIOD;
            moved += (rate(limit.current()) * MEASUREMENT_PERIOD.as_secs_f64()) as u64;
            limit.adapt(moved, true, now);
        }
        limit.current()
    }

    #[test]
    fn limit_grows_with_the_throughput() {
        let now = Instant::now();
        let proportional = |concurrent: usize| concurrent as f64 * 1e6;
        // The fourteenth blob increases the throughput by a thirteenth, which is below the minimum.
        assert_eq!(settle(&mut ConcurrencyLimit::new(None, now), proportional), 14);
        let saturated_by_six = |concurrent: usize| concurrent.min(6) as f64 * 1e6;
        assert_eq!(settle(&mut ConcurrencyLimit::new(None, now), saturated_by_six), 7);
        let saturated_by_one = |_| 1e6;
        assert_eq!(
            settle(&mut ConcurrencyLimit::new(None, now), saturated_by_one),
            INITIAL_CONCURRENT_BLOBS + 1
        );
    }

    #[test]
    fn fixed_limit_does_not_change() {
        let now = Instant::now();
        let mut limit = ConcurrencyLimit::new(Some(2), now);
        assert_eq!(settle(&mut limit, |concurrent| concurrent as f64 * 1e6), 2);
        limit.halve(now, 0);
        assert_eq!(limit.current(), 2);
        assert_eq!(ConcurrencyLimit::new(Some(0), now).current(), 1);
    }

    #[test]
    fn overloaded_registry_halves_the_limit() {
        let now = Instant::now();
        let mut limit = ConcurrencyLimit::new(None, now);
        limit.halve(now, 0);
        assert_eq!(limit.current(), INITIAL_CONCURRENT_BLOBS / 2);
        assert_eq!(
            settle(&mut limit, |concurrent| concurrent as f64 * 1e6),
            INITIAL_CONCURRENT_BLOBS / 2
        );
        for _ in 0..9 {
            limit.halve(now, 0);
        }
        assert_eq!(limit.current(), 1);
    }

    #[test]
    fn limit_stays_without_waiting_blobs() {
        let start = Instant::now();
        let mut limit = ConcurrencyLimit::new(None, start);
        limit.adapt(1 << 30, false, start + MEASUREMENT_PERIOD);
        assert_eq!(limit.current(), INITIAL_CONCURRENT_BLOBS);
    }
}
