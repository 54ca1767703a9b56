//! [`Unfinished`]: the hashes of uploads between one request and the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::uploads::UploadId;
use crate::digester::Digester;

/// More uploads than clients run at once. One that is forgotten is read again when it ends.
const REMEMBERED: usize = 256;

/// Remembers how far an upload was hashed when its handle was closed, so that an upload in several
/// requests, as docker makes it, need not be read again when it ends.
///
/// An upload only ever grows, and its id is never used again: whoever wrote to it since, bytes that
/// were hashed are still those that start it. What is remembered holds for one length alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Unfinished(Arc<Mutex<VecDeque<(UploadId, u64, Digester)>>>);

impl Unfinished {
    /// Remembers the hash of the first `size` bytes; the one that was remembered first may go.
    pub(super) fn remember(&self, id: UploadId, size: u64, hasher: Digester) {
        let mut known = self.lock();
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((id, size, hasher));
    }

    /// The hash of the first `size` bytes, if that is what is known; it is known no longer.
    pub(super) fn recall(&self, id: UploadId, size: u64) -> Option<Digester> {
        let mut known = self.lock();
        let position = known.iter().position(|(other, ..)| *other == id)?;
        let (_, hashed, hasher) = known.remove(position)?;
        (hashed == size).then_some(hasher)
    }

    /// Whoever panicked while holding it had not begun to change it.
    fn lock(&self) -> MutexGuard<'_, VecDeque<(UploadId, u64, Digester)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digester::Digester;
    use crate::model::Algorithm;

    fn id(number: usize) -> UploadId {
        format!("{number:032x}").parse().unwrap()
    }

    fn hasher(bytes: &[u8]) -> Digester {
        let mut hasher = Digester::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher
    }

    #[test]
    fn a_hash_is_recalled_once_and_for_its_length_alone() {
        let unfinished = Unfinished::default();
        unfinished.remember(id(1), 3, hasher(b"abc"));
        assert!(unfinished.recall(id(2), 3).is_none());
        let recalled = unfinished.recall(id(1), 3).unwrap();
        assert_eq!(recalled.finish(), Digester::digest(Algorithm::Sha256, b"abc"));
        assert!(unfinished.recall(id(1), 3).is_none());
        unfinished.remember(id(1), 3, hasher(b"abc"));
        assert!(unfinished.recall(id(1), 4).is_none());
        assert!(unfinished.recall(id(1), 3).is_none());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let unfinished = Unfinished::default();
        for number in 0..=REMEMBERED {
            unfinished.remember(id(number), 0, hasher(b""));
        }
        assert!(unfinished.recall(id(0), 0).is_none());
        assert!(unfinished.recall(id(1), 0).is_some());
        assert!(unfinished.recall(id(REMEMBERED), 0).is_some());
    }
}
