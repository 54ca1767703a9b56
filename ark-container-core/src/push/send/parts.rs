//! Sending a large blob in parts, so that what broke off goes on where it was: in this push or the next.

use std::ops::Range;

use futures_util::future::join;
use futures_util::{Stream, StreamExt};
use tokio_util::bytes::Bytes;

use super::Sender;
use super::attempts::{Attempts, is_lost};
use super::queue::Counter;
use crate::distribution::{DistributionError, Upload};
use crate::error::{Error, ResourceKind, Result};
use crate::push::pending_uploads::UploadRecord;
use crate::push::{BlobState, LocalBlob};

/// Blobs up to this size go in one request: sending so much again costs less than asking in between.
pub(super) const ONE_REQUEST_LEN: u64 = 64 * 1024 * 1024;

/// It fits AWS ECR too, which takes parts from 5 to 20 MiB, and 4,200 of them: more than its largest layer.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const PART_LEN: u64 = 16 * 1024 * 1024;

/// All of AWS ECR's parts but the last must be of this length.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html>
const ECR_SMALLEST: u64 = 5 * 1024 * 1024;

/// How many times a blob is begun anew: a registry that forgets more often does so always.
const BEGINNINGS: u32 = 4;

/// How far a blob is.
#[derive(Debug)]
enum Place {
    /// No upload is known.
    Nowhere,
    /// The registry has this many bytes of the upload.
    At(Upload, u64),
    /// It had this many bytes, and something happened since.
    Doubtful(Upload, u64),
}

/// A blob that is sent in parts.
struct InParts<'a> {
    sender: &'a Sender<'a>,
    blob: &'a LocalBlob,
    counter: &'a Counter,
    place: Place,
    record: Option<UploadRecord>,
    beginnings: u32,
}

impl Sender<'_> {
    /// Sends a blob in parts, and tells how many bytes of it an earlier push had sent.
    ///
    /// `opened` is an upload that was just opened for it, if so.
    pub(super) async fn send_in_parts(
        &self,
        blob: &LocalBlob,
        opened: Option<Upload>,
        counter: &Counter,
    ) -> Result<u64> {
        let pending = match self.cache {
            Some(cache) => cache.uploads().lock(self.client, blob.digest()).await,
            None => None,
        };
        let (record, kept) = pending.map_or((None, None), |(record, kept)| (Some(record), kept));
        let (mut resumed, mut furthest) = (kept.is_none().then_some(0), 0);
        let place = match kept {
            Some((kept, offset)) => {
                self.give_up_opened(opened).await;
                Place::Doubtful(kept, offset)
            }
            None => Place::At(self.open(opened).await?, 0),
        };
        let mut attempts = Attempts::begin(self, blob, counter, BlobState::Sending);
        let mut parts = InParts { sender: self, blob, counter, place, record, beginnings: 0 };
        loop {
            match parts.step().await {
                Ok(true) => break,
                Ok(false) => {
                    let there = parts.offset();
                    resumed = resumed.or(Some(there).filter(|_| parts.is_certain()));
                    if there > furthest {
                        furthest = there;
                        attempts.succeeded();
                    }
                }
                Err(error) => {
                    parts.learn(&error);
                    let there = parts.offset();
                    if let Err(error) = attempts.failed(error, there).await {
                        parts.end(&error).await;
                        return Err(error);
                    }
                }
            }
        }
        // What was begun anew goes on from nowhere.
        let resumed = resumed.filter(|_| parts.beginnings == 0);
        if let Some(record) = parts.record {
            record.remove().await;
        }
        Ok(resumed.unwrap_or_default())
    }
}

impl InParts<'_> {
    /// Takes the next step; whether the blob is there.
    async fn step(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Nowhere => {
                self.beginnings += 1;
                if self.beginnings > BEGINNINGS {
                    let digest = self.blob.digest();
                    let message = format!("the registry loses the upload of {digest} each time");
                    return Err(Error::failed(message));
                }
                let upload = self.sender.client.start_upload().await?;
                self.place = Place::At(upload, 0);
                Ok(false)
            }
            Place::Doubtful(upload, offset) => self.ask(upload, offset).await,
            Place::At(upload, offset) => {
                self.counter.set(offset);
                self.place = Place::Doubtful(upload.clone(), offset);
                self.send(&upload, offset).await
            }
        }
    }

    /// Sends the next part; with the last one the upload is closed.
    async fn send(&mut self, upload: &Upload, offset: u64) -> Result<bool> {
        let client = self.sender.client;
        let (digest, size) = (self.blob.digest(), self.blob.size());
        // Kept while the next part is on its way, so that none waits for the disk.
        let keeping = async {
            if let Some(record) = self.record.as_ref().filter(|_| offset > 0) {
                record.write(upload, offset).await;
            }
        };
        // AWS ECR does not like a last part without a byte.
        if size - offset <= PART_LEN {
            let content = self.read(offset..size).await?;
            let finishing = client.finish_with_part(upload, digest, offset..size, content);
            return join(finishing, keeping).await.0.map(|()| true);
        }
        let part = offset..offset + PART_LEN;
        let content = self.read(part.clone()).await?;
        let appending = client.append_part(upload, part.clone(), content);
        let (upload, ()) = join(appending, keeping).await;
        self.place = Place::At(upload?, part.end);
        Ok(false)
    }

    /// Asks the registry how far the blob is; whether it is there as a whole.
    async fn ask(&mut self, upload: Upload, offset: u64) -> Result<bool> {
        let client = self.sender.client;
        let size = self.blob.size();
        let was_closing = size.saturating_sub(offset) <= PART_LEN;
        self.place = Place::Doubtful(upload.clone(), offset);
        if was_closing && client.blob_exists(self.blob.digest()).await? {
            return Ok(true);
        }
        self.place = match client.upload_status(&upload).await {
            Ok((upload, there)) if there <= size => Place::At(upload, there),
            Ok(_) => Place::Nowhere,
            // AWS ECR never tells, and takes the next part all the same. Others refuse that too.
            Err(Error::NotFound { kind: ResourceKind::Upload, .. }) if offset <= size => {
                Place::At(upload, offset)
            }
            Err(error) if is_lost(&error) => Place::Nowhere,
            Err(error @ (Error::Temporary { .. } | Error::Unauthenticated { .. })) => {
                return Err(error);
            }
            // Not every registry lets one ask.
            Err(error) => {
                tracing::debug!(%error, "the registry does not tell how far an upload is");
                Place::Nowhere
            }
        };
        Ok(false)
    }

    /// Draws from a refusal where the upload goes on.
    fn learn(&mut self, error: &Error) {
        let Place::Doubtful(upload, offset) = &self.place else { return };
        let refusal = DistributionError::of(error);
        let expected = refusal.and_then(DistributionError::expected_offset);
        let damaged = refusal.is_some_and(|refusal| refusal.has_code("DIGEST_INVALID"));
        self.place = match expected {
            Some(expected) if self.goes_on_at(*offset, expected) => {
                Place::At(upload.clone(), expected)
            }
            Some(_) => Place::Nowhere,
            // It may be an earlier push that went wrong: this blob is begun anew.
            None if damaged => Place::Nowhere,
            None if refusal.is_some_and(|refusal| refusal.status() == 416) => return,
            // Something else may be writing to it still.
            None if matches!(error, Error::Conflict { .. }) => return,
            None if is_lost(error) => Place::Nowhere,
            None => return,
        };
    }

    /// Whether AWS ECR, whose words these are, takes a part that starts at `expected`, the one before it
    /// having started at `offset`, without finding in the end that one was too small.
    fn goes_on_at(&self, offset: u64, expected: u64) -> bool {
        let cut = expected.saturating_sub(offset);
        expected <= self.blob.size() && !(1..ECR_SMALLEST).contains(&cut)
    }

    /// The blob cannot be sent: what is there of it is of no use, unless it is for another time.
    async fn end(self, error: &Error) {
        if error.is_temporary() || matches!(error, Error::Unauthenticated { .. }) {
            return;
        }
        if let Place::At(upload, _) | Place::Doubtful(upload, _) = &self.place {
            self.sender.give_up(upload).await;
        }
        if let Some(record) = self.record {
            record.remove().await;
        }
    }

    fn offset(&self) -> u64 {
        match self.place {
            Place::Nowhere => 0,
            Place::At(_, offset) | Place::Doubtful(_, offset) => offset,
        }
    }

    fn is_certain(&self) -> bool {
        matches!(self.place, Place::At(..))
    }

    async fn read(
        &self,
        part: Range<u64>,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + 'static> {
        let counter = self.counter.clone();
        let pieces = self.blob.to_send(part).await?;
        Ok(pieces.inspect(move |piece| {
            if let Ok(piece) = piece {
                counter.add(piece.len() as u64);
            }
        }))
    }
}
