//! [`Digester`]: computes the [`Digest`] of content incrementally.

use std::fmt;
#[cfg(any(feature = "local", feature = "push"))]
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256, SHA512};

use crate::model::{Algorithm, Digest};

/// A hash of all content since its creation.
#[derive(Clone)]
pub(crate) struct Digester {
    algorithm: Algorithm,
    context: Context,
}

impl Digester {
    /// Creates a hash without content.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Self { algorithm, context }
    }

    /// Returns the digest of `content`.
    pub(crate) fn digest(algorithm: Algorithm, content: &[u8]) -> Digest {
        let mut digester = Self::new(algorithm);
        digester.update(content);
        digester.finish()
    }

    /// Returns the digest of all content of `source`.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn digest_of_stream(algorithm: Algorithm, source: impl Read) -> io::Result<Digest> {
        let mut digester = Self::new(algorithm);
        digester.update_from(source)?;
        Ok(digester.finish())
    }

    /// Adds all content of `source`, and returns its length in bytes.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn update_from(&mut self, mut source: impl Read) -> io::Result<u64> {
        // Small enough for the processor's cache, so that hashing does not read from memory.
        let mut buffer = vec![0; 128 * 1024];
        let mut length = 0;
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(length),
                Ok(read) => {
                    self.update(&buffer[..read]);
                    length += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds content.
    pub(crate) fn update(&mut self, content: &[u8]) {
        self.context.update(content);
    }

    /// Returns the digest of all content.
    pub(crate) fn finish(self) -> Digest {
        let hash = self.context.finish();
        match Digest::from_bytes(self.algorithm, hash.as_ref()) {
            Some(digest) => digest,
            None => unreachable!("the hash function and the digest have the same algorithm"),
        }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digester({})", self.algorithm.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the SHA-2 test vectors of FIPS 180-2, appendices B.1 and C.1.
    #[test]
    fn digest_matches_fips_180_test_vectors() {
        let sha256 = Digester::digest(Algorithm::Sha256, b"abc").to_string();
        assert!(sha256.starts_with("sha256:ba7816bf8f01cfea"));
        let sha512 = Digester::digest(Algorithm::Sha512, b"abc").to_string();
        assert!(sha512.starts_with("sha512:ddaf35a193617aba"));
    }
}
