//! Sending a layer while it is compressed: its digest, and its length, are known when all is sent.

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

use super::RegistryTarget;
use super::blob::{Attempts, is_lost, is_out_of_order};
use crate::distribution::{DistributionError, Upload};
use crate::error::{Error, ResourceKind, Result};
use crate::model::Descriptor;
use crate::transfer::blob::{Blob, Pieces};
use crate::transfer::compress::Outcome;
use crate::transfer::pending_uploads::UploadRecord;
use crate::transfer::progress::BlobState;
use crate::transfer::queue::Counter;

/// What is compressed to less than this is sent in one request, with its digest.
const MAX_ONE_REQUEST_BYTES: u64 = 1024 * 1024;
/// The least that ECR takes, since each part is in memory until it has been taken.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html>
const PART_BYTES: u64 = 5 * 1024 * 1024;

/// Layers from this size on go in parts wherever they go, so that what broke off can go on: compressed
/// anew, since that costs no more than the processor's time, and sent from where it was.
const MIN_RESUMABLE_BYTES: u64 = 64 * 1024 * 1024;

/// Where a layer is sent to, and how much of what it becomes is there.
struct UploadPosition {
    upload: Upload,
    there: u64,
    record: Option<UploadRecord>,
}

/// What is sent in one request, and kept in memory until the registry has it.
#[derive(Default)]
struct Part {
    start: u64,
    len: u64,
    pieces: Vec<Bytes>,
    /// A small part needs none.
    _room: Option<OwnedSemaphorePermit>,
}

impl Part {
    /// An empty part that starts after `start` bytes of the layer.
    fn at(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// Takes pieces until it has at least `length` bytes, and tells whether there are more.
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

    /// The content, which is shared and not copied.
    fn content(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::iter(self.pieces.clone().into_iter().map(Ok))
    }
}

impl RegistryTarget<'_> {
    /// Compresses a layer into an upload, and tells what it became and how many bytes of that an
    /// earlier push had sent.
    ///
    /// `opened` is an upload that was just opened for it, if so.
    pub(super) async fn send_tar(
        &self,
        tar: &Blob,
        opened: Option<Upload>,
        counter: &Counter,
    ) -> Result<(Descriptor, u64)> {
        let mut attempts = Attempts::begin(self, tar, counter, BlobState::Compressing);
        let mut position = self.position(tar, opened).await?;
        let mut resumed = position.there;
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
                Err(Stopped::Damaged(error)) => {
                    self.give_up(&position.upload).await;
                    if let Some(record) = position.record {
                        record.remove().await;
                    }
                    return Err(error);
                }
                Err(Stopped::By(error)) => error,
            };
            // AWS ECR does not tell where an upload that is out of order goes on.
            let keeps_upload =
                error.is_temporary() || is_out_of_order(&error) && !self.client.is_ecr();
            if !keeps_upload {
                self.give_up(&position.upload).await;
            }
            attempts.failed(error, 0).await?;
            position = match keeps_upload && position.record.is_some() {
                true => self.go_on(position).await?,
                false => UploadPosition {
                    upload: self.client.start_upload().await?,
                    there: 0,
                    ..position
                },
            };
            resumed = resumed.min(position.there);
        }
    }

    /// Where an earlier push left off, if it did, else at the start of an upload.
    async fn position(&self, tar: &Blob, opened: Option<Upload>) -> Result<UploadPosition> {
        let pending = match self.cache {
            Some(cache) if tar.size() >= MIN_RESUMABLE_BYTES => {
                let recipe = self.compressor.compression().recipe();
                let blob = format!("{} {recipe}", tar.digest());
                cache.uploads().lock(self.client, blob).await
            }
            _ => None,
        };
        match pending {
            Some((record, Some((upload, there)))) => {
                self.give_up_opened(opened).await;
                self.go_on(UploadPosition { upload, there, record: Some(record) }).await
            }
            pending => {
                let record = pending.map(|(record, _)| record);
                Ok(UploadPosition { upload: self.open(opened).await?, there: 0, record })
            }
        }
    }

    /// Where a layer goes on that broke off: where the registry says that it is, or where we know it was
    /// if the registry does not tell, as AWS ECR does not; else from the start.
    async fn go_on(&self, position: UploadPosition) -> Result<UploadPosition> {
        let known = match self.client.upload_status(&position.upload).await {
            Ok(known) => Some(known),
            Err(Error::NotFound { kind: ResourceKind::Upload, .. }) if self.client.is_ecr() => {
                Some((position.upload.clone(), position.there))
            }
            Err(error @ (Error::Temporary { .. } | Error::Unauthenticated { .. })) => {
                return Err(error);
            }
            Err(_) => None,
        };
        let (upload, there) = match known {
            Some(known) => known,
            None => (self.client.start_upload().await?, 0),
        };
        Ok(UploadPosition { upload, there, record: position.record })
    }

    async fn compress_into(
        &self,
        tar: &Blob,
        position: &mut UploadPosition,
        counter: &Counter,
    ) -> Result<Descriptor, Stopped> {
        let count = counter.clone();
        let compressing = self.compressor.compress(tar, move |bytes| count.add(bytes)).await;
        let (pieces, outcome) = compressing.map_err(Stopped::By)?;
        let sent = self.send_pieces(pieces, &outcome, position).await;
        sent.map_err(|error| outcome.fault(tar).map_or(Stopped::By(error), Stopped::Damaged))
    }

    async fn send_pieces(
        &self,
        pieces: Pieces,
        outcome: &Outcome,
        position: &mut UploadPosition,
    ) -> Result<Descriptor> {
        let mut pieces = without(position.there, pieces).peekable();
        let mut part = Part::at(position.there);
        let mut has_more = part.fill(&mut pieces, MAX_ONE_REQUEST_BYTES).await?;
        if has_more && (self.client.is_ecr() || position.record.is_some()) {
            (part, has_more) = self.fill(part, &mut pieces).await?;
            // The last one goes with the digest: ECR has failed requests that end an upload with
            // nothing in them.
            while has_more {
                let end = part.range().end;
                let add = async {
                    let added = self.append(&position.upload, &part).await;
                    // Its room may be what the next one waits for.
                    drop(part);
                    added
                };
                // The next part is compressed while this one is on its way.
                let (added, next) = join(add, self.fill(Part::at(end), &mut pieces)).await;
                (position.upload, position.there) = (added?, end);
                if let Some(record) = &position.record {
                    record.write(&position.upload, position.there).await;
                }
                (part, has_more) = next?;
            }
        } else if has_more {
            let content = part.content().chain(pieces);
            position.upload = self.client.append(&position.upload, content).await?;
            part = Part::default();
        }
        let descriptor = outcome.descriptor().ok_or_else(|| {
            let message = "the registry did not wait for the end of the layer".to_owned();
            Error::failed(message)
        })?;
        let digest = &descriptor.digest;
        let (range, content) = (part.range(), part.content());
        let finished = self.client.finish_with_part(&position.upload, digest, range, content).await;
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

    /// Fills a part up to its length, when there is room for one in memory.
    async fn fill(&self, part: Part, pieces: &mut Peekable<Pieces>) -> Result<(Part, bool)> {
        let mut part = Part { _room: Some(self.compressor.room().await?), ..part };
        let has_more = part.fill(pieces, PART_BYTES).await?;
        Ok((part, has_more))
    }

    /// Adds a part to an upload, and retries, since the part is still in memory.
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
                // It was the answer that was lost, and not the part.
                return Ok(upload.clone());
            }
            sleep(tries.failed(error)?).await;
        }
    }
}

/// The pieces without their first `bytes`.
fn without(mut bytes: u64, pieces: Pieces) -> Pieces {
    let rest = pieces.try_filter_map(move |mut piece| {
        let skipped = usize::try_from(bytes).unwrap_or(usize::MAX).min(piece.len());
        bytes -= skipped as u64;
        let rest = piece.split_off(skipped);
        ready(Ok(Some(rest).filter(|rest| !rest.is_empty())))
    });
    rest.boxed()
}

/// Why a layer was not sent.
enum Stopped {
    /// It is not what its diff ID says, which says more than what became of the request.
    Damaged(Error),
    By(Error),
}
