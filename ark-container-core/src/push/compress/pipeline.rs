//! [`Compressor`]: a layer's blocks from the file through the encoders, in their order.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::bytes::Bytes;

use super::Compression;
use super::encoder::Encoders;
use super::outcome::{Outcome, Settled, lock};
use crate::digester::Digester;
use crate::error::Result;
use crate::model::{Algorithm, Descriptor, Digest};
use crate::push::LocalBlob;

/// How many blocks of one layer are compressed at once at most, which bounds the memory on a machine
/// with many processors. The thread that reads and hashes gives no more than so many can take.
const MOST_AT_ONCE: usize = 16;

/// A layer after compression.
pub(in crate::push) type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// Compresses layers. However many at once, they take no more processors than there are.
pub(in crate::push) struct Compressor {
    compression: Compression,
    encoders: Arc<Encoders>,
    processors: Arc<Semaphore>,
    at_once: usize,
}

impl Compressor {
    /// A compressor that uses all processors.
    pub(in crate::push) fn new(compression: Compression) -> Self {
        let processors = thread::available_parallelism();
        Self::with_threads(compression, processors.unwrap_or(NonZeroUsize::MIN))
    }

    pub(super) fn with_threads(compression: Compression, threads: NonZeroUsize) -> Self {
        Self {
            compression,
            encoders: Arc::new(Encoders::new(compression)),
            processors: Arc::new(Semaphore::new(threads.get())),
            // One more waits, so that no processor does.
            at_once: threads.get().min(MOST_AT_ONCE) + 1,
        }
    }

    pub(in crate::push) fn compression(&self) -> Compression {
        self.compression
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
        let plain = Arc::new(Mutex::new(Digester::new(tar.digest().algorithm())));
        // The thread that reads hashes too, since a hash has to go in order.
        let reading = Arc::clone(&plain);
        let look = move |block: &[u8]| lock(&reading).update(block);
        let blocks = tar.blocks(self.compression.block_len(), look).await?;
        let outcome = Outcome::default();
        let so_far = SoFar {
            layer: Digester::new(Algorithm::Sha256),
            size: 0,
            plain,
            diff_id: tar.digest().clone(),
            media_type: self.compression.media_type(),
            outcome: outcome.clone(),
        };
        let encoded = self.encode(blocks).map(move |encoded| {
            let (piece, length) = encoded?;
            moved(length);
            Ok(piece)
        });
        let pieces = stream::try_unfold((encoded.boxed(), so_far), SoFar::step);
        Ok((pieces.boxed(), outcome))
    }

    /// The blocks after compression, each with its length before.
    fn encode(
        &self,
        blocks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> impl Stream<Item = io::Result<(Bytes, u64)>> + Send + 'static {
        let (encoders, processors) = (Arc::clone(&self.encoders), Arc::clone(&self.processors));
        let encode = move |block: io::Result<Bytes>| {
            let (encoders, processors) = (Arc::clone(&encoders), Arc::clone(&processors));
            async move {
                let block = block?;
                let turn = processors.acquire_owned().await.map_err(io::Error::other)?;
                let encoding = spawn_blocking(move || {
                    let _turn = turn;
                    Ok((encoders.encode(&block)?, block.len() as u64))
                });
                encoding.await.map_err(io::Error::other)?
            }
        };
        blocks.map(encode).buffered(self.at_once)
    }
}

/// A layer as far as it has been compressed.
struct SoFar {
    layer: Digester,
    size: u64,
    plain: Arc<Mutex<Digester>>,
    diff_id: Digest,
    media_type: &'static str,
    outcome: Outcome,
}

impl SoFar {
    /// The next piece. Hashing it takes less than a millisecond.
    async fn step(
        (mut pieces, mut so_far): (Pieces, Self),
    ) -> io::Result<Option<(Bytes, (Pieces, Self))>> {
        match pieces.next().await.transpose()? {
            Some(piece) => {
                so_far.layer.update(&piece);
                so_far.size += piece.len() as u64;
                Ok(Some((piece, (pieces, so_far))))
            }
            None => so_far.settle().map(|()| None),
        }
    }

    /// Tells what the layer became, if it was what it should be.
    fn settle(self) -> io::Result<()> {
        let found = lock(&self.plain).clone().finish();
        if found != self.diff_id {
            self.outcome.set(Settled::Damaged { found });
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged"));
        }
        let became = Descriptor::new(self.media_type, self.layer.finish(), self.size);
        self.outcome.set(Settled::Became(became));
        Ok(())
    }
}
