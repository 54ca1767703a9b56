//! [`Records`]: events as programs read them, one JSON object on a line.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ark_container_core::model::{Digest, Reference};
use ark_container_core::progress::Event;
use serde::Serialize;

use super::tally::{Tally, word};

/// How often a part's bytes are told.
const EVERY: Duration = Duration::from_secs(1);

/// Turns events into records.
#[derive(Debug)]
pub(super) struct Records {
    tally: Tally,
    told: HashMap<Digest, Instant>,
}

/// An event as programs read it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Record<'a> {
    /// The image has this part.
    Found { blob: &'a Digest, size: u64, compresses: bool },
    /// A part is in another state.
    State { blob: &'a Digest, state: &'static str, bytes: u64 },
    /// So much of a part went through so far.
    Moved { blob: &'a Digest, bytes: u64 },
    /// A manifest was put.
    Manifest { reference: &'a Reference },
}

impl Records {
    pub(super) fn new(now: Instant) -> Self {
        Self { tally: Tally::new(now), told: HashMap::new() }
    }

    /// The record of an event, if it is to be told.
    pub(super) fn take<'a>(&mut self, event: &Event<'a>, now: Instant) -> Option<Record<'a>> {
        let part = self.tally.take(event);
        match (*event, part) {
            (Event::Found { blob, size, is_tar }, _) => {
                Some(Record::Found { blob, size, compresses: is_tar })
            }
            (Event::Blob { blob, state }, Some((_, part))) => {
                Some(Record::State { blob, state: word(state), bytes: part.moved })
            }
            (Event::Moved { blob, .. }, Some((_, part))) => {
                let told = self.told.get(blob);
                if told.is_some_and(|told| now.duration_since(*told) < EVERY) {
                    return None;
                }
                self.told.insert(blob.clone(), now);
                Some(Record::Moved { blob, bytes: part.moved })
            }
            (Event::Manifest { reference }, _) => Some(Record::Manifest { reference }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ark_container_core::progress::BlobState;
    use serde_json::json;

    use super::super::tally::tests::{digest, found};
    use super::*;

    #[test]
    fn bytes_are_told_once_a_second_and_states_at_once() {
        let start = Instant::now();
        let mut records = Records::new(start);
        let blob = digest('1');
        let moved = Event::Moved { blob: &blob, bytes: 10 };
        let mut told = Vec::new();
        let events = [
            (0, found(&blob, 30)),
            (0, Event::Blob { blob: &blob, state: BlobState::Sending }),
            (0, moved),
            (999, moved),
            (1000, moved),
            (1001, Event::Blob { blob: &blob, state: BlobState::Sent }),
        ];
        for (millis, event) in events {
            let record = records.take(&event, start + Duration::from_millis(millis));
            told.extend(record.map(|record| serde_json::to_value(record).unwrap()));
        }
        let expected = [
            json!({ "event": "found", "blob": blob, "size": 30, "compresses": false }),
            json!({ "event": "state", "blob": blob, "state": "sending", "bytes": 0 }),
            json!({ "event": "moved", "blob": blob, "bytes": 10 }),
            json!({ "event": "moved", "blob": blob, "bytes": 30 }),
            json!({ "event": "state", "blob": blob, "state": "sent", "bytes": 30 }),
        ];
        assert_eq!(told, expected);
    }
}
