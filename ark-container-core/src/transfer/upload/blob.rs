//! Uploads one blob: by a mount, in one request, or in parts. This push or the next one resumes an interrupted upload
//! in parts.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::time::sleep;
use tokio_util::bytes::Bytes;

use super::{MIN_RESUMABLE_BYTES, RegistryTarget};
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
    /// Uploads one blob. `known` is the descriptor in the manifest, if it is known before the upload.
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
            let (descriptor, resumed) = self.send_compressed(blob, opened, counter).await?;
            let saved = blob.size().saturating_sub(descriptor.size);
            return Ok(Outcome::moved(descriptor, BlobState::Sent, resumed, saved));
        }
        if self.connection.imports_blobs()
            && let Some((file, from)) = blob.open_file().await?
        {
            self.cancel_opened_upload(opened).await;
            self.import(blob, (file, from..from + blob.size()), counter).await?;
            return Ok(Outcome::moved(blob.descriptor(), BlobState::Sent, 0, 0));
        }
        let resumed = if blob.size() < MIN_RESUMABLE_BYTES {
            let upload = self.open(opened).await?;
            self.send_whole(blob, upload, counter).await?;
            0
        } else {
            self.send_in_parts(blob, opened, counter).await?
        };
        Ok(Outcome::moved(blob.descriptor(), BlobState::Sent, resumed, 0))
    }

    /// Copies a blob from a file into a registry on this machine.
    async fn import(
        &self,
        blob: &Blob,
        source: (Arc<File>, Range<u64>),
        counter: &Counter,
    ) -> Result<()> {
        self.tell(Event::Blob { blob: blob.digest(), state: BlobState::Sending });
        // The thread that copies ends after this value is dropped.
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

    /// Returns the upload that the registry `opened` instead of a mount, or starts one. A missing repository fails
    /// here, before any content is read.
    pub(super) async fn open(&self, opened: Option<Upload>) -> Result<Upload> {
        match opened {
            Some(upload) => Ok(upload),
            None => self.client.start_upload().await,
        }
    }

    /// Sends a blob in one request. Each retry sends the whole blob.
    async fn send_whole(&self, blob: &Blob, upload: Upload, counter: &Counter) -> Result<()> {
        let mut attempts = Attempts::start(self, blob, counter, BlobState::Sending);
        let mut upload = upload;
        loop {
            let Err(error) = self.try_send_whole(blob, &upload, counter).await else {
                return Ok(());
            };
            self.cancel_rejected_upload(&upload, &error).await;
            attempts.failed(error, 0).await?;
            // The registry may have stored the blob although the response was lost.
            if self.client.blob_exists(blob.digest()).await? {
                return Ok(());
            }
            upload = self.client.start_upload().await?;
        }
    }

    async fn try_send_whole(&self, blob: &Blob, upload: &Upload, counter: &Counter) -> Result<()> {
        let count = counter.clone();
        let content = blob.pieces_of(0..blob.size()).await?.inspect(move |piece| {
            if let Ok(piece) = piece {
                count.add(piece.len() as u64);
            }
        });
        self.client.upload_blob(upload, blob.digest(), blob.size(), content).await
    }

    /// Cancels an upload after an error response. A registry with a full disk would otherwise keep the partial uploads
    /// of all retries for a day.
    pub(super) async fn cancel_rejected_upload(&self, upload: &Upload, error: &Error) {
        if DistributionError::of(error).is_some() {
            self.cancel_upload(upload).await;
        }
    }

    /// Cancels the upload that the registry `opened` instead of a mount, if the blob is sent in another way.
    pub(super) async fn cancel_opened_upload(&self, opened: Option<Upload>) {
        if let Some(upload) = opened {
            self.cancel_upload(&upload).await;
        }
    }

    /// Cancels an upload. The registry removes an upload that cannot be cancelled when it expires.
    pub(super) async fn cancel_upload(&self, upload: &Upload) {
        if let Err(error) = self.client.cancel_upload(upload).await {
            tracing::debug!(%error, "cannot cancel an upload; it expires later");
        }
    }
}

/// The size of a part. AWS ECR accepts 4,200 parts of 5 to 20 MiB: with this size, more than its largest layer.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const PART_BYTES: u64 = 16 * 1024 * 1024;

/// The minimum size of a part in AWS ECR, except for the last part.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html>
const ECR_MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// The maximum number of restarts of the upload of a blob. A registry that loses more uploads probably loses each one.
const MAX_RESTARTS: u32 = 4;

/// The state of an upload in parts.
#[derive(Debug)]
enum UploadState {
    /// No upload is open.
    NotStarted,
    /// The registry has this number of bytes of the upload.
    Confirmed(Upload, u64),
    /// The registry had this number of bytes before the last request, whose result is unknown.
    Unconfirmed(Upload, u64),
}

/// The upload of one blob in parts.
struct ChunkedUpload<'a> {
    target: &'a RegistryTarget<'a>,
    blob: &'a Blob,
    counter: &'a Counter,
    state: UploadState,
    record: Option<UploadRecord>,
    restarts: u32,
}

impl RegistryTarget<'_> {
    /// Sends a blob in parts, and returns the number of bytes that an earlier push had sent.
    ///
    /// `opened` is the upload that the registry opened instead of a mount, if any.
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
        let (record, saved) = pending.map_or((None, None), |(record, saved)| (Some(record), saved));
        let (mut resumed, mut furthest) = (saved.is_none().then_some(0), 0);
        let state = match saved {
            Some((upload, offset)) => {
                self.cancel_opened_upload(opened).await;
                UploadState::Unconfirmed(upload, offset)
            }
            None => UploadState::Confirmed(self.open(opened).await?, 0),
        };
        let mut attempts = Attempts::start(self, blob, counter, BlobState::Sending);
        let mut chunked = ChunkedUpload { target: self, blob, counter, state, record, restarts: 0 };
        loop {
            match chunked.step().await {
                Ok(true) => break,
                Ok(false) => {
                    let offset = chunked.offset();
                    resumed = resumed.or(Some(offset).filter(|_| chunked.is_confirmed()));
                    if offset > furthest {
                        furthest = offset;
                        attempts.succeeded();
                    }
                }
                Err(error) => {
                    chunked.update_state(&error);
                    let offset = chunked.offset();
                    if let Err(error) = attempts.failed(error, offset).await {
                        chunked.clean_up(&error).await;
                        return Err(error);
                    }
                }
            }
        }
        // A restarted upload does not resume an earlier one.
        let resumed = resumed.filter(|_| chunked.restarts == 0);
        if let Some(record) = chunked.record {
            record.remove().await;
        }
        Ok(resumed.unwrap_or_default())
    }
}

impl ChunkedUpload<'_> {
    /// Executes the next step. Returns whether the registry has the blob.
    async fn step(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.state, UploadState::NotStarted) {
            UploadState::NotStarted => {
                self.restarts += 1;
                if self.restarts > MAX_RESTARTS {
                    let digest = self.blob.digest();
                    let message = format!("the registry lost every upload of {digest}");
                    return Err(Error::failed(message));
                }
                let upload = self.target.client.start_upload().await?;
                self.state = UploadState::Confirmed(upload, 0);
                Ok(false)
            }
            UploadState::Unconfirmed(upload, offset) => self.request_status(upload, offset).await,
            UploadState::Confirmed(upload, offset) => {
                self.counter.set(offset);
                self.state = UploadState::Unconfirmed(upload.clone(), offset);
                self.send(&upload, offset).await
            }
        }
    }

    /// Sends the next part. The last part closes the upload. Returns whether the registry has the blob.
    async fn send(&mut self, upload: &Upload, offset: u64) -> Result<bool> {
        let client = self.target.client;
        let (digest, size) = (self.blob.digest(), self.blob.size());
        // The record is written while the next part is sent, so that no part waits for the disk.
        let saving = async {
            if let Some(record) = self.record.as_ref().filter(|_| offset > 0) {
                record.write(upload, offset).await;
            }
        };
        // AWS ECR can fail a last part without content.
        if size - offset <= PART_BYTES {
            let content = self.read(offset..size).await?;
            let finishing = client.finish_with_part(upload, digest, offset..size, content);
            return join(finishing, saving).await.0.map(|()| true);
        }
        let part = offset..offset + PART_BYTES;
        let content = self.read(part.clone()).await?;
        let appending = client.append_part(upload, part.clone(), content);
        let (upload, ()) = join(appending, saving).await;
        self.state = UploadState::Confirmed(upload?, part.end);
        Ok(false)
    }

    /// Requests the status of the upload. Returns whether the registry has the blob.
    async fn request_status(&mut self, upload: Upload, offset: u64) -> Result<bool> {
        let client = self.target.client;
        let size = self.blob.size();
        let was_closing = size.saturating_sub(offset) <= PART_BYTES;
        self.state = UploadState::Unconfirmed(upload.clone(), offset);
        if was_closing && client.blob_exists(self.blob.digest()).await? {
            return Ok(true);
        }
        self.state = match client.upload_status(&upload).await {
            Ok((upload, stored)) if stored <= size => UploadState::Confirmed(upload, stored),
            Ok(_) => UploadState::NotStarted,
            // AWS ECR reports no status, but accepts the next part.
            Err(Error::NotFound { kind: ResourceKind::Upload, .. })
                if client.is_ecr() && offset <= size =>
            {
                UploadState::Confirmed(upload, offset)
            }
            Err(error) if is_lost(&error) => UploadState::NotStarted,
            Err(error @ (Error::Temporary { .. } | Error::Unauthenticated { .. })) => {
                return Err(error);
            }
            // Some registries do not support the request.
            Err(error) => {
                tracing::debug!(%error, "the registry does not report the status of an upload");
                UploadState::NotStarted
            }
        };
        Ok(false)
    }

    /// Updates the state after a failed request.
    fn update_state(&mut self, error: &Error) {
        let UploadState::Unconfirmed(upload, offset) = &self.state else { return };
        let refusal = DistributionError::of(error);
        let expected = refusal.and_then(DistributionError::expected_offset);
        let damaged = refusal.is_some_and(|refusal| refusal.has_code("DIGEST_INVALID"));
        self.state = match expected {
            Some(expected) if self.can_resume_at(*offset, expected) => {
                UploadState::Confirmed(upload.clone(), expected)
            }
            Some(_) => UploadState::NotStarted,
            // An earlier push may have sent damaged bytes, so the upload is restarted.
            None if damaged => UploadState::NotStarted,
            None if is_out_of_order(error) => return,
            None if is_lost(error) => UploadState::NotStarted,
            None => return,
        };
    }

    /// Returns whether the upload can be resumed at `expected`, if the last part started at `offset`. Only AWS ECR
    /// reports an expected offset. At the end of the upload, it rejects a part that was too small.
    fn can_resume_at(&self, offset: u64, expected: u64) -> bool {
        let cut = expected.saturating_sub(offset);
        expected <= self.blob.size() && !(1..ECR_MIN_PART_BYTES).contains(&cut)
    }

    /// Cancels the upload and removes its record, unless a later push can resume it.
    async fn clean_up(self, error: &Error) {
        if error.is_temporary() || matches!(error, Error::Unauthenticated { .. }) {
            return;
        }
        if let UploadState::Confirmed(upload, _) | UploadState::Unconfirmed(upload, _) = &self.state
        {
            self.target.cancel_upload(upload).await;
        }
        if let Some(record) = self.record {
            record.remove().await;
        }
    }

    fn offset(&self) -> u64 {
        match self.state {
            UploadState::NotStarted => 0,
            UploadState::Confirmed(_, offset) | UploadState::Unconfirmed(_, offset) => offset,
        }
    }

    fn is_confirmed(&self) -> bool {
        matches!(self.state, UploadState::Confirmed(..))
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
    /// The state of the blob during an attempt.
    state: BlobState,
    tries: Tries<'a>,
}

impl<'a> Attempts<'a> {
    /// Starts the first attempt, and reports its state.
    pub(super) fn start(
        target: &'a RegistryTarget<'_>,
        blob: &'a Blob,
        counter: &'a Counter,
        state: BlobState,
    ) -> Self {
        let attempts = Self { target, blob, counter, state, tries: target.client.retry().tries() };
        attempts.report(state);
        attempts
    }

    /// Resets the number of retries, because the registry has more bytes of the blob than after any earlier attempt.
    pub(super) fn succeeded(&mut self) {
        self.tries.succeeded();
    }

    /// Waits for the next attempt, which starts after `stored` bytes.
    ///
    /// # Errors
    /// Returns the error if another attempt cannot succeed. The error names the file if the file is the cause.
    pub(super) async fn failed(&mut self, error: Error, stored: u64) -> Result<()> {
        let error = self.classify(error).await?;
        let delay = self.tries.failed(error)?;
        self.report(BlobState::Retrying);
        self.counter.set(stored);
        sleep(delay).await;
        self.report(self.state);
        Ok(())
    }

    /// Makes the error temporary if another attempt can succeed.
    async fn classify(&self, error: Error) -> Result<Error> {
        let blob = self.blob;
        if is_lost(&error) {
            return Ok(
                Error::temporary("the registry has lost the upload of a blob").with_source(error)
            );
        }
        let refusal = DistributionError::of(&error);
        if refusal.is_some_and(|refusal| refusal.has_code("DIGEST_INVALID")) {
            // The blob is read again to find out whether the file or the transfer is the cause. The content of a
            // compressed layer was verified while it was read.
            if self.state == BlobState::Compressing || has_its_digest(blob).await? {
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

    fn report(&self, state: BlobState) {
        self.target.tell(Event::Blob { blob: self.blob.digest(), state });
    }
}

fn damaged_blob_error(blob: &Blob, error: Error) -> Error {
    let message = format!("{} is damaged: it is not {}", blob.location(), blob.digest());
    Error::failed(message).with_source(error)
}

/// Returns whether the registry rejected the offset of a part, but keeps the upload. An interrupted request may still
/// write to the upload.
pub(super) fn is_out_of_order(error: &Error) -> bool {
    let refusal = DistributionError::of(error);
    matches!(error, Error::Conflict { .. })
        || refusal.is_some_and(|refusal| refusal.status() == 416)
}

/// Returns whether the registry no longer has the upload, or has another number of bytes than expected.
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

/// Returns whether the content of a blob on this machine has its digest.
async fn has_its_digest(blob: &Blob) -> Result<bool> {
    let mut digester = Digester::new(blob.digest().algorithm());
    let mut pieces = Box::pin(blob.pieces(0).await?);
    let unreadable =
        |error| Error::failed(format!("{} cannot be read", blob.location())).with_source(error);
    while let Some(piece) = pieces.try_next().await.map_err(unreadable)? {
        digester.update(&piece);
    }
    Ok(digester.finish() == *blob.digest())
}
