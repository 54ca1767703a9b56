//! [`FaultPlan`]: the faults of requests and connections, determined by a seed.

use std::collections::HashMap;
use std::time::Duration;

use crate::random::SeededRandom;

/// A fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The response is a temporary error, before or after the body is read.
    Refused { status: u16, retry_after: Option<u64>, read: bool },
    /// The credentials are reported as expired.
    Unauthorized,
    /// The connection ends after this many bytes of the body.
    Torn { after: u64 },
    /// The request takes effect, and the connection ends without a response.
    LostAnswer,
    /// The request is forwarded twice, and the second response is returned.
    Twice,
    /// The response has the digest of other content.
    WrongDigest,
    /// The response ends this many bytes early.
    ShortAnswer { missing: u64 },
    /// The response is delayed.
    Late(Duration),
}

/// The byte of a connection at which the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Never,
    Received(u64),
    Sent(u64),
}

/// The faults from some moment on; none by default.
#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    seed: u64,
    /// The percentage of requests with a fault.
    percent: u64,
    /// The number of requests of each kind.
    counts: HashMap<String, u64>,
    occurred: Vec<String>,
}

impl FaultPlan {
    /// Creates a plan. The seed determines the percentage of faults.
    pub(super) fn new(seed: u64) -> Self {
        let percent = random_of(seed, "strength", 0).one_of(&[4, 10, 20, 35]);
        Self { seed, percent, ..Self::default() }
    }

    pub(super) fn end(&mut self) {
        self.percent = 0;
    }

    pub(super) fn occurred(&self) -> &[String] {
        &self.occurred
    }

    /// Returns the fault of the next request of a kind.
    pub(super) fn request(&mut self, kind: &str) -> Option<Fault> {
        let mut random = self.next(kind)?;
        let fault = random_fault(&mut random);
        self.occurred.push(format!("{kind}: {fault:?}"));
        Some(fault)
    }

    /// Returns the byte at which the next connection is closed.
    pub(super) fn connection(&mut self) -> Cut {
        let Some(mut random) = self.next("connection") else { return Cut::Never };
        let cut = match random.below(2) {
            // Anywhere in the first requests, with small numbers as often as large ones.
            0 => Cut::Received(random.below(1 << random.clone().below(22))),
            // Anywhere in the first responses.
            _ => Cut::Sent(random.below(1500)),
        };
        self.occurred.push(format!("connection: {cut:?}"));
        cut
    }

    /// Returns the random numbers for the next fault of a kind; `None` if there is no fault.
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
/// The initial state is a hash with FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
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
            // Registries send `Retry-After` with these two statuses.
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
    fn faults_of_all_kinds_occur_and_most_requests_pass() {
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
        assert!(cuts.contains(&Cut::Never) && !plan.occurred().is_empty());
        plan.end();
        assert!((0..1000).all(|_| plan.connection() == Cut::Never));
    }
}
