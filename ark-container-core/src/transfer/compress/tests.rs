//! Tests of [`Compressor`] and [`Compression`].

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt;

use super::*;
use crate::digester::Digester;
use crate::model::{Algorithm, Descriptor, Digest};
use crate::transfer::blob::Blob;
use crate::transfer::local_file::OpenFile;

/// Returns reproducible bytes. Compression removes about half of them.
fn content(size: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(size + 64);
    let mut state: u64 = 1;
    while content.len() < size {
        // Knuth's linear congruential generator, whose upper half looks random.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&state.to_be_bytes()[..4]);
        content.extend_from_slice(b"aaaa");
    }
    content.truncate(size);
    content
}

/// Returns reproducible incompressible bytes.
fn noise(size: usize) -> Vec<u8> {
    content(size * 2).chunks(8).flat_map(|chunk| &chunk[..chunk.len() / 2]).copied().collect()
}

/// Returns compressible and incompressible bytes alternately, 2 MiB of each.
fn mixed(repeats: usize) -> Vec<u8> {
    [content(2 << 20), noise(2 << 20)].concat().repeat(repeats)
}

fn sha256(content: &[u8]) -> Digest {
    Digester::digest(Algorithm::Sha256, content)
}

/// A layer in a file, with its expected diff ID.
struct Tar {
    file: tempfile::NamedTempFile,
    blob: Blob,
}

impl Tar {
    fn new(content: &[u8]) -> Self {
        Self::with_diff_id(sha256(content), content)
    }

    fn with_diff_id(diff_id: Digest, content: &[u8]) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(content).unwrap();
        file.write_all(b"after").unwrap();
        let tar = Descriptor::new("", diff_id, content.len() as u64);
        let length = content.len() as u64 + 11;
        let name = file.path().display().to_string();
        let archive = OpenFile::new(file.reopen().unwrap(), length, name);
        let blob = Blob::member(&tar, &archive, 6, "a/layer.tar");
        Self { file, blob }
    }

    async fn compress(&self, compression: Compression, threads: usize) -> (Vec<u8>, Descriptor) {
        let compressor = Compressor::with_threads(compression, NonZeroUsize::new(threads).unwrap());
        let (pieces, outcome) = compressor.compress(&self.blob, |_| {}).await.unwrap();
        assert_eq!(outcome.descriptor(), None);
        let pieces: Vec<_> = pieces.try_collect().await.unwrap();
        (pieces.concat(), outcome.descriptor().unwrap())
    }
}

/// Decompresses gzip with another implementation than the tested one, and zstd with the same.
fn decompress(compression: Compression, layer: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match compression {
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut content).unwrap();
        }
        Compression::Zstd => {
            zstd::stream::read::Decoder::new(layer).unwrap().read_to_end(&mut content).unwrap();
        }
    }
    content
}

#[tokio::test]
async fn decompressed_layer_equals_original() {
    for &compression in Compression::ALL {
        let block = compression.block_bytes();
        for size in [0, 1, block - 1, block, block + 1, 3 * block + 7] {
            let content = content(size);
            let (layer, descriptor) = Tar::new(&content).compress(compression, 2).await;
            assert!(decompress(compression, &layer) == content, "{compression} {size}");
            assert_eq!(descriptor.digest, sha256(&layer));
            assert_eq!(descriptor.size, layer.len() as u64);
            assert_eq!(descriptor.media_type, compression.media_type());
            assert!(size < block || layer.len() < size * 2 / 3, "{compression} {size}");
        }
    }
}

#[tokio::test]
async fn incompressible_blocks_are_stored() {
    for &compression in Compression::ALL {
        for size in [5000, 3 * compression.block_bytes() + 7] {
            let content = noise(size);
            let (layer, _) = Tar::new(&content).compress(compression, 2).await;
            assert!(decompress(compression, &layer) == content, "{compression} {size}");
            assert!(layer.len() < size + size / 1000 + 100, "{compression} {size}");
        }
        let content = mixed(2);
        let (layer, _) = Tar::new(&content).compress(compression, 2).await;
        assert!(decompress(compression, &layer) == content, "{compression}");
        assert!(layer.len() < content.len() * 7 / 8, "{compression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_digest_is_the_same_on_every_machine() {
    // A change of a digest needs a new encoder version, because push caches have the old digest.
    let known = [
        (
            Compression::Gzip,
            "gzip-2",
            "2ee45e31cc3f5dbc387bdf0056f70ed037ce23732449a2541d4010036f15eac6",
        ),
        (
            Compression::Zstd,
            "zstd-4",
            "4a7f00ce89c61e0c8c40c7a0b34f41a5b1c6f2960e87a29a7053a5a865df6ee4",
        ),
    ];
    let content = mixed(3);
    for (compression, encoder_version, digest) in known {
        assert_eq!(compression.encoder_version(), encoder_version);
        let tar = Tar::new(&content);
        for threads in [1, 2, 7, 64] {
            let (_, descriptor) = tar.compress(compression, threads).await;
            assert_eq!(descriptor.digest.hex(), digest, "{compression}, {threads} threads");
        }
    }
}

#[tokio::test]
async fn unread_layers_do_not_block_others() {
    let tar = Tar::new(&content(4 << 20));
    let compressor = Compressor::with_threads(Compression::Gzip, NonZeroUsize::MIN);
    let mut unread = Vec::new();
    for _ in 0..8 {
        let (mut pieces, _) = compressor.compress(&tar.blob, |_| {}).await.unwrap();
        pieces.try_next().await.unwrap().unwrap();
        unread.push(pieces);
    }
    let (pieces, outcome) = compressor.compress(&tar.blob, |_| {}).await.unwrap();
    assert_eq!(pieces.try_collect::<Vec<_>>().await.unwrap().len(), 8);
    assert!(outcome.descriptor().is_some());
}

#[tokio::test]
async fn layer_with_wrong_diff_id_fails() {
    let tar = Tar::with_diff_id(sha256(b"other"), b"content");
    let compressor = Compressor::new(Compression::Gzip);
    let (pieces, outcome) = compressor.compress(&tar.blob, |_| {}).await.unwrap();
    let error = pieces.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(outcome.descriptor(), None);
    let error = outcome.damage_error(&tar.blob).unwrap().to_string();
    let location = format!("a/layer.tar in {}", tar.file.path().display());
    let (expected, actual) = (sha256(b"other"), sha256(b"content"));
    assert_eq!(error, format!("{location} is damaged: it is not {expected} but {actual}"));
}

#[tokio::test]
async fn truncated_layer_fails() {
    let tar = Tar::new(&content(1 << 20));
    tar.file.as_file().set_len(1 << 19).unwrap();
    let compressor = Compressor::new(Compression::Zstd);
    let (pieces, outcome) = compressor.compress(&tar.blob, |_| {}).await.unwrap();
    let error = pieces.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(outcome.descriptor().is_none() && outcome.damage_error(&tar.blob).is_none());
}

#[tokio::test]
async fn progress_counts_uncompressed_bytes() {
    static MOVED: AtomicU64 = AtomicU64::new(0);
    let tar = Tar::new(&content(2 << 20));
    let compressor = Compressor::new(Compression::Gzip);
    let moved = |bytes| {
        MOVED.fetch_add(bytes, Ordering::Relaxed);
    };
    let (pieces, _) = compressor.compress(&tar.blob, moved).await.unwrap();
    assert!(pieces.try_collect::<Vec<_>>().await.unwrap().len() > 3);
    assert_eq!(MOVED.load(Ordering::Relaxed), 2 << 20);
}

#[test]
fn compression_names_parse() {
    for &compression in Compression::ALL {
        assert_eq!(compression.to_string().parse(), Ok(compression));
    }
    let error = "xz".parse::<Compression>().unwrap_err();
    assert!(error.to_string().ends_with("expected gzip or zstd"), "{error}");
}
