//! Operations on images: `--list-images`, `--delete-image`.

use ark_container_core::backend::Image;
use ark_container_core::model::{ImageName, Tag};
use ark_container_core::{Error, RegistryBackendExt as _, escape_untrusted};
use futures_util::TryStreamExt as _;

use crate::arguments::{OrganizationArgs, PROGRAM, RepositoryArgs};
use crate::context::Context;
use crate::failure::{Failure, Stop};
use crate::hint::Attempt;
use crate::output::{human_size, rfc3339};

const LIST_EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --list-images test/repo --organization GUID";

/// List the images of a repository: tags, digest, size, when pushed, platform
///
/// The newest comes first. Sizes are of what the registry stores, compressed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LIST_EXAMPLE)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
}

pub(crate) async fn list(args: ListArgs, context: &Context) -> Result<(), Stop> {
    let (catalog, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let images = catalog.images(&target.name()).map_err(Failure::from)?;
    let images = images.map_err(|error| target.explain(Attempt::ListImages, error));
    let header = row(["Tags", "Digest", "Size", "Pushed at", "Platforms"]);
    context.output.table(&header, images, image_row).await
}

fn image_row(image: &Image) -> String {
    let tags: Vec<&str> = image.tags.iter().map(Tag::as_str).collect();
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    let columns = [
        &or_dash(tags.join(",")),
        &image.digest.to_string(),
        &human_size(image.size),
        &rfc3339(image.pushed_at),
        &or_dash(platforms.join(",")),
    ];
    // A registry chooses tags and platforms.
    let columns = columns.map(|column| escape_untrusted(column));
    row(columns.each_ref().map(|column| &**column))
}

/// Rows are printed as they arrive, so the columns have fixed widths that fit usual values.
fn row([tags, digest, size, pushed_at, platforms]: [&str; 5]) -> String {
    format!("{tags:<20} {digest:<71} {size:>8} {pushed_at:<20} {platforms}")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

const DELETE_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --delete-image test/repo:v1 --organization GUID
  ark-catalog-container-tool --delete-image test/repo@sha256:HEX --organization GUID";

/// Delete an image by tag or digest, and print its URL (administrators)
///
/// A tag is deleted alone if the image has others, and with the image if it is its last. A digest
/// is deleted with all its tags.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DELETE_EXAMPLES)]
pub(crate) struct DeleteArgs {
    /// The image: a repository's name with a tag or a digest
    #[arg(value_name = "NAME:TAG|NAME@DIGEST")]
    image: String,

    #[command(flatten)]
    owner: OrganizationArgs,
}

pub(crate) async fn delete(args: DeleteArgs, context: &Context) -> Result<(), Stop> {
    let ImageName { repository: name, reference } =
        ImageName::parse(&args.image).map_err(Error::Parse)?;
    let Some(reference) = reference else {
        return Err(Failure::usage(format!("{name:?} names no image: add :TAG or @DIGEST"))
            .with_help(format!("to delete the whole repository: {PROGRAM} --delete-repository"))
            .into());
    };
    let (catalog, target) = context.connect_to(name, &args.owner).await?;
    let url = catalog.backend().repository_url(&target.path).image(reference);
    let deleted = catalog.delete_image(&url.to_string()).await;
    deleted.map_err(|error| target.explain(Attempt::DeleteImage, error))?;
    context.output.result(&url.to_string(), &serde_json::json!({ "url": url }))
}
