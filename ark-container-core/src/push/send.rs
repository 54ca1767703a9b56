//! Sending an image: what the repository lacks, in the order that keeps its tags whole.

use std::error::Error as _;

use super::{LocalBlob, LocalImage, Pushed};
use crate::distribution::{Client, DistributionError};
use crate::error::{Error, Result};
use crate::model::{Reference, Tag};

pub(super) async fn send(client: &Client, image: &LocalImage, tag: Option<&Tag>) -> Result<Pushed> {
    let mut pushed = Pushed {
        image: client.repository().image(image.digest().clone()),
        tag: tag.cloned(),
        blobs_sent: 0,
        bytes_sent: 0,
        blobs_skipped: 0,
        bytes_skipped: 0,
    };
    let by_digest = Reference::Digest(image.digest().clone());
    let tagged = match tag {
        Some(tag) => stands_for(client, &tag.clone().into(), image).await?,
        None => false,
    };
    // A registry takes no manifest whose blobs it lacks, so the rest is there where the root is.
    if tagged || stands_for(client, &by_digest, image).await? {
        for blob in image.blobs() {
            pushed.skip(blob);
        }
    } else {
        for blob in image.blobs() {
            if client.blob_exists(blob.digest()).await? {
                pushed.skip(blob);
            } else {
                send_blob(client, blob).await?;
                pushed.blobs_sent += 1;
                pushed.bytes_sent += blob.size();
            }
        }
        for manifest in image.children() {
            client.put_manifest(&manifest.digest.clone().into(), manifest).await?;
        }
        client.put_manifest(&by_digest, image.root()).await?;
    }
    if let Some(tag) = tag.filter(|_| !tagged) {
        client.put_manifest(&tag.clone().into(), image.root()).await?;
    }
    tracing::info!(image = %pushed.image, sent = pushed.bytes_sent, "pushed");
    Ok(pushed)
}

impl Pushed {
    fn skip(&mut self, blob: &LocalBlob) {
        self.blobs_skipped += 1;
        self.bytes_skipped += blob.size();
    }
}

async fn stands_for(client: &Client, reference: &Reference, image: &LocalImage) -> Result<bool> {
    let found = client.manifest(reference).await?;
    Ok(found.is_some_and(|found| found.digest == *image.digest()))
}

async fn send_blob(client: &Client, blob: &LocalBlob) -> Result<()> {
    let content = blob.content().await?;
    let upload = client.start_upload().await?;
    let sent = client.upload_blob(&upload, blob.digest(), blob.size(), content).await;
    if sent.as_ref().is_err_and(|error| refusal(error).is_some()) {
        // A registry whose disk is full would keep the torso for a day, and one more for every try.
        if let Err(error) = client.cancel_upload(&upload).await {
            tracing::debug!(%error, "an upload that failed is left to run out");
        }
    }
    sent.map_err(|error| blame(blob, error))
}

/// What the registry answered, where it was the registry that refused.
fn refusal(error: &Error) -> Option<&DistributionError> {
    error.source()?.downcast_ref()
}

/// Names the file where the fault is in the file.
fn blame(blob: &LocalBlob, error: Error) -> Error {
    if refusal(&error).is_some_and(|refusal| refusal.has_code("DIGEST_INVALID")) {
        let message = format!("{} is damaged: it is not {}", blob.place(), blob.digest());
        Error::failed(message, error)
    } else if matches!(error, Error::Failed { .. }) {
        Error::failed(format!("{} cannot be sent", blob.place()), error)
    } else {
        error
    }
}
