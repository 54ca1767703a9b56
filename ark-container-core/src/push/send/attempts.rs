//! [`Attempts`]: sending one blob as often as it takes, and finding out what an answer that was lost said.

use futures_util::TryStreamExt;
use tokio::time::sleep;

use super::Sender;
use super::queue::Counter;
use crate::digester::Digester;
use crate::distribution::{DistributionError, Tries};
use crate::error::{Error, ResourceKind, Result};
use crate::push::{BlobState, Event, LocalBlob};

/// The attempts to send one blob.
pub(super) struct Attempts<'a> {
    sender: &'a Sender<'a>,
    blob: &'a LocalBlob,
    counter: &'a Counter,
    /// What it is in while it does not wait.
    state: BlobState,
    tries: Tries<'a>,
}

impl<'a> Attempts<'a> {
    /// Begins, and tells so.
    pub(super) fn begin(
        sender: &'a Sender<'_>,
        blob: &'a LocalBlob,
        counter: &'a Counter,
        state: BlobState,
    ) -> Self {
        let attempts = Self { sender, blob, counter, state, tries: sender.client.retry().tries() };
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
            let message = format!("{} is damaged: it is not {}", blob.place(), blob.digest());
            return Err(Error::failed(message).with_source(error));
        }
        match error {
            Error::Failed { .. } => {
                Err(Error::failed(format!("{} cannot be sent", blob.place())).with_source(error))
            }
            error => Ok(error),
        }
    }

    fn tell(&self, state: BlobState) {
        self.sender.tell(Event::Blob { blob: self.blob.digest(), state });
    }
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
async fn is_whole(blob: &LocalBlob) -> Result<bool> {
    let mut digester = Digester::new(blob.digest().algorithm());
    let mut pieces = Box::pin(blob.pieces(0).await?);
    let unreadable =
        |error| Error::failed(format!("{} cannot be read", blob.place())).with_source(error);
    while let Some(piece) = pieces.try_next().await.map_err(unreadable)? {
        digester.update(&piece);
    }
    Ok(digester.finish() == *blob.digest())
}
