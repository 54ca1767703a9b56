//! Publishing an image: its manifests, in the order that keeps tags whole.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::client::Client;
use super::document::Manifest;
use crate::error::Result;
use crate::model::{Reference, Tag, media_type};

/// How many manifests are put at once.
const AT_ONCE: usize = 4;

impl Client {
    /// Puts the manifests of an image whose blobs are there: those `below` the root, each of which comes
    /// after those that it names, then the root, at the tag where there is one. What was put is `told`.
    ///
    /// # Errors
    /// Those of [`put_manifest`](Self::put_manifest).
    pub(crate) async fn publish(
        &self,
        below: impl IntoIterator<Item = &Manifest>,
        root: &Manifest,
        tag: Option<&Tag>,
        told: &(dyn Fn(&Reference) + Sync),
    ) -> Result<()> {
        // An index names what comes before it, so those wait for the images.
        let (indexes, images): (Vec<_>, Vec<_>) =
            below.into_iter().partition(|child| media_type::is_index(&child.media_type));
        let put = |reference: Reference, manifest| async move {
            self.put_manifest(&reference, manifest).await?;
            told(&reference);
            Ok(())
        };
        let images = images.into_iter().map(|manifest| put(by_digest(manifest), manifest));
        // A stream that makes the futures as it goes could not be sent to another thread.
        stream::iter(images.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        for index in indexes {
            put(by_digest(index), index).await?;
        }
        put(tag.map_or_else(|| by_digest(root), |tag| tag.clone().into()), root).await
    }
}

fn by_digest(manifest: &Manifest) -> Reference {
    Reference::Digest(manifest.digest.clone())
}
