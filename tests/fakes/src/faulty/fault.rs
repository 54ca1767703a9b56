//! [`Storm`]: what goes wrong with which request. It follows from a seed.

use std::collections::HashMap;
use std::time::Duration;

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
pub(super) struct Storm {
    seed: u64,
    /// How much goes wrong: so many of a hundred requests.
    percent: u64,
    /// How many requests of a kind there were.
    counts: HashMap<String, u64>,
    told: Vec<String>,
}

impl Storm {
    /// A storm, of a strength that is left to chance.
    pub(super) fn new(seed: u64) -> Self {
        let percent = Dice::new(seed, "strength", 0).one_of(&[4, 10, 20, 35]);
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
        let mut dice = self.throw(kind)?;
        let fault = dice.fault();
        self.told.push(format!("{kind}: {fault:?}"));
        Some(fault)
    }

    /// Where the next connection is cut.
    pub(super) fn connection(&mut self) -> Cut {
        let Some(mut dice) = self.throw("connection") else { return Cut::Never };
        let cut = match dice.below(2) {
            // Anywhere in the heads and contents of some requests, small numbers as often as large ones.
            0 => Cut::Received(dice.below(1 << dice.clone().below(22))),
            // Anywhere in the first few answers.
            _ => Cut::Sent(dice.below(1500)),
        };
        self.told.push(format!("connection: {cut:?}"));
        cut
    }

    /// The dice for the next thing of a kind, if something goes wrong with it.
    fn throw(&mut self, kind: &str) -> Option<Dice> {
        if self.percent == 0 {
            return None;
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        let mut dice = Dice::new(self.seed, kind, *count);
        *count += 1;
        (dice.below(100) < self.percent).then_some(dice)
    }
}

/// Numbers by chance: the same for the same seed, kind and count.
///
/// Source: SplitMix64, <https://prng.di.unimi.it/splitmix64.c>, from a start by FNV-1a,
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64, kind: &str, count: u64) -> Self {
        let numbers = [seed, count].map(u64::to_le_bytes).concat();
        let bytes = kind.bytes().chain(numbers);
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn fault(&mut self) -> Fault {
        match self.below(10) {
            0..3 => {
                let status = self.one_of(&[408, 429, 429, 500, 502, 503, 504]);
                let retry_after = self.one_of(&[None, None, None, Some(0), Some(1)]);
                // As registries do it: these two say when.
                let retry_after = retry_after.filter(|_| matches!(status, 429 | 503));
                Fault::Refused { status, retry_after, read: self.below(2) == 0 }
            }
            3 => Fault::Unauthorized,
            4 => Fault::Torn { after: self.below(1 << self.clone().below(22)) },
            5 => Fault::LostAnswer,
            6 => Fault::Twice,
            7 => Fault::WrongDigest,
            8 => Fault::ShortAnswer { missing: 1 + self.below(100) },
            _ => Fault::Late(Duration::from_millis(self.below(30))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, kind: &str) -> Vec<Option<Fault>> {
        let mut storm = Storm::new(seed);
        (0..1000).map(|_| storm.request(kind)).collect()
    }

    #[test]
    fn what_goes_wrong_follows_from_seed_and_kind() {
        assert_eq!(faults(1, "PUT a"), faults(1, "PUT a"));
        assert_ne!(faults(1, "PUT a"), faults(1, "PUT b"));
        assert_ne!(faults(1, "PUT a"), faults(2, "PUT a"));
    }

    #[test]
    fn some_of_everything_goes_wrong_and_not_everything() {
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
    fn connections_are_cut_in_both_directions_until_the_storm_ends() {
        let mut storm = Storm::new(3);
        let cuts: Vec<_> = (0..1000).map(|_| storm.connection()).collect();
        assert!(cuts.iter().any(|cut| matches!(cut, Cut::Received(_))));
        assert!(cuts.iter().any(|cut| matches!(cut, Cut::Sent(_))));
        assert!(cuts.contains(&Cut::Never) && !storm.told().is_empty());
        storm.end();
        assert!((0..1000).all(|_| storm.connection() == Cut::Never));
    }
}
