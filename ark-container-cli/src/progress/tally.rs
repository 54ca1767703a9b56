//! [`Tally`]: how far a transfer is, from what the library tells of it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use ark_container_core::model::Digest;
use ark_container_core::progress::{BlobState, Event};

use crate::output::{human_size, human_time};

/// Over which time the speed is measured: long enough to be steady, short enough to be true.
const MEASURED: Duration = Duration::from_secs(5);

/// How far a transfer is.
#[derive(Debug)]
pub(super) struct Tally {
    parts: HashMap<Digest, Part>,
    moved: u64,
    /// How much had moved when, the oldest first.
    samples: VecDeque<(Instant, u64)>,
}

/// How far one part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// In bytes, where it comes from.
    pub(super) size: u64,
    pub(super) moved: u64,
    /// `None` while it waits.
    pub(super) state: Option<BlobState>,
}

/// How far all of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) parts_done: usize,
    pub(super) parts: usize,
    pub(super) moved: u64,
    /// The bytes of all parts that are not there already.
    pub(super) total: u64,
    /// In bytes; `None` while it is not known.
    pub(super) per_second: Option<u64>,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self { parts: HashMap::new(), moved: 0, samples: VecDeque::from([(now, 0)]) }
    }

    /// Counts an event, and answers the part that it was about as it is now.
    pub(super) fn take<'a>(&mut self, event: &Event<'a>) -> Option<(&'a Digest, Part)> {
        match *event {
            Event::Found { blob, size, .. } => {
                let part = Part { size, moved: 0, state: None };
                self.parts.insert(blob.clone(), part);
                Some((blob, part))
            }
            Event::Blob { blob, state } => {
                let part = self.parts.get_mut(blob)?;
                part.state = Some(state);
                Some((blob, *part))
            }
            Event::Moved { blob, bytes } => {
                let part = self.parts.get_mut(blob)?;
                part.moved = part.moved.saturating_add_signed(bytes);
                self.moved = self.moved.saturating_add_signed(bytes);
                Some((blob, *part))
            }
            _ => None,
        }
    }

    /// How many parts there are.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// How far all of it is. To be asked now and then: the speed is told from one time to the other.
    pub(super) fn standing(&mut self, now: Instant) -> Standing {
        let is_old = |(time, _): &(Instant, u64)| now.duration_since(*time) > MEASURED;
        while self.samples.len() > 1 && self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        let per_second = self.samples.front().and_then(|(time, moved)| {
            let elapsed = now.duration_since(*time).as_secs_f64();
            let moved = self.moved.saturating_sub(*moved);
            (moved > 0 && elapsed > 0.0).then(|| (moved as f64 / elapsed) as u64)
        });
        self.samples.push_back((now, self.moved));
        let parts = self.parts.values();
        Standing {
            parts_done: parts.clone().filter(|part| part.is_done()).count(),
            parts: self.parts.len(),
            moved: self.moved,
            total: parts.filter(|part| !part.was_there()).map(|part| part.size).sum(),
            per_second,
        }
    }
}

impl Part {
    /// Whether nothing of it moves any more.
    pub(super) fn is_done(&self) -> bool {
        self.was_there() || matches!(self.state, Some(BlobState::Sent | BlobState::Fetched))
    }

    fn was_there(&self) -> bool {
        matches!(self.state, Some(BlobState::Exists | BlobState::Mounted))
    }

    /// What it is in, in a word.
    pub(super) fn word(&self) -> &'static str {
        self.state.map_or("waiting", word)
    }
}

impl Standing {
    /// How long the rest takes at this speed.
    pub(super) fn left(&self) -> Option<Duration> {
        let per_second = self.per_second.filter(|speed| *speed > 0)?;
        let rest = self.total.saturating_sub(self.moved);
        Some(Duration::from_secs(rest.div_ceil(per_second)))
    }
}

/// As a line, with what is known of speed and time.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parts_done, parts, moved, total, per_second } = *self;
        let (moved, total) = (human_size(moved), human_size(total));
        write!(f, "{parts_done} of {parts} blobs, {moved} of {total}")?;
        if let Some(per_second) = per_second {
            write!(f, ", {}/s", human_size(per_second))?;
        }
        match self.left() {
            Some(left) => write!(f, ", {} left", human_time(left)),
            None => Ok(()),
        }
    }
}

/// A state in a word.
pub(super) fn word(state: BlobState) -> &'static str {
    match state {
        BlobState::Exists => "exists",
        BlobState::Mounted => "mounted",
        BlobState::Compressing => "compressing",
        BlobState::Sending => "sending",
        BlobState::Fetching => "fetching",
        BlobState::Retrying => "retrying",
        BlobState::Sent => "sent",
        BlobState::Fetched => "fetched",
        _ => "working",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::progress) fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    pub(in crate::progress) fn found(blob: &Digest, size: u64) -> Event<'_> {
        Event::Found { blob, size, is_tar: false }
    }

    #[test]
    fn what_was_there_is_not_to_be_moved() {
        let now = Instant::now();
        let mut tally = Tally::new(now);
        let (one, other) = (digest('1'), digest('2'));
        tally.take(&found(&one, 300));
        tally.take(&found(&other, 100));
        assert_eq!(tally.standing(now).total, 400);
        tally.take(&Event::Blob { blob: &one, state: BlobState::Mounted });
        let standing = tally.standing(now);
        assert_eq!((standing.parts_done, standing.parts, standing.total), (1, 2, 100));
    }

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let blob = digest('1');
        tally.take(&found(&blob, 10_000));
        assert_eq!(tally.standing(start).per_second, None);
        for second in 1..=10 {
            let bytes = if second <= 4 { 1000 } else { 100 };
            tally.take(&Event::Moved { blob: &blob, bytes });
            let now = start + Duration::from_secs(second);
            let standing = tally.standing(now);
            if second == 4 {
                assert_eq!(standing.per_second, Some(1000));
                assert_eq!(standing.left(), Some(Duration::from_secs(6)));
            }
            if second == 10 {
                assert_eq!(standing.per_second, Some(100));
            }
        }
    }

    #[test]
    fn what_must_go_again_is_counted_back() {
        let now = Instant::now();
        let mut tally = Tally::new(now);
        let blob = digest('1');
        tally.take(&found(&blob, 10));
        tally.take(&Event::Moved { blob: &blob, bytes: 8 });
        let (_, part) = tally.take(&Event::Moved { blob: &blob, bytes: -8 }).unwrap();
        assert_eq!((part.moved, tally.standing(now).moved), (0, 0));
    }
}
