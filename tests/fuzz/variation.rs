//! [`Variations`]: repeatable random changes of seeds.

/// Texts that are often at the limit of valid input.
const WORDS: [&[u8]; 24] = [
    b"0",
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9007199254740993",
    b"1e999",
    b"..",
    b"/",
    b"//",
    b"%2f",
    b"%2e%2e",
    b"\0",
    b"\n",
    b"\r\n",
    b"\n---\n",
    b"=== ",
    b"\xff",
    "\u{202e}".as_bytes(),
    "İ".as_bytes(),
    b"\"",
    b"\\",
    b"null",
    b"[[[[[[[[",
    b"{\"\":",
];

/// An endless series of changed seeds.
pub(crate) struct Variations<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Variations<'a> {
    pub(crate) fn of(seeds: &'a [Vec<u8>]) -> Self {
        Self { seeds, state: 0 }
    }

    /// Returns a random number below `end`, from SplitMix64.
    ///
    /// Source: <https://prng.di.unimi.it/splitmix64.c>
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % end.max(1)
    }

    /// Returns a random range of a text of this length, mostly a short one.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.below(4) == 0 { length } else { 8 };
        start..length.min(start + self.below(longest + 1))
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(8) {
            0 => drop(input.drain(self.part(input.len()))),
            1 => {
                let copy = input[self.part(input.len())].to_vec();
                input.splice(at..at, copy);
            }
            2 => {
                let other = &self.seeds[self.below(self.seeds.len())];
                let copy = other[self.part(other.len())].to_vec();
                input.splice(at..at, copy);
            }
            3 => {
                let word = WORDS[self.below(WORDS.len())];
                let end = input.len().min(at + self.below(2) * word.len());
                input.splice(at..end, word.iter().copied());
            }
            4 => input.truncate(at),
            kind => {
                let bit = 1 << self.below(8);
                let any = self.below(256) as u8;
                if let Some(byte) = input.get_mut(at) {
                    *byte = match kind {
                        5 => *byte ^ bit,
                        6 => byte.wrapping_add(1),
                        _ => any,
                    };
                }
            }
        }
    }
}

impl Iterator for Variations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut input = self.seeds[self.below(self.seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        Some(input)
    }
}
