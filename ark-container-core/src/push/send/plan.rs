//! [`Plan`]: what the registry has of an image, asked in one go.

use futures_util::future::{Either, OptionFuture, join3, select};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::distribution::{Client, Manifest};
use crate::error::Result;
use crate::model::{Digest, Reference, Tag};

/// How many questions are on their way at once. Each takes a connection of its own.
const AT_ONCE: usize = 16;

/// What there is to do.
#[derive(Debug)]
pub(super) enum Plan {
    /// The tag stands for the image: nothing.
    Done,
    /// The image is there by its digest, and needs its tag.
    Tag,
    /// Some of it is there: for each blob that was asked about, whether it is.
    Send(Vec<bool>),
}

/// Asks about the image, if its `root` is known, with what refers to it, and about its blobs at the
/// same time.
pub(super) async fn plan(
    client: &Client,
    root: Option<&Manifest>,
    referrers: &[Manifest],
    tag: Option<&Tag>,
    blobs: &[&Digest],
) -> Result<Plan> {
    let image = std::pin::pin!(image(client, root, referrers, tag));
    let blobs = blobs.iter().map(|digest| client.blob_exists(digest));
    let blobs = stream::iter(blobs.collect::<Vec<_>>());
    let blobs = std::pin::pin!(blobs.buffered(AT_ONCE).try_collect::<Vec<bool>>());
    match select(image, blobs).await {
        Either::Left((image, blobs)) => match image? {
            Some(plan) => Ok(plan),
            None => blobs.await.map(Plan::Send),
        },
        Either::Right((blobs, image)) => {
            let blobs = blobs?;
            Ok(image.await?.unwrap_or(Plan::Send(blobs)))
        }
    }
}

/// Whether the image is there as a whole: a registry takes no manifest whose blobs it lacks.
async fn image(
    client: &Client,
    root: Option<&Manifest>,
    referrers: &[Manifest],
    tag: Option<&Tag>,
) -> Result<Option<Plan>> {
    let Some(root) = root else { return Ok(None) };
    let by_digest = Reference::Digest(root.digest.clone());
    let by_tag = tag.map(|tag| Reference::Tag(tag.clone()));
    let tagged = OptionFuture::from(by_tag.as_ref().map(|tag| client.manifest(tag)));
    let attached = client.are_attached(referrers);
    let (tagged, there, attached) = join3(tagged, client.manifest(&by_digest), attached).await;
    if !attached? {
        return Ok(None);
    }
    let is_root = |digest: &Digest| *digest == root.digest;
    let tagged = tagged.transpose()?.map(|found| found.is_some_and(|found| is_root(&found.digest)));
    Ok(match (tagged, there?.is_some()) {
        (Some(true), _) | (None, true) => Some(Plan::Done),
        (Some(false), true) => Some(Plan::Tag),
        (_, false) => None,
    })
}
