//! Compressing a layer while it is sent: in blocks, several at once, in their order.
//!
//! A layer is cut into blocks of one size. Each is compressed by itself, into a gzip member or a zstd
//! frame, and readers of both formats take several of those one after another for one file. So the
//! blocks can be compressed at the same time, and the outcome is the same on every machine.
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
use crate::transfer::local_file::{PIECE_LEN, fill};

/// How layers are compressed that come as plain tar files. What is compressed already is sent as it is.
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
    /// What every client reads.
    #[default]
    Gzip,
    /// Smaller, and faster both ways, for docker 23, containerd 1.5, podman 2 and later.
    Zstd,
}

impl Compression {
    /// All compressions.
    pub const ALL: &'static [Self] = &[Self::Gzip, Self::Zstd];

    /// The name as it is written, such as `gzip`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The media type of a layer that is compressed so.
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

/// How many blocks are compressed at once at most, which bounds the memory on a machine with many
/// processors. Of one layer no more could be read in that time, since a hash has to go in order.
const MOST_AT_ONCE: usize = 16;
/// The maximum number of parts of compressed layers in memory at once, of all layers together: 25 MiB.
const PARTS: usize = 5;

/// Compresses layers. However many at once, they take no more processors than there are.
pub(super) struct Compressor {
    compression: Compression,
    workers: Arc<Workers>,
    turns: Arc<Semaphore>,
    at_once: usize,
    parts: Arc<Semaphore>,
}

/// A block after compression.
struct Encoded {
    piece: Bytes,
    /// Before compression.
    length: u64,
    /// After the last block: what the layer's digest is.
    found: Option<Digest>,
}

impl Compressor {
    /// A compressor that uses all processors.
    pub(super) fn new(compression: Compression) -> Self {
        let processors = thread::available_parallelism();
        Self::with_threads(compression, processors.unwrap_or(NonZeroUsize::MIN))
    }

    fn with_threads(compression: Compression, threads: NonZeroUsize) -> Self {
        // One more, so that no processor waits for the disk.
        let at_once = threads.get().min(MOST_AT_ONCE) + 1;
        Self {
            compression,
            workers: Arc::new(Workers::new(compression)),
            turns: Arc::new(Semaphore::new(at_once)),
            at_once,
            parts: Arc::new(Semaphore::new(PARTS)),
        }
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Waits until one more part of a compressed layer may be in memory, for as long as the room is held.
    ///
    /// # Errors
    /// [`Error::Failed`] if no room is given any more, which does not happen while this exists.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.parts).acquire_owned().await;
        room.map_err(|error| Error::failed("waiting for memory").with_source(error))
    }

    /// A layer after compression, in pieces, and what is known of it when they have ended.
    ///
    /// They end with an error if the layer is not what its diff ID says. `moved` is told how many bytes
    /// of the layer went into each piece.
    ///
    /// # Errors
    /// Those of [`Blob::pieces`].
    pub(super) async fn compress(
        &self,
        tar: &Blob,
        moved: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<(Pieces, Outcome)> {
        let blocks = self.encode(Plain::open(tar).await?);
        let outcome = Outcome::default();
        let so_far = SoFar {
            layer: Digester::new(Algorithm::Sha256),
            size: 0,
            found: None,
            diff_id: tar.digest().clone(),
            media_type: self.compression.media_type(),
            outcome: outcome.clone(),
        };
        let blocks = blocks.inspect(move |block| {
            if let Ok(block) = block {
                moved(block.length);
            }
        });
        let pieces = stream::try_unfold((blocks.boxed(), so_far), SoFar::step);
        Ok((pieces.boxed(), outcome))
    }

    /// The blocks after compression. An empty layer has an empty one.
    fn encode(&self, plain: Plain) -> impl Stream<Item = io::Result<Encoded>> + Send + 'static {
        let (compression, at_once) = (self.compression, self.at_once);
        let (workers, turns) = (Arc::clone(&self.workers), Arc::clone(&self.turns));
        let begin = move |plain: Option<Plain>| {
            let (workers, turns) = (Arc::clone(&workers), Arc::clone(&turns));
            async move {
                let mut plain = plain?;
                let (give_back, given_back) = oneshot::channel();
                let work = move || {
                    let (mut length, mut found) = (0, None);
                    let piece = workers.encode(|block| {
                        plain.read(block, compression.block_len())?;
                        length = block.len() as u64;
                        if plain.is_read() {
                            found = Some(plain.finish());
                        } else {
                            // Nobody goes on with a layer that is not wanted any more.
                            let _ = give_back.send(plain);
                        }
                        Ok(())
                    })?;
                    Ok(Encoded { piece, length, found })
                };
                // A task, so that a turn is taken and ends whether or not somebody waits for the block.
                let working = tokio::spawn(async move {
                    let _turn = turns.acquire_owned().await.map_err(io::Error::other)?;
                    spawn_blocking(work).await.map_err(io::Error::other)?
                });
                // The next block is read while this one is compressed. There is none after the last one,
                // and none after one that cannot be read.
                Some((working, given_back.await.ok()))
            }
        };
        stream::unfold(Some(plain), begin)
            .map(|working| async { working.await.map_err(io::Error::other)? })
            .buffered(at_once)
    }
}

/// Compresses `layer` as a push does, on one thread, and returns its digests before and after compression: the limit
/// that `benches/` compares a push with.
///
/// # Errors
/// A failed read, and an end of `layer` before `size` bytes.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub fn compress_on_one_thread(
    compression: Compression,
    layer: impl io::Read + Send + 'static,
    size: u64,
) -> io::Result<(Digest, Digest)> {
    let mut before = Plain {
        file: Box::new(layer),
        remaining: size,
        digester: Digester::new(Algorithm::Sha256),
    };
    let mut after = Digester::new(Algorithm::Sha256);
    let workers = Workers::new(compression);
    loop {
        let read = |block: &mut _| before.read(block, compression.block_len());
        after.update(&workers.encode(read)?);
        if before.is_read() {
            return Ok((before.finish(), after.finish()));
        }
    }
}

/// A layer as far as it has been compressed.
struct SoFar {
    layer: Digester,
    size: u64,
    found: Option<Digest>,
    diff_id: Digest,
    media_type: &'static str,
    outcome: Outcome,
}

type Blocks = BoxStream<'static, io::Result<Encoded>>;

impl SoFar {
    /// The next piece. Hashing it takes less than a millisecond.
    async fn step(
        (mut blocks, mut so_far): (Blocks, Self),
    ) -> io::Result<Option<(Bytes, (Blocks, Self))>> {
        match blocks.next().await.transpose()? {
            Some(Encoded { piece, found, .. }) => {
                so_far.layer.update(&piece);
                so_far.size += piece.len() as u64;
                so_far.found = found;
                Ok(Some((piece, (blocks, so_far))))
            }
            None => so_far.settle().map(|()| None),
        }
    }

    /// Tells what the layer became, if it was what it should be.
    fn settle(self) -> io::Result<()> {
        let found = self.found.ok_or(io::ErrorKind::UnexpectedEof)?;
        if found != self.diff_id {
            self.outcome.set(Settled::Damaged { found });
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged"));
        }
        let became = Descriptor::new(self.media_type, self.layer.finish(), self.size);
        self.outcome.set(Settled::Became(became));
        Ok(())
    }
}

/// What a layer became, for whoever passes its pieces on. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome(Arc<Mutex<Option<Settled>>>);

#[derive(Debug, Clone)]
enum Settled {
    /// The manifest will say this of it.
    Became(Descriptor),
    /// It was not what its diff ID says.
    Damaged { found: Digest },
}

impl Outcome {
    fn set(&self, settled: Settled) {
        *lock(&self.0) = Some(settled);
    }

    /// What the manifest will say of it; `None` unless all its pieces came and were right.
    pub(super) fn descriptor(&self) -> Option<Descriptor> {
        match &*lock(&self.0) {
            Some(Settled::Became(descriptor)) => Some(descriptor.clone()),
            _ => None,
        }
    }

    /// The error that names the file, if the layer is not what its diff ID says.
    pub(super) fn fault(&self, tar: &Blob) -> Option<Error> {
        let found = match &*lock(&self.0) {
            Some(Settled::Damaged { found }) => found.clone(),
            _ => return None,
        };
        let (place, diff_id) = (tar.location(), tar.digest());
        let message = format!("{place} is damaged: it is not {diff_id} but {found}");
        Some(Error::failed(message))
    }
}

/// Nothing here is left half changed by a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A layer as far as it has been read.
struct Plain {
    file: Box<dyn io::Read + Send>,
    remaining: u64,
    digester: Digester,
}

impl Plain {
    /// A layer from its start.
    ///
    /// # Errors
    /// Those of [`Blob::open`].
    async fn open(tar: &Blob) -> Result<Self> {
        let digester = Digester::new(tar.digest().algorithm());
        Ok(Self { file: tar.open(0).await?, remaining: tar.size(), digester })
    }

    /// Replaces what is in `block` by the next `length` bytes, or by what is left.
    fn read(&mut self, block: &mut Vec<u8>, length: usize) -> io::Result<()> {
        let length = usize::try_from(self.remaining).unwrap_or(length).min(length);
        block.resize(length, 0);
        // Each piece is hashed while it is in the processor's cache.
        for piece in block.chunks_mut(PIECE_LEN) {
            fill(&mut self.file, piece, self.remaining)?;
            self.digester.update(piece);
            self.remaining -= piece.len() as u64;
        }
        Ok(())
    }

    /// Whether all has been read.
    fn is_read(&self) -> bool {
        self.remaining == 0
    }

    /// The digest of what has been read.
    fn finish(self) -> Digest {
        self.digester.finish()
    }
}
