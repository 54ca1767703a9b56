//! [`Compressor`]: a layer's blocks from the file through the encoders, in their order.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::bytes::Bytes;

use super::Compression;
use super::encoder::Workers;
use super::outcome::{Outcome, Settled};
use super::plain::Plain;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Algorithm, Descriptor, Digest};
use crate::push::LocalBlob;

/// How many blocks are compressed at once at most, which bounds the memory on a machine with many
/// processors. Of one layer no more could be read in that time, since a hash has to go in order.
const MOST_AT_ONCE: usize = 16;
/// How many parts of compressed layers may be in memory at once, however many layers are sent.
const PARTS: usize = 8;

/// A layer after compression.
pub(in crate::push) type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// Compresses layers. However many at once, they take no more processors than there are.
pub(in crate::push) struct Compressor {
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
    pub(in crate::push) fn new(compression: Compression) -> Self {
        let processors = thread::available_parallelism();
        Self::with_threads(compression, processors.unwrap_or(NonZeroUsize::MIN))
    }

    pub(super) fn with_threads(compression: Compression, threads: NonZeroUsize) -> Self {
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

    pub(in crate::push) fn compression(&self) -> Compression {
        self.compression
    }

    /// Waits until one more part of a compressed layer may be in memory, for as long as the room is held.
    ///
    /// # Errors
    /// [`Error::Failed`] if no room is given any more, which does not happen while this exists.
    pub(in crate::push) async fn room(&self) -> Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.parts).acquire_owned().await;
        room.map_err(|error| Error::failed("waiting for memory").with_source(error))
    }

    /// A layer after compression, in pieces, and what is known of it when they have ended.
    ///
    /// They end with an error if the layer is not what its diff ID says. `moved` is told how many bytes
    /// of the layer went into each piece.
    ///
    /// # Errors
    /// Those of [`LocalBlob::pieces`].
    pub(in crate::push) async fn compress(
        &self,
        tar: &LocalBlob,
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
