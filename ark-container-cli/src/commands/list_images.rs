//! `--list-images`: tags and digests of a repository.

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::Image;
use ark_container_core::model::{Digest, Tag};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::args::RepositoryArgs;
use crate::connect::Context;
use crate::failure::Stop;
use crate::hint::Attempt;
use crate::output::{human_size, rfc3339};

const EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --list-images test/repo --organization GUID";

/// List the images of a repository: tags, digest, size, when pushed, platform
///
/// The newest comes first. Sizes are of what the registry stores, compressed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Args {
    #[command(flatten)]
    repository: RepositoryArgs,
}

/// An image as programs read it.
#[derive(Debug, Serialize)]
struct ImageRecord<'a> {
    tags: &'a [Tag],
    digest: &'a Digest,
    size: u64,
    pushed_at: String,
    media_type: &'a str,
    platforms: Vec<String>,
}

impl<'a> From<&'a Image> for ImageRecord<'a> {
    fn from(image: &'a Image) -> Self {
        Self {
            tags: &image.tags,
            digest: &image.digest,
            size: image.size,
            pushed_at: rfc3339(image.pushed_at),
            media_type: &image.media_type,
            platforms: image.platforms.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let (connection, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let mut images = connection
        .backend
        .list_images(&target.path)
        .map_err(|error| target.explain(Attempt::ListImages, error));
    // What is refused has no table, so the header waits for the first answer.
    let mut next = images.try_next().await?;
    context.output.header(&row(["Tags", "Digest", "Size", "Pushed at", "Platforms"]))?;
    while let Some(image) = next {
        let record = ImageRecord::from(&image);
        let tags: Vec<&str> = record.tags.iter().map(Tag::as_str).collect();
        let columns = [
            &or_dash(tags.join(",")),
            &image.digest.to_string(),
            &human_size(image.size),
            &record.pushed_at,
            &or_dash(record.platforms.join(",")),
        ];
        context.output.result(&row(columns.map(String::as_str)), &record)?;
        next = images.try_next().await?;
    }
    Ok(())
}

/// Rows are printed as they arrive, so the columns have widths that fit what is usual.
fn row([tags, digest, size, pushed_at, platforms]: [&str; 5]) -> String {
    format!("{tags:<20} {digest:<71} {size:>8} {pushed_at:<20} {platforms}")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
