//! Uploads a layer while it is compressed. The digest and the size are known after the last byte.

use std::future::ready;
use std::io;
use std::ops::Range;
use std::pin::Pin;

use futures_util::future::join;
use futures_util::stream::{self, Peekable};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::blob::{Attempts, is_lost, is_out_of_order};
use super::{MIN_RESUMABLE_BYTES, RegistryTarget};
use crate::distribution::{DistributionError, Upload};
use crate::error::{Error, ResourceKind, Result};
use crate::model::Descriptor;
use crate::transfer::blob::{Blob, Pieces};
use crate::transfer::compress::CompressionOutcome;
use crate::transfer::pending_uploads::UploadRecord;
use crate::transfer::progress::BlobState;
use crate::transfer::queue::Counter;

/// The maximum compressed size of a layer that is sent in one request, with its digest.
const MAX_ONE_REQUEST_COMPRESSED_BYTES: u64 = 1024 * 1024;
/// The size of a part: the minimum of AWS ECR, because each part is in memory until the registry has stored it.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html>
const COMPRESSED_PART_BYTES: u64 = 5 * 1024 * 1024;

/// The upload of a layer, and the number of compressed bytes that the registry has.
struct UploadPosition {
    upload: Upload,
    offset: u64,
    record: Option<UploadRecord>,
}

/// The content of one request, in memory until the registry has stored it.
#[derive(Default)]
struct Part {
    start: u64,
    len: u64,
    pieces: Vec<Bytes>,
    /// The permit for the memory; `None` for a small part.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Part {
    /// Creates an empty part that starts after `start` bytes of the layer.
    fn at(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// Adds pieces until the part has at least `length` bytes. Returns whether there are more pieces.
    async fn fill(&mut self, pieces: &mut Peekable<Pieces>, length: u64) -> Result<bool> {
        let unreadable =
            |error| Error::failed("the content of the blob cannot be read").with_source(error);
        while self.len < length {
            let Some(piece) = pieces.next().await else { return Ok(false) };
            let piece = piece.map_err(unreadable)?;
            self.len += piece.len() as u64;
            self.pieces.push(piece);
        }
        Ok(Pin::new(pieces).peek().await.is_some())
    }

    fn range(&self) -> Range<u64> {
        self.start..self.start + self.len
    }

    /// Returns the content without a copy.
    fn content(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::iter(self.pieces.clone().into_iter().map(Ok))
    }
}

impl RegistryTarget<'_> {
    /// Compresses and uploads a layer. Returns the descriptor of the compressed layer, and the number of bytes that an
    /// earlier push had sent.
    ///
    /// `opened` is the upload that the registry opened instead of a mount, if any.
    pub(super) async fn send_compressed(
        &self,
        tar: &Blob,
        opened: Option<Upload>,
        counter: &Counter,
    ) -> Result<(Descriptor, u64)> {
        let mut attempts = Attempts::start(self, tar, counter, BlobState::Compressing);
        let mut position = self.start_or_resume(tar, opened).await?;
        let mut resumed = position.offset;
        loop {
            let error = match self.compress_into(tar, &mut position, counter).await {
                Ok(descriptor) => {
                    if let Some(cache) = self.cache {
                        let compression = self.compressor.compression();
                        cache.add_compressed_layer(compression, tar.digest(), &descriptor).await;
                    }
                    if let Some(record) = position.record {
                        record.remove().await;
                    }
                    return Ok((descriptor, resumed));
                }
                Err(SendError::Damaged(error)) => {
                    self.cancel_upload(&position.upload).await;
                    if let Some(record) = position.record {
                        record.remove().await;
                    }
                    return Err(error);
                }
                Err(SendError::Other(error)) => error,
            };
            // AWS ECR does not report the offset at which an upload can be resumed.
            let keeps_upload =
                error.is_temporary() || is_out_of_order(&error) && !self.client.is_ecr();
            let resumes = keeps_upload && position.record.is_some();
            if !resumes && !error.is_temporary() {
                self.cancel_upload(&position.upload).await;
            }
            attempts.failed(error, 0).await?;
            position = match resumes {
                true => self.resume(position).await?,
                false => UploadPosition {
                    upload: self.client.start_upload().await?,
                    offset: 0,
                    ..position
                },
            };
            resumed = resumed.min(position.offset);
        }
    }

    /// Resumes the upload of an earlier push, or starts one.
    async fn start_or_resume(&self, tar: &Blob, opened: Option<Upload>) -> Result<UploadPosition> {
        let pending = match self.cache {
            Some(cache) if tar.size() >= MIN_RESUMABLE_BYTES => {
                let encoder_version = self.compressor.compression().encoder_version();
                let blob = format!("{} {encoder_version}", tar.digest());
                cache.uploads().lock(self.client, blob).await
            }
            _ => None,
        };
        match pending {
            Some((record, Some((upload, offset)))) => {
                self.cancel_opened_upload(opened).await;
                self.resume(UploadPosition { upload, offset, record: Some(record) }).await
            }
            pending => {
                let record = pending.map(|(record, _)| record);
                Ok(UploadPosition { upload: self.open(opened).await?, offset: 0, record })
            }
        }
    }

    /// Resumes an interrupted upload at the offset that the registry reports. AWS ECR reports none, so the known offset
    /// is used. Starts an upload if neither is possible.
    async fn resume(&self, position: UploadPosition) -> Result<UploadPosition> {
        let known = match self.client.upload_status(&position.upload).await {
            Ok(known) => Some(known),
            Err(Error::NotFound { kind: ResourceKind::Upload, .. }) if self.client.is_ecr() => {
                Some((position.upload.clone(), position.offset))
            }
            Err(error @ (Error::Temporary { .. } | Error::Unauthenticated { .. })) => {
                return Err(error);
            }
            Err(_) => None,
        };
        let (upload, offset) = match known {
            Some(known) => known,
            None => (self.client.start_upload().await?, 0),
        };
        Ok(UploadPosition { upload, offset, record: position.record })
    }

    async fn compress_into(
        &self,
        tar: &Blob,
        position: &mut UploadPosition,
        counter: &Counter,
    ) -> Result<Descriptor, SendError> {
        let count = counter.clone();
        let compressing = self.compressor.compress(tar, move |bytes| count.add(bytes)).await;
        let (pieces, outcome) = compressing.map_err(SendError::Other)?;
        let sent = self.send_pieces(pieces, &outcome, position).await;
        sent.map_err(|error| {
            outcome.damage_error(tar).map_or(SendError::Other(error), SendError::Damaged)
        })
    }

    async fn send_pieces(
        &self,
        pieces: Pieces,
        outcome: &CompressionOutcome,
        position: &mut UploadPosition,
    ) -> Result<Descriptor> {
        let mut pieces = without(position.offset, pieces).peekable();
        let mut part = Part::at(position.offset);
        let mut has_more = part.fill(&mut pieces, MAX_ONE_REQUEST_COMPRESSED_BYTES).await?;
        if has_more && (self.client.is_ecr() || position.record.is_some()) {
            (part, has_more) = self.fill(part, &mut pieces).await?;
            // The last part is sent with the digest, because ECR can fail a request that closes an upload without
            // content.
            while has_more {
                let end = part.range().end;
                let add = async {
                    let added = self.append(&position.upload, &part).await;
                    // The next part may wait for this part's memory.
                    drop(part);
                    added
                };
                // The next part is compressed while this one is sent.
                let (added, next) = join(add, self.fill(Part::at(end), &mut pieces)).await;
                (position.upload, position.offset) = (added?, end);
                if let Some(record) = &position.record {
                    record.write(&position.upload, position.offset).await;
                }
                (part, has_more) = next?;
            }
        } else if has_more {
            let content = part.content().chain(pieces);
            position.upload = self.client.append(&position.upload, content).await?;
            part = Part::default();
        }
        let descriptor = outcome.descriptor().ok_or_else(|| {
            let message = "the registry responded before the end of the layer".to_owned();
            Error::failed(message)
        })?;
        let digest = &descriptor.digest;
        let (range, content) = (part.range(), part.content());
        let finished = self.client.finish_with_part(&position.upload, digest, range, content).await;
        match finished {
            // The registry may have stored the blob although the response was lost.
            Err(error) if error.is_temporary() || is_lost(&error) => {
                match self.client.blob_exists(&descriptor.digest).await? {
                    true => Ok(descriptor),
                    false => Err(error),
                }
            }
            finished => finished.map(|()| descriptor),
        }
    }

    /// Waits for the memory of a part, and fills the part.
    async fn fill(&self, part: Part, pieces: &mut Peekable<Pieces>) -> Result<(Part, bool)> {
        let mut part = Part { _permit: Some(self.compressor.part_permit().await?), ..part };
        let has_more = part.fill(pieces, COMPRESSED_PART_BYTES).await?;
        Ok((part, has_more))
    }

    /// Appends a part to an upload, with retries. The part is in memory meanwhile.
    async fn append(&self, upload: &Upload, part: &Part) -> Result<Upload> {
        let mut tries = self.client.retry().tries();
        loop {
            let error = match self.client.append_part(upload, part.range(), part.content()).await {
                Err(error) => error,
                added => return added,
            };
            let expected =
                DistributionError::of(&error).and_then(DistributionError::expected_offset);
            if expected == Some(part.range().end) {
                // The registry has stored the part although the response was lost.
                return Ok(upload.clone());
            }
            sleep(tries.failed(error)?).await;
        }
    }
}

/// Returns the pieces without their first `bytes` bytes.
fn without(mut bytes: u64, pieces: Pieces) -> Pieces {
    let rest = pieces.try_filter_map(move |mut piece| {
        let skipped = usize::try_from(bytes).unwrap_or(usize::MAX).min(piece.len());
        bytes -= skipped as u64;
        let rest = piece.split_off(skipped);
        ready(Ok(Some(rest).filter(|rest| !rest.is_empty())))
    });
    rest.boxed()
}

/// The error of an upload attempt.
enum SendError {
    /// The layer does not have its diff ID. This error has priority over the error of the request.
    Damaged(Error),
    Other(Error),
}
