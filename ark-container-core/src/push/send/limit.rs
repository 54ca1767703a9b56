//! [`Limit`]: how many large blobs are sent at once.

use std::time::{Duration, Instant};

/// What most links carry well, and what browsers and container tools begin with or end at.
const FIRST: usize = 4;
/// Beyond this more connections only share what there is.
const MOST: usize = 16;
/// How long a number of blobs at once is watched before another is tried.
const WATCHED: Duration = Duration::from_millis(400);
/// How much more must go through for more blobs at once to be worth it.
const WORTH: f64 = 1.08;

/// How many large blobs are sent at once: as many as the link likes, or a number that was fixed.
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
            current: fixed.unwrap_or(FIRST).max(1),
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
        if !self.adaptive || elapsed < WATCHED {
            return;
        }
        let rate = moved.saturating_sub(self.moved_then) as f64 / elapsed.as_secs_f64();
        (self.watched_from, self.moved_then) = (now, moved);
        if full && rate > self.before * WORTH {
            self.before = rate;
            self.current = (self.current + 1).min(MOST);
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
            now += WATCHED;
            moved += (rate(limit.current()) * WATCHED.as_secs_f64()) as u64;
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
        assert_eq!(settle(&mut Limit::new(None, now), one_fills_it), FIRST + 1);
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
        assert_eq!(limit.current(), FIRST / 2);
        assert_eq!(settle(&mut limit, |at_once| at_once as f64 * 1e6), FIRST / 2);
        for _ in 0..9 {
            limit.spare(now, 0);
        }
        assert_eq!(limit.current(), 1);
    }

    #[test]
    fn nothing_is_learned_where_there_is_nothing_more_to_send() {
        let start = Instant::now();
        let mut limit = Limit::new(None, start);
        limit.watch(1 << 30, false, start + WATCHED);
        assert_eq!(limit.current(), FIRST);
    }
}
