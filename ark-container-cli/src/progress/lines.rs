//! [`Lines`]: a line now and then, for logs.

use std::time::{Duration, Instant};

use ark_container_core::progress::Event;

use super::tally::Tally;

/// How long nothing is said.
const EVERY: Duration = Duration::from_secs(5);

/// Says a line every few seconds.
#[derive(Debug)]
pub(super) struct Lines {
    tally: Tally,
    next: Instant,
}

impl Lines {
    pub(super) fn new(now: Instant) -> Self {
        Self { tally: Tally::new(now), next: now + EVERY }
    }

    pub(super) fn take(&mut self, event: &Event<'_>) {
        self.tally.take(event);
    }

    /// What there is to say by now. To be asked every second or so.
    pub(super) fn tick(&mut self, now: Instant) -> Option<String> {
        let standing = self.tally.standing(now);
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        Some(standing.to_string())
    }
}

#[cfg(test)]
mod tests {
    use ark_container_core::progress::BlobState;

    use super::super::tally::tests::{digest, found};
    use super::*;

    #[test]
    fn a_line_comes_every_five_seconds() {
        let start = Instant::now();
        let mut lines = Lines::new(start);
        let (one, other) = (digest('1'), digest('2'));
        lines.take(&found(&one, 60_000_000));
        lines.take(&found(&other, 1000));
        lines.take(&Event::Blob { blob: &other, state: BlobState::Exists });
        let mut said = Vec::new();
        for second in 1..=12 {
            if second <= 8 {
                lines.take(&Event::Moved { blob: &one, bytes: 5_000_000 });
            }
            said.extend(lines.tick(start + Duration::from_secs(second)));
        }
        let expected = [
            "1 of 2 blobs, 25.0 MB of 60.0 MB, 5.0 MB/s, 7 s left",
            "1 of 2 blobs, 40.0 MB of 60.0 MB, 3.0 MB/s, 7 s left",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_speed_that_is_not_known_is_not_told() {
        let start = Instant::now();
        let mut lines = Lines::new(start);
        lines.take(&found(&digest('1'), 5));
        let line = lines.tick(start + EVERY).unwrap();
        assert_eq!(line, "0 of 1 blobs, 0 B of 5 B");
    }
}
