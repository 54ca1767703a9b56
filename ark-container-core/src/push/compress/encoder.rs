//! [`Encoders`]: what turns one block into one gzip member or zstd frame.

use std::io;
use std::sync::{Mutex, PoisonError};

use libdeflater::CompressionLvl;
use tokio_util::bytes::Bytes;

use super::Compression;

/// Part of what a compressed layer is remembered by: to be raised whenever the same layer would become
/// something else, by another level, block length or version of an encoder.
const VERSION: u32 = 1;

const KIB: usize = 1024;

/// The fastest of libdeflate, at 3% more than what skopeo makes of the same files. A push takes half of
/// its processor time. Level 2 is 2% smaller than skopeo's, and takes another third longer.
const GZIP_LEVEL: i32 = 1;
/// Deflate looks back 32 KiB, so that almost nothing is lost to a new start after this many bytes.
const GZIP_BLOCK_LEN: usize = 256 * KIB;

/// The fastest at which the same files come out 10% smaller than what skopeo makes of them with gzip.
/// Level 3 takes a tenth less time, and makes them 9% smaller.
const ZSTD_LEVEL: i32 = 4;
/// zstd looks back further than this level's own window of 2 MiB: over the whole block.
const ZSTD_WINDOW_LOG: u32 = 22;
const ZSTD_BLOCK_LEN: usize = 1 << ZSTD_WINDOW_LOG;

impl Compression {
    /// How many bytes of a layer are compressed by themselves.
    pub(super) const fn block_len(self) -> usize {
        match self {
            Self::Gzip => GZIP_BLOCK_LEN,
            Self::Zstd => ZSTD_BLOCK_LEN,
        }
    }

    /// All that decides what a layer becomes, beside the layer.
    pub(in crate::push) fn recipe(self) -> String {
        format!("{self}-{VERSION}")
    }
}

/// Encoders of one kind, as many as there have been at work at once. Each has tables of some
/// megabytes, which are made once.
pub(super) struct Encoders {
    compression: Compression,
    idle: Mutex<Vec<Encoder>>,
}

enum Encoder {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoders {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, idle: Mutex::default() }
    }

    /// Compresses a block. It takes milliseconds of processor time.
    pub(super) fn encode(&self, block: &[u8]) -> io::Result<Bytes> {
        // A list of encoders holds together whatever panicked while it was locked.
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let encoder = idle().pop();
        let mut encoder = match encoder {
            Some(encoder) => encoder,
            None => Encoder::new(self.compression)?,
        };
        let mut encoded = encoder.encode(block)?;
        idle().push(encoder);
        encoded.shrink_to_fit();
        Ok(encoded.into())
    }
}

impl Encoder {
    fn new(compression: Compression) -> io::Result<Self> {
        match compression {
            Compression::Gzip => {
                let level = CompressionLvl::new(GZIP_LEVEL)
                    .map_err(|_| io::Error::other("libdeflate has no such level"))?;
                Ok(Self::Gzip(libdeflater::Compressor::new(level)))
            }
            Compression::Zstd => {
                let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                zstd.window_log(ZSTD_WINDOW_LOG)?;
                Ok(Self::Zstd(zstd))
            }
        }
    }

    fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            // The header has neither a time nor the name of a system.
            Self::Gzip(gzip) => {
                let mut member = vec![0; gzip.gzip_compress_bound(block.len())];
                let length = gzip.gzip_compress(block, &mut member).map_err(io::Error::other)?;
                member.truncate(length);
                Ok(member)
            }
            Self::Zstd(zstd) => zstd.compress(block),
        }
    }
}
