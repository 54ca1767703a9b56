//! Random bytes, straight from the operating system.
//!
//! `aws-lc-rs` would give them too, but first gathers entropy of its own, which takes each process 30 ms
//! of computing: ten times what a whole run of the command line takes.

use crate::error::{Error, Result};

/// Fills `bytes` with what nobody can guess.
pub(super) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::failed("the operating system gave no random bytes").with_source(error)
    })
}

/// 128 random bits: names that nobody else chooses or guesses.
pub(super) fn random_bits() -> Result<u128> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
