//! The queue of a transfer: several blobs at once, the large ones first; and how many at once.

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

/// Blobs below this size cost a round trip, and not the link: they do not count against the limit.
const SMALL_BLOB_BYTES: u64 = 1024 * 1024;
/// How many are on their way at once at most, small ones too.
const MAX_CONCURRENT_BLOBS: usize = 16;
/// How often the progress is told, and the link watched.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How far a part is, counted where it is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns a function that counts the pieces of a copy, and ends it when `transfer` was dropped.
    pub(super) fn counting(&self, transfer: &Arc<()>) -> impl FnMut(u64) -> bool + Send + 'static {
        let (counter, transfer) = (self.clone(), Arc::downgrade(transfer));
        move |length| {
            counter.add(length);
            transfer.strong_count() > 0
        }
    }

    /// Counts again from the start, or from where the registry has it.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part that is being sent.
struct Running {
    index: usize,
    is_large: bool,
    counter: Counter,
    told: u64,
}

impl Transfer<'_> {
    /// Writes the blobs that are not `there`, and returns the outcome of each, in their order.
    pub(super) async fn write(
        &self,
        blobs: &[Blob],
        known: &[Option<Descriptor>],
        there: &[bool],
    ) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; blobs.len()];
        let mut waiting = Vec::new();
        for (index, blob) in blobs.iter().enumerate() {
            match &known[index] {
                Some(descriptor) if there[index] => {
                    let (descriptor, state) = (descriptor.clone(), BlobState::Exists);
                    self.tell(Event::Blob { blob: blob.digest(), state });
                    outcomes[index] = Some(Outcome::unsent(descriptor, state));
                }
                _ => waiting.push(index),
            }
        }
        // The largest last, where it is taken from.
        waiting.sort_by_key(|index| blobs[*index].size());

        let mut limit = Limit::new(self.concurrency, Instant::now());
        let (mut sending, mut running) = (FuturesUnordered::new(), Vec::<Running>::new());
        let (mut moved, mut overloads) = (0, self.target.overloads());
        loop {
            while let Some(index) = self.next(&mut waiting, blobs, &running, &limit) {
                let counter = Counter::default();
                let is_large = blobs[index].size() >= SMALL_BLOB_BYTES;
                running.push(Running { index, is_large, counter: counter.clone(), told: 0 });
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
                    moved += self.tell_moved(&mut running, blobs);
                    running.retain(|part| part.index != index);
                    let outcome = outcome?;
                    let blob = blobs[index].digest();
                    self.tell(Event::Blob { blob, state: outcome.state });
                    outcomes[index] = Some(outcome);
                }
                Either::Left((None, _)) => break,
                Either::Right(_) => moved += self.tell_moved(&mut running, blobs),
            }
            let asked = self.target.overloads();
            if asked > overloads {
                overloads = asked;
                limit.spare(Instant::now(), moved);
            }
            limit.watch(moved, !waiting.is_empty(), Instant::now());
        }
        outcomes
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::failed("a blob of the image was neither transferred nor found"))
    }

    /// The next part to send, if another may be sent now.
    fn next(
        &self,
        waiting: &mut Vec<usize>,
        blobs: &[Blob],
        running: &[Running],
        limit: &Limit,
    ) -> Option<usize> {
        let most = self.concurrency.unwrap_or(MAX_CONCURRENT_BLOBS);
        if running.len() >= most {
            return None;
        }
        let large = running.iter().filter(|part| part.is_large).count();
        if large < limit.current() {
            return waiting.pop();
        }
        // The small ones are at the front, the smallest first.
        let first = *waiting.first()?;
        (blobs[first].size() < SMALL_BLOB_BYTES).then(|| waiting.remove(0))
    }

    /// Tells how far the parts have come since it was last told, and how much that is together.
    fn tell_moved(&self, running: &mut [Running], blobs: &[Blob]) -> u64 {
        let mut forward = 0;
        for part in running {
            let now = part.counter.get();
            let bytes = now as i64 - part.told as i64;
            if bytes != 0 {
                let blob = blobs[part.index].digest();
                self.tell(Event::Moved { blob, bytes });
            }
            forward += now.saturating_sub(part.told);
            part.told = now;
        }
        forward
    }
}

/// What most links carry well, and what browsers and container tools begin with or end at.
const FIRST_LIMIT: usize = 4;
/// Beyond this more connections only share what there is.
const MAX_LIMIT: usize = 16;
/// How long a number of blobs at once is watched before another is tried.
const OBSERVATION_PERIOD: Duration = Duration::from_millis(400);
/// How much more must go through for more blobs at once to be worth it.
const MIN_SPEEDUP: f64 = 1.08;

/// The number of large blobs that are sent at once: it adapts to the link, or is fixed.
///
/// One more is tried for as long as that lets more through; where it does not, the last number stays.
/// A registry that asks to be spared halves it.
#[derive(Debug)]
pub(super) struct Limit {
    current: usize,
    adaptive: bool,
    /// Bytes a second before the last change.
    before: f64,
    watched_from: Instant,
    moved_then: u64,
}

impl Limit {
    pub(super) fn new(fixed: Option<usize>, now: Instant) -> Self {
        Self {
            current: fixed.unwrap_or(FIRST_LIMIT).max(1),
            adaptive: fixed.is_none(),
            before: 0.0,
            watched_from: now,
            moved_then: 0,
        }
    }

    /// How many may be sent at once.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Tries one more if the last change was worth it.
    ///
    /// `moved` are the bytes that went through in all; `full` says that one more would have been sent.
    pub(super) fn watch(&mut self, moved: u64, full: bool, now: Instant) {
        let elapsed = now.saturating_duration_since(self.watched_from);
        if !self.adaptive || elapsed < OBSERVATION_PERIOD {
            return;
        }
        let rate = moved.saturating_sub(self.moved_then) as f64 / elapsed.as_secs_f64();
        (self.watched_from, self.moved_then) = (now, moved);
        if full && rate > self.before * MIN_SPEEDUP {
            self.before = rate;
            self.current = (self.current + 1).min(MAX_LIMIT);
        }
    }

    /// The registry asked to be spared, or did not answer in time.
    pub(super) fn spare(&mut self, now: Instant, moved: u64) {
        if self.adaptive {
            self.current = (self.current / 2).max(1);
            // What went through while it refused is no measure.
            (self.before, self.watched_from, self.moved_then) = (f64::INFINITY, now, moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches for a while in which `rate` bytes a second go through at the current number.
    fn settle(limit: &mut Limit, rate: impl Fn(usize) -> f64) -> usize {
        let (mut now, mut moved) = (limit.watched_from, limit.moved_then);
        for _ in 0..100 {
            now += OBSERVATION_PERIOD;
            moved += (rate(limit.current()) * OBSERVATION_PERIOD.as_secs_f64()) as u64;
            limit.watch(moved, true, now);
        }
        limit.current()
    }

    #[test]
    fn it_grows_while_more_goes_through() {
        let now = Instant::now();
        let each_has_its_own = |at_once: usize| at_once as f64 * 1e6;
        // The fourteenth brings a thirteenth more, and that is not worth it.
        assert_eq!(settle(&mut Limit::new(None, now), each_has_its_own), 14);
        let five_fill_it = |at_once: usize| at_once.min(6) as f64 * 1e6;
        assert_eq!(settle(&mut Limit::new(None, now), five_fill_it), 7);
        let one_fills_it = |_| 1e6;
        assert_eq!(settle(&mut Limit::new(None, now), one_fills_it), FIRST_LIMIT + 1);
    }

    #[test]
    fn what_is_fixed_stays() {
        let now = Instant::now();
        let mut limit = Limit::new(Some(2), now);
        assert_eq!(settle(&mut limit, |at_once| at_once as f64 * 1e6), 2);
        limit.spare(now, 0);
        assert_eq!(limit.current(), 2);
        assert_eq!(Limit::new(Some(0), now).current(), 1);
    }

    #[test]
    fn a_registry_that_asks_is_spared() {
        let now = Instant::now();
        let mut limit = Limit::new(None, now);
        limit.spare(now, 0);
        assert_eq!(limit.current(), FIRST_LIMIT / 2);
        assert_eq!(settle(&mut limit, |at_once| at_once as f64 * 1e6), FIRST_LIMIT / 2);
        for _ in 0..9 {
            limit.spare(now, 0);
        }
        assert_eq!(limit.current(), 1);
    }

    #[test]
    fn nothing_is_learned_where_there_is_nothing_more_to_send() {
        let start = Instant::now();
        let mut limit = Limit::new(None, start);
        limit.watch(1 << 30, false, start + OBSERVATION_PERIOD);
        assert_eq!(limit.current(), FIRST_LIMIT);
    }
}
