//! Sending a layer while it is compressed: its digest, and its length, are known when all is sent.

use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::{self, Peekable};
use tokio::time::sleep;

use super::Sender;
use super::attempts::{Attempts, is_lost};
use super::queue::Counter;
use crate::distribution::{Chunk, DistributionError, Upload};
use crate::error::{Error, Result};
use crate::model::Descriptor;
use crate::push::compress::{Outcome, Pieces};
use crate::push::{BlobState, LocalBlob};

/// What is compressed to less than this is sent in one request, with its digest.
const ONE_REQUEST_LEN: u64 = 1024 * 1024;
/// ECR's parts are 5 MiB at least, and 20 MiB at most in its own API.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html>
const PART_LEN: u64 = 10 * 1024 * 1024;

impl Sender<'_> {
    /// Compresses a layer into an upload, and tells what it became.
    pub(super) async fn send_tar(
        &self,
        tar: &LocalBlob,
        mut upload: Upload,
        counter: &Counter,
    ) -> Result<Descriptor> {
        let mut attempts = Attempts::begin(self, tar, counter, BlobState::Compressing);
        loop {
            let error = match self.compress_into(tar, &mut upload, counter).await {
                Ok(descriptor) => {
                    if let Some(memory) = self.memory {
                        let compression = self.compressor.compression();
                        memory.remember_compressed(compression, tar.digest(), &descriptor).await;
                    }
                    return Ok(descriptor);
                }
                Err(Stopped::Damaged(error)) => {
                    self.give_up(&upload).await;
                    return Err(error);
                }
                Err(Stopped::By(error)) => error,
            };
            if !error.is_temporary() {
                self.give_up(&upload).await;
            }
            attempts.failed(error, 0).await?;
            upload = self.client.start_upload().await?;
        }
    }

    async fn compress_into(
        &self,
        tar: &LocalBlob,
        upload: &mut Upload,
        counter: &Counter,
    ) -> Result<Descriptor, Stopped> {
        let count = counter.clone();
        let compressing = self.compressor.compress(tar, move |bytes| count.add(bytes)).await;
        let (pieces, outcome) = compressing.map_err(Stopped::By)?;
        let sent = self.send_pieces(pieces, &outcome, upload).await;
        sent.map_err(|error| outcome.fault(tar).map_or(Stopped::By(error), Stopped::Damaged))
    }

    async fn send_pieces(
        &self,
        pieces: Pieces,
        outcome: &Outcome,
        upload: &mut Upload,
    ) -> Result<Descriptor> {
        let mut pieces = pieces.peekable();
        let (mut chunk, mut has_more) = fill(Chunk::at(0), &mut pieces, ONE_REQUEST_LEN).await?;
        if has_more && self.client.is_ecr() {
            while has_more {
                (chunk, has_more) = fill(chunk, &mut pieces, PART_LEN).await?;
                // The last one goes with the digest: ECR has failed requests that end an upload with
                // nothing in them.
                if has_more {
                    *upload = self.append_chunk(upload, &chunk).await?;
                    chunk = Chunk::at(chunk.end());
                }
            }
        } else if has_more {
            let start = stream::iter(chunk.pieces().map(Ok));
            *upload = self.client.append(upload, start.chain(pieces)).await?;
            chunk = Chunk::default();
        }
        let descriptor = outcome.descriptor().ok_or_else(|| {
            let message = "the registry did not wait for the end of the layer".to_owned();
            Error::Failed { message, source: None }
        })?;
        let finished = self.client.finish_upload(upload, &descriptor.digest, Some(&chunk)).await;
        match finished {
            // The answer may have been lost, and not the blob.
            Err(error) if error.is_temporary() || is_lost(&error) => {
                match self.client.blob_exists(&descriptor.digest).await? {
                    true => Ok(descriptor),
                    false => Err(error),
                }
            }
            finished => finished.map(|()| descriptor),
        }
    }

    /// Adds a chunk, as often as it takes: it is in memory still.
    async fn append_chunk(&self, upload: &Upload, chunk: &Chunk) -> Result<Upload> {
        let mut tries = self.client.retry().tries();
        loop {
            let error = match self.client.append_chunk(upload, chunk).await {
                Err(error) => error,
                added => return added,
            };
            let expected =
                DistributionError::of(&error).and_then(DistributionError::expected_offset);
            if expected == Some(chunk.end()) {
                // It was the answer that was lost, and not the chunk.
                return Ok(upload.clone());
            }
            sleep(tries.failed(error)?).await;
        }
    }
}

/// Why a layer was not sent.
enum Stopped {
    /// It is not what its diff ID says, which says more than what became of the request.
    Damaged(Error),
    By(Error),
}

/// Fills a chunk with at least `length` bytes if there are so many, and tells whether there are more.
async fn fill(
    mut chunk: Chunk,
    pieces: &mut Peekable<Pieces>,
    length: u64,
) -> Result<(Chunk, bool)> {
    let unreadable = |error| Error::failed("the content of the blob cannot be read", error);
    while chunk.len() < length {
        match pieces.next().await {
            Some(piece) => chunk.push(piece.map_err(unreadable)?),
            None => return Ok((chunk, false)),
        }
    }
    let has_more = Pin::new(pieces).peek().await.is_some();
    Ok((chunk, has_more))
}
