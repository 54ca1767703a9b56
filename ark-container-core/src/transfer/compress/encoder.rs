//! [`Workers`]: encoders from a block to a gzip member or zstd frame.

use std::io;
use std::sync::Mutex;

use libdeflater::CompressionLvl;
use tokio_util::bytes::Bytes;
use zstd::zstd_safe;

use super::{Compression, lock};

const KIB: usize = 1024;

// Each setting was chosen on several kinds of content: benches/README.md has the figures.

/// The fastest level of libdeflate that compresses. Its output is up to 4% larger than skopeo's. The output of level 2
/// is 2% smaller than skopeo's and takes a third longer.
const GZIP_LEVEL: i32 = 1;
/// The level of libdeflate without compression.
const GZIP_STORE_LEVEL: i32 = 0;
/// Blocks of 256 KiB are 0.4% larger after compression, and twice as many pass between threads.
const GZIP_BLOCK_BYTES: usize = 512 * KIB;

/// The output is 6% to 18% smaller than skopeo's gzip, except for media. Level 2 takes a quarter less time, and its
/// output is up to 5% larger.
const ZSTD_LEVEL: i32 = 3;
/// A level that only replaces repeated bytes, in a third of the time of [`ZSTD_LEVEL`].
const ZSTD_REPEATS_LEVEL: i32 = -1;
/// Blocks of 512 KiB are 1% to 8% larger after compression and take about 5% less time. Blocks of 1.5 MiB are up to 3%
/// smaller, and take 8 MiB more memory for a push of five layers.
const ZSTD_BLOCK_BYTES: usize = 1024 * KIB;

/// The first [`SAMPLE_BYTES`] bytes of each interval of this length decide whether a block is compressed.
const SAMPLE_INTERVAL_BYTES: usize = 8 * KIB;
const SAMPLE_BYTES: usize = 256;
/// A block with a smaller sample is always compressed.
const MIN_SAMPLED_BYTES: u64 = 4096;

impl Compression {
    /// Returns the number of uncompressed bytes of a block.
    pub(super) const fn block_bytes(self) -> usize {
        match self {
            Self::Gzip => GZIP_BLOCK_BYTES,
            Self::Zstd => ZSTD_BLOCK_BYTES,
        }
    }

    /// Returns the version of the encoder, a part of the key of compressed layers in the push cache.
    ///
    /// Increase the number with each change of a level, block size or encoder that changes the compressed bytes.
    pub(in crate::transfer) const fn encoder_version(self) -> &'static str {
        match self {
            Self::Gzip => "gzip-2",
            Self::Zstd => "zstd-4",
        }
    }
}

/// Encoders that are reused, because the tables and buffers of each need several megabytes. Their number is the maximum of
/// concurrent calls so far.
pub(super) struct Workers {
    compression: Compression,
    idle: Mutex<Vec<Worker>>,
}

struct Worker {
    encoder: Encoder,
    block: Vec<u8>,
    encoded: Vec<u8>,
}

enum Encoder {
    Gzip { compress: libdeflater::Compressor, store: libdeflater::Compressor },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Workers {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, idle: Mutex::default() }
    }

    /// Calls `read` to fill a block, and compresses the block. The compression takes milliseconds of processor time.
    pub(super) fn encode(
        &self,
        read: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        let worker = lock(&self.idle).pop();
        let mut worker = match worker {
            Some(worker) => worker,
            None => Worker::new(self.compression)?,
        };
        read(&mut worker.block)?;
        // The buffer is reused: a new allocation would cost as much as the copy of the compressed block.
        let encoded = Bytes::copy_from_slice(worker.encode()?);
        lock(&self.idle).push(worker);
        Ok(encoded)
    }
}

impl Worker {
    fn new(compression: Compression) -> io::Result<Self> {
        let encoder = match compression {
            Compression::Gzip => {
                Encoder::Gzip { compress: gzip(GZIP_LEVEL)?, store: gzip(GZIP_STORE_LEVEL)? }
            }
            Compression::Zstd => Encoder::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        Ok(Self { encoder, block: Vec::new(), encoded: Vec::new() })
    }

    fn encode(&mut self) -> io::Result<&[u8]> {
        let is_compressible = is_compressible(&self.block);
        match &mut self.encoder {
            // The gzip header has no time and no system name, so the output is reproducible.
            Encoder::Gzip { compress, store } => {
                let gzip = if is_compressible { compress } else { store };
                self.encoded.resize(gzip.gzip_compress_bound(self.block.len()), 0);
                let length = gzip.gzip_compress(&self.block, &mut self.encoded);
                Ok(&self.encoded[..length.map_err(io::Error::other)?])
            }
            Encoder::Zstd(zstd) => {
                let level = if is_compressible { ZSTD_LEVEL } else { ZSTD_REPEATS_LEVEL };
                zstd.set_parameter(zstd_safe::CParameter::CompressionLevel(level))?;
                self.encoded.clear();
                self.encoded.reserve(zstd_safe::compress_bound(self.block.len()));
                zstd.compress_to_buffer(&self.block, &mut self.encoded)?;
                Ok(&self.encoded)
            }
        }
    }
}

fn gzip(level: i32) -> io::Result<libdeflater::Compressor> {
    let level = CompressionLvl::new(level)
        .map_err(|_| io::Error::other("libdeflate does not have this level"))?;
    Ok(libdeflater::Compressor::new(level))
}

/// Returns whether some byte values are more frequent than others in a sample of `block`. In compressed or encrypted
/// content, all are equally frequent.
fn is_compressible(block: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    for interval in block.chunks(SAMPLE_INTERVAL_BYTES) {
        for &byte in &interval[..interval.len().min(SAMPLE_BYTES)] {
            counts[usize::from(byte)] += 1;
        }
    }
    let sampled: u64 = counts.iter().sum();
    let pairs = |count: u64| count * count.saturating_sub(1);
    let equal_pairs: u64 = counts.iter().map(|&count| pairs(count)).sum();
    // With equally frequent values, one in 256 pairs of bytes is equal. The limit is 5% more.
    sampled < MIN_SAMPLED_BYTES || equal_pairs * 256 * 100 > pairs(sampled) * 105
}
