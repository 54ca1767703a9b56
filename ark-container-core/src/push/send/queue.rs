//! Sending the parts that the repository lacks, several at once, the large ones first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::limit::Limit;
use super::{Outcome, Sender};
use crate::error::{Error, Result};
use crate::model::Descriptor;
use crate::push::{BlobState, Event, Part};

/// Blobs below this size cost a round trip, and not the link: they do not count against the limit.
const SMALL: u64 = 1024 * 1024;
/// How many are on their way at once at most, small ones too.
const MOST_AT_ONCE: usize = 16;
/// How often the progress is told, and the link watched.
const TICK: Duration = Duration::from_millis(100);

/// How far a part is, counted where it is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
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

impl Sender<'_> {
    /// Sends the parts that are not `there`, and tells what became of each, in their order.
    pub(super) async fn send_parts(
        &self,
        parts: &[Part<'_>],
        known: &[Option<Descriptor>],
        there: &[bool],
    ) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; parts.len()];
        let mut waiting = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            match &known[index] {
                Some(descriptor) if there[index] => {
                    let (descriptor, state) = (descriptor.clone(), BlobState::Exists);
                    self.tell(Event::Blob { blob: part.local().digest(), state });
                    outcomes[index] = Some(Outcome::unsent(descriptor, state));
                }
                _ => waiting.push(index),
            }
        }
        // The largest last, where it is taken from.
        waiting.sort_by_key(|index| parts[*index].local().size());

        let mut limit = Limit::new(self.concurrency, Instant::now());
        let (mut sending, mut running) = (FuturesUnordered::new(), Vec::<Running>::new());
        let (mut moved, mut overloads) = (0, self.client.retry().overloads());
        loop {
            while let Some(index) = self.next(&mut waiting, parts, &running, &limit) {
                let counter = Counter::default();
                let is_large = parts[index].local().size() >= SMALL;
                running.push(Running { index, is_large, counter: counter.clone(), told: 0 });
                let known = known[index].as_ref();
                sending.push(async move {
                    (index, self.send_part(parts[index], known, &counter).await)
                });
            }
            if sending.is_empty() {
                break;
            }
            match select(sending.next(), std::pin::pin!(sleep(TICK))).await {
                Either::Left((Some((index, outcome)), _)) => {
                    moved += self.tell_moved(&mut running, parts);
                    running.retain(|part| part.index != index);
                    let outcome = outcome?;
                    let blob = parts[index].local().digest();
                    self.tell(Event::Blob { blob, state: outcome.state });
                    outcomes[index] = Some(outcome);
                }
                Either::Left((None, _)) => break,
                Either::Right(_) => moved += self.tell_moved(&mut running, parts),
            }
            let asked = self.client.retry().overloads();
            if asked > overloads {
                overloads = asked;
                limit.spare(Instant::now(), moved);
            }
            limit.watch(moved, !waiting.is_empty(), Instant::now());
        }
        outcomes
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::failed("a part of the image was neither sent nor found"))
    }

    /// The next part to send, if another may be sent now.
    fn next(
        &self,
        waiting: &mut Vec<usize>,
        parts: &[Part<'_>],
        running: &[Running],
        limit: &Limit,
    ) -> Option<usize> {
        let most = self.concurrency.unwrap_or(MOST_AT_ONCE);
        if running.len() >= most {
            return None;
        }
        let large = running.iter().filter(|part| part.is_large).count();
        if large < limit.current() {
            return waiting.pop();
        }
        // The small ones are at the front, the smallest first.
        let first = *waiting.first()?;
        (parts[first].local().size() < SMALL).then(|| waiting.remove(0))
    }

    /// Tells how far the parts have come since it was last told, and how much that is together.
    fn tell_moved(&self, running: &mut [Running], parts: &[Part<'_>]) -> u64 {
        let mut forward = 0;
        for part in running {
            let now = part.counter.get();
            let bytes = now as i64 - part.told as i64;
            if bytes != 0 {
                let blob = parts[part.index].local().digest();
                self.tell(Event::Moved { blob, bytes });
            }
            forward += now.saturating_sub(part.told);
            part.told = now;
        }
        forward
    }
}
