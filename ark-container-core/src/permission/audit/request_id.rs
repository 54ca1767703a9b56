//! [`RequestId`]: what the events of one call have in common.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

/// Tells the calls of this process apart from those of every other.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Names one call: sixteen random digits that the process's calls share, and which of them it is.
///
/// It tells calls apart and is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId {
    process: u64,
    call: u64,
}

impl RequestId {
    /// The name of a new call.
    pub(super) fn next() -> Self {
        Self { process: *PROCESS, call: CALLS.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    #[cfg(test)]
    pub(super) const fn fixed(process: u64, call: u64) -> Self {
        Self { process, call }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.call)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn no_two_calls_have_the_same() {
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (0..500).map(|_| RequestId::next().to_string()).collect()))
            .collect();
        let ids: Vec<Vec<String>> = threads.into_iter().map(|ids| ids.join().unwrap()).collect();
        let distinct: HashSet<&String> = ids.iter().flatten().collect();
        assert_eq!(distinct.len(), 4000);
        let prefixes: HashSet<&str> = distinct.iter().map(|id| &id[..17]).collect();
        assert_eq!(prefixes.len(), 1, "{prefixes:?}");
    }

    #[test]
    fn it_is_written_with_all_its_digits() {
        assert_eq!(RequestId::fixed(0xc0ffee, 12).to_string(), "0000000000c0ffee-12");
    }
}
