//! [`FaultPlan`]: which request fails, and how. It follows from a seed.

use std::collections::HashMap;
use std::time::Duration;

use crate::random::SeededRandom;

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is refused for now, before or after its content was read.
    Refused { status: u16, retry_after: Option<u64>, read: bool },
    /// Its credentials are said to have expired.
    Unauthorized,
    /// So many bytes of its content arrive, and the connection ends.
    Torn { after: u64 },
    /// What it asks for is done, and the connection ends without an answer.
    LostAnswer,
    /// It arrives twice, and the second answer is given.
    Twice,
    /// The answer names another digest than that of what was sent.
    WrongDigest,
    /// The answer ends this early.
    ShortAnswer { missing: u64 },
    /// The answer comes later.
    Late(Duration),
}

/// Where a connection ends at the latest, counted in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Never,
    Received(u64),
    Sent(u64),
}

/// What goes wrong from some moment on; by default, nothing.
#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    seed: u64,
    /// How much goes wrong: so many of a hundred requests.
    percent: u64,
    /// How many requests of a kind there were.
    counts: HashMap<String, u64>,
    told: Vec<String>,
}

impl FaultPlan {
    /// A plan whose share of failures follows from the seed.
    pub(super) fn new(seed: u64) -> Self {
        let percent = random_of(seed, "strength", 0).one_of(&[4, 10, 20, 35]);
        Self { seed, percent, ..Self::default() }
    }

    pub(super) fn end(&mut self) {
        self.percent = 0;
    }

    pub(super) fn told(&self) -> &[String] {
        &self.told
    }

    /// What goes wrong with the next request of a kind.
    pub(super) fn request(&mut self, kind: &str) -> Option<Fault> {
        let mut random = self.next(kind)?;
        let fault = random_fault(&mut random);
        self.told.push(format!("{kind}: {fault:?}"));
        Some(fault)
    }

    /// Where the next connection is cut.
    pub(super) fn connection(&mut self) -> Cut {
        let Some(mut random) = self.next("connection") else { return Cut::Never };
        let cut = match random.below(2) {
            // Anywhere in the heads and contents of some requests, small numbers as often as large ones.
            0 => Cut::Received(random.below(1 << random.clone().below(22))),
            // Anywhere in the first few answers.
            _ => Cut::Sent(random.below(1500)),
        };
        self.told.push(format!("connection: {cut:?}"));
        cut
    }

    /// The random numbers of the next failure of a kind, if it is to fail.
    fn next(&mut self, kind: &str) -> Option<SeededRandom> {
        if self.percent == 0 {
            return None;
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        let mut random = random_of(self.seed, kind, *count);
        *count += 1;
        (random.below(100) < self.percent).then_some(random)
    }
}

/// Returns random numbers: the same for the same seed, kind and count.
///
/// The start is hashed with FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn random_of(seed: u64, kind: &str, count: u64) -> SeededRandom {
    let numbers = [seed, count].map(u64::to_le_bytes).concat();
    let bytes = kind.bytes().chain(numbers);
    SeededRandom::new(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

fn random_fault(random: &mut SeededRandom) -> Fault {
    match random.below(10) {
        0..3 => {
            let status = random.one_of(&[408, 429, 429, 500, 502, 503, 504]);
            let retry_after = random.one_of(&[None, None, None, Some(0), Some(1)]);
            // As registries do it: these two say when.
            let retry_after = retry_after.filter(|_| matches!(status, 429 | 503));
            Fault::Refused { status, retry_after, read: random.below(2) == 0 }
        }
        3 => Fault::Unauthorized,
        4 => Fault::Torn { after: random.below(1 << random.clone().below(22)) },
        5 => Fault::LostAnswer,
        6 => Fault::Twice,
        7 => Fault::WrongDigest,
        8 => Fault::ShortAnswer { missing: 1 + random.below(100) },
        _ => Fault::Late(Duration::from_millis(random.below(30))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, kind: &str) -> Vec<Option<Fault>> {
        let mut plan = FaultPlan::new(seed);
        (0..1000).map(|_| plan.request(kind)).collect()
    }

    #[test]
    fn faults_follow_from_seed_and_kind() {
        assert_eq!(faults(1, "PUT a"), faults(1, "PUT a"));
        assert_ne!(faults(1, "PUT a"), faults(1, "PUT b"));
        assert_ne!(faults(1, "PUT a"), faults(2, "PUT a"));
    }

    #[test]
    fn every_fault_occurs_and_most_requests_pass() {
        let all: Vec<_> = (0..8).flat_map(|seed| faults(seed, "PUT")).collect();
        let wrong: Vec<_> = all.iter().flatten().collect();
        assert!(wrong.len() < all.len() / 2);
        let has = |wanted: fn(&Fault) -> bool| wrong.iter().any(|fault| wanted(fault));
        assert!(has(|fault| matches!(fault, Fault::Refused { retry_after: Some(_), .. })));
        assert!(has(|fault| matches!(fault, Fault::Unauthorized)));
        assert!(has(|fault| matches!(fault, Fault::Torn { after } if *after > 100_000)));
        assert!(has(|fault| matches!(fault, Fault::LostAnswer)));
        assert!(has(|fault| matches!(fault, Fault::Twice)));
        assert!(has(|fault| matches!(fault, Fault::WrongDigest)));
        assert!(has(|fault| matches!(fault, Fault::ShortAnswer { .. })));
        assert!(has(|fault| matches!(fault, Fault::Late(_))));
    }

    #[test]
    fn connections_are_cut_in_both_directions_until_the_end() {
        let mut plan = FaultPlan::new(3);
        let cuts: Vec<_> = (0..1000).map(|_| plan.connection()).collect();
        assert!(cuts.iter().any(|cut| matches!(cut, Cut::Received(_))));
        assert!(cuts.iter().any(|cut| matches!(cut, Cut::Sent(_))));
        assert!(cuts.contains(&Cut::Never) && !plan.told().is_empty());
        plan.end();
        assert!((0..1000).all(|_| plan.connection() == Cut::Never));
    }
}
