//! Sending one part.

use futures_util::StreamExt;

use super::attempts::Attempts;
use super::parts::ONE_REQUEST_LEN;
use super::queue::Counter;
use super::{Outcome, Sender, as_it_is};
use crate::distribution::{DistributionError, Mount, Upload};
use crate::error::{Error, Result};
use crate::model::Descriptor;
use crate::push::{BlobState, LocalBlob, Part};

impl Sender<'_> {
    /// Sends one part. `known` is what the manifest will say of it, if that is known already.
    pub(super) async fn send_part(
        &self,
        part: Part<'_>,
        known: Option<&Descriptor>,
        counter: &Counter,
    ) -> Result<Outcome> {
        let mut opened = None;
        if let Some(known) = known {
            match self.neighbours.mount(&known.digest).await {
                Some(Mount::Mounted) => {
                    return Ok(Outcome::unsent(known.clone(), BlobState::Mounted));
                }
                Some(Mount::Upload(upload)) => opened = Some(upload),
                None => {}
            }
        }
        let blob = part.local();
        match part {
            Part::Blob(_) if blob.size() <= ONE_REQUEST_LEN => {
                let upload = self.open(opened).await?;
                self.send_whole(blob, upload, counter).await?;
                Ok(Outcome::sent(as_it_is(blob), 0, 0))
            }
            Part::Blob(_) => {
                let resumed = self.send_in_parts(blob, opened, counter).await?;
                Ok(Outcome::sent(as_it_is(blob), resumed, 0))
            }
            Part::Tar(_) => {
                let (descriptor, resumed) = self.send_tar(blob, opened, counter).await?;
                let saved = blob.size().saturating_sub(descriptor.size);
                Ok(Outcome::sent(descriptor, resumed, saved))
            }
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
    async fn send_whole(&self, blob: &LocalBlob, upload: Upload, counter: &Counter) -> Result<()> {
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

    async fn try_whole(&self, blob: &LocalBlob, upload: &Upload, counter: &Counter) -> Result<()> {
        let count = counter.clone();
        let content = blob.to_send(0..blob.size()).await?.inspect(move |piece| {
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
