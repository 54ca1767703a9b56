//! Sending one part: mounted, in one request, or in parts, so that an interrupted upload is resumed in this
//! push or the next.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::RegistryTarget;
use crate::digester::Digester;
use crate::distribution::{DistributionError, Mount, Tries, Upload};
use crate::error::{Error, ResourceKind, Result};
use crate::model::Descriptor;
use crate::transfer::blob::Blob;
use crate::transfer::engine::Outcome;
use crate::transfer::pending_uploads::UploadRecord;
use crate::transfer::progress::{BlobState, Event};
use crate::transfer::queue::Counter;

impl RegistryTarget<'_> {
    /// Sends one blob. `known` is what the manifest will say of it, if that is known already.
    pub(super) async fn send(
        &self,
        blob: &Blob,
        known: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome> {
        let mut opened = None;
        if let Some(known) = known {
            match self.mounts.mount(self.client, &known.digest).await {
                Some(Mount::Mounted) => {
                    return Ok(Outcome::unsent(known.clone(), BlobState::Mounted));
                }
                Some(Mount::Upload(upload)) => opened = Some(upload),
                None => {}
            }
        }
        if blob.is_tar() {
            let (descriptor, resumed) = self.send_tar(blob, opened, counter).await?;
            let saved = blob.size().saturating_sub(descriptor.size);
            return Ok(Outcome::moved(descriptor, BlobState::Sent, resumed, saved));
        }
        if self.connection.imports_blobs()
            && let Some((file, from)) = blob.open_file().await?
        {
            self.give_up_opened(opened).await;
            self.import(blob, (file, from..from + blob.size()), counter).await?;
            return Ok(Outcome::moved(blob.descriptor(), BlobState::Sent, 0, 0));
        }
        let resumed = if blob.size() <= MAX_ONE_REQUEST_BYTES {
            let upload = self.open(opened).await?;
            self.send_whole(blob, upload, counter).await?;
            0
        } else {
            self.send_in_parts(blob, opened, counter).await?
        };
        Ok(Outcome::moved(blob.descriptor(), BlobState::Sent, resumed, 0))
    }

    /// Copies a file into a registry on this machine.
    async fn import(
        &self,
        blob: &Blob,
        source: (Arc<File>, Range<u64>),
        counter: &Counter,
    ) -> Result<()> {
        self.tell(Event::Blob { blob: blob.digest(), state: BlobState::Sending });
        // The thread that copies ends when this is dropped.
        let transfer = Arc::new(());
        let copied = counter.counting(&transfer);
        let path = self.client.repository()?.path();
        match self.connection.import_blob(path, blob.digest(), source, copied).await {
            Err(error @ Error::InvalidInput { .. }) => Err(damaged_blob_error(blob, error)),
            Err(Error::NotFound { kind: ResourceKind::Repository, .. }) => {
                Err(Error::not_found(ResourceKind::Repository, self.client.name()))
            }
            imported => imported,
        }
    }

    /// The upload that a refused mount has `opened`, or a new one. A repository that is missing is told
    /// here, before anything is read.
    pub(super) async fn open(&self, opened: Option<Upload>) -> Result<Upload> {
        match opened {
            Some(upload) => Ok(upload),
            None => self.client.start_upload().await,
        }
    }

    /// Sends a blob in one request, each time from its start.
    async fn send_whole(&self, blob: &Blob, upload: Upload, counter: &Counter) -> Result<()> {
        let mut attempts = Attempts::begin(self, blob, counter, BlobState::Sending);
        let mut upload = upload;
        loop {
            let Err(error) = self.try_whole(blob, &upload, counter).await else { return Ok(()) };
            self.give_up_if_refused(&upload, &error).await;
            attempts.failed(error, 0).await?;
            // The answer may have been lost, and not the blob.
            if self.client.blob_exists(blob.digest()).await? {
                return Ok(());
            }
            upload = self.client.start_upload().await?;
        }
    }

    async fn try_whole(&self, blob: &Blob, upload: &Upload, counter: &Counter) -> Result<()> {
        let count = counter.clone();
        let content = blob.pieces_of(0..blob.size()).await?.inspect(move |piece| {
            if let Ok(piece) = piece {
                count.add(piece.len() as u64);
            }
        });
        self.client.upload_blob(upload, blob.digest(), blob.size(), content).await
    }

    /// A registry whose disk is full would keep the torso for a day, and one more for every try.
    pub(super) async fn give_up_if_refused(&self, upload: &Upload, error: &Error) {
        if DistributionError::of(error).is_some() {
            self.give_up(upload).await;
        }
    }

    /// Lets the registry forget an upload that a refused mount has `opened`, where another goes on.
    pub(super) async fn give_up_opened(&self, opened: Option<Upload>) {
        if let Some(upload) = opened {
            self.give_up(&upload).await;
        }
    }

    /// Lets the registry forget what it has of an upload.
    pub(super) async fn give_up(&self, upload: &Upload) {
        if let Err(error) = self.client.cancel_upload(upload).await {
            tracing::debug!(%error, "an upload that failed is left to run out");
        }
    }
}

/// Blobs up to this size go in one request: sending so much again costs less than asking in between.
const MAX_ONE_REQUEST_BYTES: u64 = 64 * 1024 * 1024;

/// It fits AWS ECR too, which takes parts from 5 to 20 MiB, and 4,200 of them: more than its largest layer.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const PART_BYTES: u64 = 16 * 1024 * 1024;

/// All of AWS ECR's parts but the last must be of this length.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html>
const ECR_MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// How many times a blob is begun anew: a registry that forgets more often does so always.
const MAX_RESTARTS: u32 = 4;

/// How far a blob is.
#[derive(Debug)]
enum UploadPosition {
    /// No upload is known.
    Nowhere,
    /// The registry has this many bytes of the upload.
    At(Upload, u64),
    /// It had this many bytes, and something happened since.
    Doubtful(Upload, u64),
}

/// A blob that is sent in parts.
struct InParts<'a> {
    target: &'a RegistryTarget<'a>,
    blob: &'a Blob,
    counter: &'a Counter,
    position: UploadPosition,
    record: Option<UploadRecord>,
    restarts: u32,
}

impl RegistryTarget<'_> {
    /// Sends a blob in parts, and tells how many bytes of it an earlier push had sent.
    ///
    /// `opened` is an upload that was just opened for it, if so.
    pub(super) async fn send_in_parts(
        &self,
        blob: &Blob,
        opened: Option<Upload>,
        counter: &Counter,
    ) -> Result<u64> {
        let pending = match self.cache {
            Some(cache) => cache.uploads().lock(self.client, blob.digest()).await,
            None => None,
        };
        let (record, kept) = pending.map_or((None, None), |(record, kept)| (Some(record), kept));
        let (mut resumed, mut furthest) = (kept.is_none().then_some(0), 0);
        let position = match kept {
            Some((kept, offset)) => {
                self.give_up_opened(opened).await;
                UploadPosition::Doubtful(kept, offset)
            }
            None => UploadPosition::At(self.open(opened).await?, 0),
        };
        let mut attempts = Attempts::begin(self, blob, counter, BlobState::Sending);
        let mut parts = InParts { target: self, blob, counter, position, record, restarts: 0 };
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
        let resumed = resumed.filter(|_| parts.restarts == 0);
        if let Some(record) = parts.record {
            record.remove().await;
        }
        Ok(resumed.unwrap_or_default())
    }
}

impl InParts<'_> {
    /// Takes the next step; whether the blob is there.
    async fn step(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.position, UploadPosition::Nowhere) {
            UploadPosition::Nowhere => {
                self.restarts += 1;
                if self.restarts > MAX_RESTARTS {
                    let digest = self.blob.digest();
                    let message = format!("the registry loses the upload of {digest} each time");
                    return Err(Error::failed(message));
                }
                let upload = self.target.client.start_upload().await?;
                self.position = UploadPosition::At(upload, 0);
                Ok(false)
            }
            UploadPosition::Doubtful(upload, offset) => self.ask(upload, offset).await,
            UploadPosition::At(upload, offset) => {
                self.counter.set(offset);
                self.position = UploadPosition::Doubtful(upload.clone(), offset);
                self.send(&upload, offset).await
            }
        }
    }

    /// Sends the next part; with the last one the upload is closed.
    async fn send(&mut self, upload: &Upload, offset: u64) -> Result<bool> {
        let client = self.target.client;
        let (digest, size) = (self.blob.digest(), self.blob.size());
        // Kept while the next part is on its way, so that none waits for the disk.
        let keeping = async {
            if let Some(record) = self.record.as_ref().filter(|_| offset > 0) {
                record.write(upload, offset).await;
            }
        };
        // AWS ECR does not like a last part without a byte.
        if size - offset <= PART_BYTES {
            let content = self.read(offset..size).await?;
            let finishing = client.finish_with_part(upload, digest, offset..size, content);
            return join(finishing, keeping).await.0.map(|()| true);
        }
        let part = offset..offset + PART_BYTES;
        let content = self.read(part.clone()).await?;
        let appending = client.append_part(upload, part.clone(), content);
        let (upload, ()) = join(appending, keeping).await;
        self.position = UploadPosition::At(upload?, part.end);
        Ok(false)
    }

    /// Asks the registry how far the blob is; whether it is there as a whole.
    async fn ask(&mut self, upload: Upload, offset: u64) -> Result<bool> {
        let client = self.target.client;
        let size = self.blob.size();
        let was_closing = size.saturating_sub(offset) <= PART_BYTES;
        self.position = UploadPosition::Doubtful(upload.clone(), offset);
        if was_closing && client.blob_exists(self.blob.digest()).await? {
            return Ok(true);
        }
        self.position = match client.upload_status(&upload).await {
            Ok((upload, there)) if there <= size => UploadPosition::At(upload, there),
            Ok(_) => UploadPosition::Nowhere,
            // AWS ECR never tells, and takes the next part all the same. Others refuse that too.
            Err(Error::NotFound { kind: ResourceKind::Upload, .. }) if offset <= size => {
                UploadPosition::At(upload, offset)
            }
            Err(error) if is_lost(&error) => UploadPosition::Nowhere,
            Err(error @ (Error::Temporary { .. } | Error::Unauthenticated { .. })) => {
                return Err(error);
            }
            // Not every registry lets one ask.
            Err(error) => {
                tracing::debug!(%error, "the registry does not tell how far an upload is");
                UploadPosition::Nowhere
            }
        };
        Ok(false)
    }

    /// Draws from a refusal where the upload goes on.
    fn learn(&mut self, error: &Error) {
        let UploadPosition::Doubtful(upload, offset) = &self.position else { return };
        let refusal = DistributionError::of(error);
        let expected = refusal.and_then(DistributionError::expected_offset);
        let damaged = refusal.is_some_and(|refusal| refusal.has_code("DIGEST_INVALID"));
        self.position = match expected {
            Some(expected) if self.goes_on_at(*offset, expected) => {
                UploadPosition::At(upload.clone(), expected)
            }
            Some(_) => UploadPosition::Nowhere,
            // It may be an earlier push that went wrong: this blob is begun anew.
            None if damaged => UploadPosition::Nowhere,
            None if is_out_of_order(error) => return,
            None if is_lost(error) => UploadPosition::Nowhere,
            None => return,
        };
    }

    /// Whether AWS ECR, whose words these are, takes a part that starts at `expected`, the one before it
    /// having started at `offset`, without finding in the end that one was too small.
    fn goes_on_at(&self, offset: u64, expected: u64) -> bool {
        let cut = expected.saturating_sub(offset);
        expected <= self.blob.size() && !(1..ECR_MIN_PART_BYTES).contains(&cut)
    }

    /// The blob cannot be sent: what is there of it is of no use, unless it is for another time.
    async fn end(self, error: &Error) {
        if error.is_temporary() || matches!(error, Error::Unauthenticated { .. }) {
            return;
        }
        if let UploadPosition::At(upload, _) | UploadPosition::Doubtful(upload, _) = &self.position
        {
            self.target.give_up(upload).await;
        }
        if let Some(record) = self.record {
            record.remove().await;
        }
    }

    fn offset(&self) -> u64 {
        match self.position {
            UploadPosition::Nowhere => 0,
            UploadPosition::At(_, offset) | UploadPosition::Doubtful(_, offset) => offset,
        }
    }

    fn is_certain(&self) -> bool {
        matches!(self.position, UploadPosition::At(..))
    }

    async fn read(
        &self,
        part: Range<u64>,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + 'static> {
        let counter = self.counter.clone();
        let pieces = self.blob.pieces_of(part).await?;
        Ok(pieces.inspect(move |piece| {
            if let Ok(piece) = piece {
                counter.add(piece.len() as u64);
            }
        }))
    }
}

/// The attempts to send one blob.
pub(super) struct Attempts<'a> {
    target: &'a RegistryTarget<'a>,
    blob: &'a Blob,
    counter: &'a Counter,
    /// What it is in while it does not wait.
    state: BlobState,
    tries: Tries<'a>,
}

impl<'a> Attempts<'a> {
    /// Begins, and tells so.
    pub(super) fn begin(
        target: &'a RegistryTarget<'_>,
        blob: &'a Blob,
        counter: &'a Counter,
        state: BlobState,
    ) -> Self {
        let attempts = Self { target, blob, counter, state, tries: target.client.retry().tries() };
        attempts.tell(state);
        attempts
    }

    /// More of the blob is there than ever before.
    pub(super) fn succeeded(&mut self) {
        self.tries.succeeded();
    }

    /// Waits for the next attempt, which sends again what is after `kept` bytes.
    ///
    /// # Errors
    /// What no further attempt helps against, with the file's name where the fault is in the file.
    pub(super) async fn failed(&mut self, error: Error, kept: u64) -> Result<()> {
        let error = self.judge(error).await?;
        let delay = self.tries.failed(error)?;
        self.tell(BlobState::Retrying);
        self.counter.set(kept);
        sleep(delay).await;
        self.tell(self.state);
        Ok(())
    }

    /// Makes the error temporary where sending the blob again may help.
    async fn judge(&self, error: Error) -> Result<Error> {
        let blob = self.blob;
        if is_lost(&error) {
            return Ok(
                Error::temporary("the registry has lost the upload of a blob").with_source(error)
            );
        }
        let refusal = DistributionError::of(&error);
        if refusal.is_some_and(|refusal| refusal.has_code("DIGEST_INVALID")) {
            // Only now is it worth another reading to know who is to blame. What was compressed was
            // checked while it was read.
            if self.state == BlobState::Compressing || is_whole(blob).await? {
                let message = format!("{} arrived damaged", blob.digest());
                return Ok(Error::temporary(message).with_source(error));
            }
            return Err(damaged_blob_error(blob, error));
        }
        match error {
            Error::Failed { .. } => {
                Err(Error::failed(format!("{} cannot be sent", blob.location())).with_source(error))
            }
            error => Ok(error),
        }
    }

    fn tell(&self, state: BlobState) {
        self.target.tell(Event::Blob { blob: self.blob.digest(), state });
    }
}

fn damaged_blob_error(blob: &Blob, error: Error) -> Error {
    let message = format!("{} is damaged: it is not {}", blob.location(), blob.digest());
    Error::failed(message).with_source(error)
}

/// Whether the registry refuses the position of a part, and keeps the upload. An interrupted request may still
/// be writing to it.
pub(super) fn is_out_of_order(error: &Error) -> bool {
    let refusal = DistributionError::of(error);
    matches!(error, Error::Conflict { .. })
        || refusal.is_some_and(|refusal| refusal.status() == 416)
}

/// Whether the registry knows nothing of the upload any more, or something else than it should.
pub(super) fn is_lost(error: &Error) -> bool {
    match error {
        Error::NotFound { kind, .. } | Error::Conflict { kind, .. } => {
            *kind == ResourceKind::Upload
        }
        error => DistributionError::of(error).is_some_and(|refusal| {
            refusal.status() == 416
                || refusal.has_code("BLOB_UPLOAD_INVALID")
                || refusal.has_code("BLOB_UPLOAD_UNKNOWN")
        }),
    }
}

/// Whether a blob on this machine is what its digest says.
async fn is_whole(blob: &Blob) -> Result<bool> {
    let mut digester = Digester::new(blob.digest().algorithm());
    let mut pieces = Box::pin(blob.pieces(0).await?);
    let unreadable =
        |error| Error::failed(format!("{} cannot be read", blob.location())).with_source(error);
    while let Some(piece) = pieces.try_next().await.map_err(unreadable)? {
        digester.update(&piece);
    }
    Ok(digester.finish() == *blob.digest())
}
