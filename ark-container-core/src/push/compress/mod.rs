//! Compressing a layer while it is sent: in blocks, several at once, in their order.
//!
//! A layer is cut into blocks of one size. Each is compressed by itself, into a gzip member or a zstd
//! frame, and readers of both formats take several of those one after another for one file. So the
//! blocks can be compressed at the same time, and the outcome is the same on every machine.
//!
//! Source: <https://www.rfc-editor.org/rfc/rfc1952#section-2.2>, <https://www.rfc-editor.org/rfc/rfc8878#section-3>

mod encoder;
mod outcome;
mod pipeline;
mod plain;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use crate::model::{ParseError, media_type};

pub(super) use outcome::Outcome;
pub(super) use pipeline::{Compressor, Pieces};

/// How layers are compressed that come as plain tar files. What is compressed already is sent as it is.
///
/// ```
/// use ark_container_core::push::Compression;
///
/// assert_eq!("zstd".parse(), Ok(Compression::Zstd));
/// assert_eq!(Compression::default().to_string(), "gzip");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// What every client reads.
    #[default]
    Gzip,
    /// Smaller, and faster both ways, for docker 23, containerd 1.5, podman 2 and later.
    Zstd,
}

impl Compression {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// The name as it is written, such as `gzip`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The media type of a layer that is compressed so.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

impl FromStr for Compression {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.into_iter().find(|compression| compression.as_str() == input);
        known.ok_or_else(|| ParseError::new("compression", input, "expected gzip or zstd"))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
