//! [`Receiver`]: blobs on their way into a layout.

use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

use super::layout::Layout;
use super::partial::{Partial, Received, damaged};
use super::{blocking, steady};
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::Descriptor;
use crate::progress::{BlobState, Event, Progress};

/// How many pieces wait to be written at most.
const AHEAD: usize = 4;

pub(super) struct Receiver<'a> {
    pub(super) client: &'a Client,
    pub(super) layout: &'a Arc<Layout>,
    pub(super) progress: &'a dyn Progress,
}

impl Receiver<'_> {
    /// Sees to it that the layout has a blob. Tells what became of it, and how many bytes came for it
    /// or were there.
    pub(super) async fn receive(&self, blob: &Descriptor) -> Result<(BlobState, u64)> {
        let (layout, wanted) = (Arc::clone(self.layout), blob.clone());
        if blocking(move || layout.has(&wanted)).await? {
            self.tell(blob, BlobState::Exists);
            return Ok((BlobState::Exists, blob.size));
        }
        let received = match self.fetch(blob).await {
            // Layers that may not be distributed are had from where their author has them.
            Err(Error::NotFound { .. }) if !blob.urls.is_empty() => {
                self.tell(blob, BlobState::Exists);
                return Ok((BlobState::Exists, 0));
            }
            received => received?,
        };
        self.tell(blob, BlobState::Fetched);
        Ok((BlobState::Fetched, received))
    }

    async fn fetch(&self, blob: &Descriptor) -> Result<u64> {
        let mut received = 0;
        loop {
            self.tell(blob, BlobState::Fetching);
            let partial = self.partial(blob).await?;
            let (is_continued, found) = (partial.is_continued(), partial.received());
            self.tell_moved(blob, found as i64);
            let partial = self.fill(partial, blob).await?;
            received += partial.received() - found;
            let layout = Arc::clone(self.layout);
            let finishing = blocking(move || {
                let _locked = layout;
                partial.finish()
            });
            match finishing.await? {
                Received::Whole => return Ok(received),
                // What an earlier pull left was no beginning of this blob.
                Received::Damaged(_) if is_continued => {
                    self.tell_moved(blob, -(blob.size as i64));
                }
                Received::Damaged(found) => return Err(damaged(blob, &found)),
            }
        }
    }

    async fn partial(&self, blob: &Descriptor) -> Result<Partial> {
        let (layout, blob) = (Arc::clone(self.layout), blob.clone());
        blocking(move || layout.partial(&blob)).await
    }

    /// Receives what a blob lacks. A thread of its own writes and hashes meanwhile.
    async fn fill(&self, mut partial: Partial, blob: &Descriptor) -> Result<Partial> {
        let (client, digest) = (self.client.clone(), blob.digest.clone());
        let content = steady::content(client, digest, blob.size, partial.received());
        let mut content = std::pin::pin!(content);
        let (sender, mut receiver) = mpsc::channel::<Bytes>(AHEAD);
        let layout = Arc::clone(self.layout);
        let writing = blocking(move || {
            // Where the pull is dropped, the next one must not write beside this.
            let _locked = layout;
            while let Some(piece) = receiver.blocking_recv() {
                partial.take(&piece)?;
            }
            Ok(partial)
        });
        let receiving = async {
            // What came before the content broke off is written too.
            let sender = sender;
            while let Some(piece) = content.try_next().await? {
                let bytes = piece.len() as i64;
                if sender.send(piece).await.is_err() {
                    // The disk failed, which the other end tells.
                    break;
                }
                self.tell_moved(blob, bytes);
            }
            Ok(())
        };
        let (received, written) = futures_util::future::join(receiving, writing).await;
        let partial = written?;
        received.map(|()| partial)
    }

    fn tell(&self, blob: &Descriptor, state: BlobState) {
        self.progress.event(&Event::Blob { blob: &blob.digest, state });
    }

    fn tell_moved(&self, blob: &Descriptor, bytes: i64) {
        if bytes != 0 {
            self.progress.event(&Event::Moved { blob: &blob.digest, bytes });
        }
    }
}
