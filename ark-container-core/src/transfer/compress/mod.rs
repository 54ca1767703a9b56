//! [`Compressor`]: compresses layers during a push, in concurrent blocks.
//!
//! The blocks of a layer have a fixed size. Each block becomes an independent gzip member or zstd frame. A concatenation
//! of members or frames is one file in both formats. The result is the same on every machine.
//!
//! Source: <https://www.rfc-editor.org/rfc/rfc1952#section-2.2>, <https://www.rfc-editor.org/rfc/rfc8878#section-3>

mod encoder;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io, thread};

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::bytes::Bytes;

use self::encoder::Workers;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Algorithm, Descriptor, Digest, ParseError, media_type};
use crate::transfer::blob::{Blob, Pieces};
use crate::transfer::local_file::{PIECE_BYTES, fill};

/// The compression of layers that are uncompressed tar files in the source. Compressed layers are sent unchanged.
///
/// ```
/// use ark_container_core::transfer::Compression;
///
/// assert_eq!("zstd".parse(), Ok(Compression::Zstd));
/// assert_eq!(Compression::default().to_string(), "gzip");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Supported by every client.
    #[default]
    Gzip,
    /// Smaller than gzip, faster to compress and to decompress. Needs docker 23, containerd 1.5 or podman 2.
    Zstd,
}

impl Compression {
    /// All compressions.
    pub const ALL: &'static [Self] = &[Self::Gzip, Self::Zstd];

    /// Returns the name, such as `gzip`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the media type of a layer with this compression.
    const fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

impl FromStr for Compression {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.iter().find(|compression| compression.as_str() == input).copied();
        known.ok_or_else(|| ParseError::new("compression", input, "expected gzip or zstd"))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The maximum number of threads, which limits the memory on a machine with many processors. One layer cannot use more,
/// because its digest is computed in order.
const MAX_THREADS: usize = 16;
/// The maximum number of parts in memory, of all compressed layers together: 25 MiB.
const MAX_PARTS: usize = 5;

/// Compresses layers. All layers share one limit of concurrent blocks, the number of processors plus one.
pub(super) struct Compressor {
    compression: Compression,
    workers: Arc<Workers>,
    block_permits: Arc<Semaphore>,
    concurrent_blocks: usize,
    part_permits: Arc<Semaphore>,
}

/// A block after compression.
struct Encoded {
    piece: Bytes,
    /// The length in bytes before compression.
    length: u64,
    /// The digest of the uncompressed layer, in the last block.
    actual_diff_id: Option<Digest>,
}

impl Compressor {
    /// Creates a `Compressor` that uses all processors.
    pub(super) fn new(compression: Compression) -> Self {
        let processors = thread::available_parallelism();
        Self::with_threads(compression, processors.unwrap_or(NonZeroUsize::MIN))
    }

    fn with_threads(compression: Compression, threads: NonZeroUsize) -> Self {
        // One more block, so that no processor waits for the disk.
        let concurrent_blocks = threads.get().min(MAX_THREADS) + 1;
        Self {
            compression,
            workers: Arc::new(Workers::new(compression)),
            block_permits: Arc::new(Semaphore::new(concurrent_blocks)),
            concurrent_blocks,
            part_permits: Arc::new(Semaphore::new(MAX_PARTS)),
        }
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Waits for the permit to hold one part of a compressed layer in memory.
    ///
    /// # Errors
    /// [`Error::Failed`] if the semaphore is closed, which does not happen.
    pub(super) async fn part_permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.part_permits).acquire_owned().await;
        permit.map_err(|error| Error::failed("waiting for memory").with_source(error))
    }

    /// Returns the pieces of the compressed layer, and the outcome, which is set when the pieces end.
    ///
    /// The pieces end with an error if the layer does not match its diff ID. `moved` receives the number of
    /// uncompressed bytes of each piece.
    ///
    /// # Errors
    /// Those of [`Blob::pieces`].
    pub(super) async fn compress(
        &self,
        tar: &Blob,
        moved: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<(Pieces, CompressionOutcome)> {
        let blocks = self.encode(PlainLayer::open(tar).await?);
        let outcome = CompressionOutcome::default();
        let state = LayerState {
            digester: Digester::new(Algorithm::Sha256),
            size: 0,
            actual_diff_id: None,
            diff_id: tar.digest().clone(),
            media_type: self.compression.media_type(),
            outcome: outcome.clone(),
        };
        let blocks = blocks.inspect(move |block| {
            if let Ok(block) = block {
                moved(block.length);
            }
        });
        let pieces = stream::try_unfold((blocks.boxed(), state), LayerState::next_piece);
        Ok((pieces.boxed(), outcome))
    }

    /// Returns the compressed blocks. An empty layer has one empty block.
    fn encode(
        &self,
        plain: PlainLayer,
    ) -> impl Stream<Item = io::Result<Encoded>> + Send + 'static {
        let (compression, concurrent_blocks) = (self.compression, self.concurrent_blocks);
        let (workers, block_permits) = (Arc::clone(&self.workers), Arc::clone(&self.block_permits));
        let start_block = move |plain: Option<PlainLayer>| {
            let (workers, block_permits) = (Arc::clone(&workers), Arc::clone(&block_permits));
            async move {
                let mut plain = plain?;
                let (return_layer, returned_layer) = oneshot::channel();
                let compress = move || {
                    let (mut length, mut actual_diff_id) = (0, None);
                    let piece = workers.encode(|block| {
                        plain.read(block, compression.block_bytes())?;
                        length = block.len() as u64;
                        if plain.is_read() {
                            actual_diff_id = Some(plain.finish());
                        } else {
                            // Fails if the stream was dropped.
                            let _ = return_layer.send(plain);
                        }
                        Ok(())
                    })?;
                    Ok(Encoded { piece, length, actual_diff_id })
                };
                // A task ends and releases its permit even if the stream is not polled.
                let task = tokio::spawn(async move {
                    let _permit = block_permits.acquire_owned().await.map_err(io::Error::other)?;
                    spawn_blocking(compress).await.map_err(io::Error::other)?
                });
                // The layer returns after the read, so the next block is read while this one is compressed. The layer
                // does not return after the last block or a failed read.
                Some((task, returned_layer.await.ok()))
            }
        };
        stream::unfold(Some(plain), start_block)
            .map(|task| async { task.await.map_err(io::Error::other)? })
            .buffered(concurrent_blocks)
    }
}

/// Compresses `layer` like a push, on one thread. Returns the digests before and after compression. `benches/` compares
/// the CPU time of a push with that of this function.
///
/// # Errors
/// Fails if a read fails or `layer` ends before `size` bytes.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub fn compress_on_one_thread(
    compression: Compression,
    layer: impl io::Read + Send + 'static,
    size: u64,
) -> io::Result<(Digest, Digest)> {
    let mut before = PlainLayer {
        file: Box::new(layer),
        remaining: size,
        digester: Digester::new(Algorithm::Sha256),
    };
    let mut after = Digester::new(Algorithm::Sha256);
    let workers = Workers::new(compression);
    loop {
        let read = |block: &mut _| before.read(block, compression.block_bytes());
        after.update(&workers.encode(read)?);
        if before.is_read() {
            return Ok((before.finish(), after.finish()));
        }
    }
}

/// The state of a layer during compression.
struct LayerState {
    digester: Digester,
    size: u64,
    actual_diff_id: Option<Digest>,
    diff_id: Digest,
    media_type: &'static str,
    outcome: CompressionOutcome,
}

type Blocks = BoxStream<'static, io::Result<Encoded>>;

impl LayerState {
    /// Returns the next piece. Its hash takes less than a millisecond.
    async fn next_piece(
        (mut blocks, mut state): (Blocks, Self),
    ) -> io::Result<Option<(Bytes, (Blocks, Self))>> {
        match blocks.next().await.transpose()? {
            Some(Encoded { piece, actual_diff_id, .. }) => {
                state.digester.update(&piece);
                state.size += piece.len() as u64;
                state.actual_diff_id = actual_diff_id;
                Ok(Some((piece, (blocks, state))))
            }
            None => state.complete().map(|()| None),
        }
    }

    /// Sets the outcome. Fails if the layer does not match its diff ID.
    fn complete(self) -> io::Result<()> {
        let actual_diff_id = self.actual_diff_id.ok_or(io::ErrorKind::UnexpectedEof)?;
        if actual_diff_id != self.diff_id {
            self.outcome.set(Completion::Damaged { actual_diff_id });
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the layer is damaged"));
        }
        let descriptor = Descriptor::new(self.media_type, self.digester.finish(), self.size);
        self.outcome.set(Completion::Compressed(descriptor));
        Ok(())
    }
}

/// The outcome of the compression of a layer. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct CompressionOutcome(Arc<Mutex<Option<Completion>>>);

#[derive(Debug, Clone)]
enum Completion {
    /// The descriptor of the compressed layer.
    Compressed(Descriptor),
    /// The layer does not match its diff ID.
    Damaged { actual_diff_id: Digest },
}

impl CompressionOutcome {
    fn set(&self, completion: Completion) {
        *lock(&self.0) = Some(completion);
    }

    /// Returns the descriptor of the compressed layer, or `None` if the compression has failed or has not ended.
    pub(super) fn descriptor(&self) -> Option<Descriptor> {
        match &*lock(&self.0) {
            Some(Completion::Compressed(descriptor)) => Some(descriptor.clone()),
            _ => None,
        }
    }

    /// Returns the error with the name of the file if the layer does not match its diff ID.
    pub(super) fn damage_error(&self, tar: &Blob) -> Option<Error> {
        let actual_diff_id = match &*lock(&self.0) {
            Some(Completion::Damaged { actual_diff_id }) => actual_diff_id.clone(),
            _ => return None,
        };
        let (location, diff_id) = (tar.location(), tar.digest());
        let message = format!("{location} is damaged: it is not {diff_id} but {actual_diff_id}");
        Some(Error::failed(message))
    }
}

/// Locks a mutex. A panic while it was locked leaves its content valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An uncompressed layer and its position.
struct PlainLayer {
    file: Box<dyn io::Read + Send>,
    remaining: u64,
    digester: Digester,
}

impl PlainLayer {
    /// Opens a layer at its start.
    ///
    /// # Errors
    /// Those of [`Blob::open`].
    async fn open(tar: &Blob) -> Result<Self> {
        let digester = Digester::new(tar.digest().algorithm());
        Ok(Self { file: tar.open(0).await?, remaining: tar.size(), digester })
    }

    /// Replaces the content of `block` with the next `length` bytes, or with the rest of the layer.
    fn read(&mut self, block: &mut Vec<u8>, length: usize) -> io::Result<()> {
        let length = usize::try_from(self.remaining).unwrap_or(length).min(length);
        block.resize(length, 0);
        // Each piece is hashed while it is in the processor's cache.
        for piece in block.chunks_mut(PIECE_BYTES) {
            fill(&mut self.file, piece, self.remaining)?;
            self.digester.update(piece);
            self.remaining -= piece.len() as u64;
        }
        Ok(())
    }

    /// Returns whether the whole layer has been read.
    fn is_read(&self) -> bool {
        self.remaining == 0
    }

    /// Returns the digest of the bytes read.
    fn finish(self) -> Digest {
        self.digester.finish()
    }
}
