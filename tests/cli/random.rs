//! [`Random`]: choices that a seed repeats.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const SEED_VARIABLE: &str = "ARK_TEST_SEED";

/// The generator SplitMix64: a few lines, and random enough to choose what is killed when.
///
/// Source: <https://prng.di.unimi.it/splitmix64.c>
pub(crate) struct Random(u64);

impl Random {
    /// From `ARK_TEST_SEED`, or another seed each time; printed, so that a failure shows it.
    #[expect(clippy::print_stderr, reason = "what a test prints is shown when it fails")]
    pub(crate) fn seeded() -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => RandomState::new().hash_one(0),
        };
        eprintln!("{SEED_VARIABLE}={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True that many times in a hundred.
    pub(crate) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of them; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// A moment within a time.
    pub(crate) fn moment(&mut self, within: Duration) -> Duration {
        within.mul_f64(self.next() as f64 / u64::MAX as f64)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
