//! Operations on images: `--list-images`, `--tag`, `--delete-image`, `--prune-images`.

use std::time::Duration;

use ark_container_core::backend::{Image, ImageState};
use ark_container_core::catalog::{Prune, PruneStep};
use ark_container_core::model::{ImageName, Reference, Tag, TagPattern};
use ark_container_core::{Error, RegistryBackendExt as _, escape_untrusted};
use futures_util::{TryStreamExt as _, stream};

use crate::arguments::{OrganizationArgs, PROGRAM, RepositoryArgs};
use crate::context::{Context, path_in};
use crate::failure::{Failure, Stop};
use crate::hint::Attempt;
use crate::output::{human_size, rfc3339};

const LIST_EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --list-images test/repo --organization GUID";

/// List the images of a repository: tags, digest, size, time of the push, platforms
///
/// The newest image comes first. Sizes are the compressed sizes in the registry. An image in the archive of
/// AWS ECR is marked as archived: it cannot be pulled until it is restored.
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
    context.output.table(&header(), images, image_row).await
}

fn header() -> String {
    row(["Tags", "Digest", "Size", "Pushed at", "Platforms"])
}

fn image_row(image: &Image) -> String {
    let tags: Vec<&str> = image.tags.iter().map(Tag::as_str).collect();
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    let mut platforms = or_dash(platforms.join(","));
    if image.state != ImageState::Active {
        platforms = format!("{platforms} ({})", image.state);
    }
    let columns = [
        &or_dash(tags.join(",")),
        &image.digest.to_string(),
        &human_size(image.size),
        &rfc3339(image.pushed_at),
        &platforms,
    ];
    // Tags and platforms come from the registry, so they are untrusted.
    let columns = columns.map(|column| escape_untrusted(column));
    row(columns.each_ref().map(|column| &**column))
}

/// Returns a row. Rows are printed as they arrive, so the columns have fixed widths that fit usual values.
fn row([tags, digest, size, pushed_at, platforms]: [&str; 5]) -> String {
    format!("{tags:<20} {digest:<71} {size:>8} {pushed_at:<20} {platforms}")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

const TAG_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --tag test/repo:v1 stable --organization GUID
  ark-catalog-container-tool --tag test/repo@sha256:HEX v1 --organization GUID";

/// Add a tag to an image, and print its URL by digest
///
/// No blob is transferred, and the image keeps its other tags. If another image has the tag, the tag moves,
/// unless the repository's tags are immutable.
#[derive(Debug, clap::Args)]
#[command(after_long_help = TAG_EXAMPLES)]
pub(crate) struct TagArgs {
    /// Name, path or URL of a repository, with a tag or digest; the default tag is latest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,

    /// Tag to add to the image
    #[arg(value_name = "NEWTAG")]
    tag: String,

    #[command(flatten)]
    owner: OrganizationArgs,
}

pub(crate) async fn tag(args: TagArgs, context: &Context) -> Result<(), Stop> {
    let ImageName { repository: name, reference } =
        ImageName::parse(&args.image).map_err(Error::Parse)?;
    let reference = reference.unwrap_or_else(|| Tag::latest().into());
    let (catalog, target) = context.connect_to(name, &args.owner).await?;
    let tagged = catalog.tag(&target.image(&reference), &args.tag).await;
    let tagged = tagged.map_err(|error| target.explain(Attempt::Tag, error))?;
    context.output.result(&tagged.url.to_string(), &tagged)
}

const DELETE_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --delete-image test/repo:v1 test/repo:v2 --organization GUID
  ark-catalog-container-tool --delete-image test/repo@sha256:HEX --organization GUID";

/// Delete images by tag or digest, and print the URL of each (administrators)
///
/// Deleting a tag deletes the image only if it is the last tag. Deleting a digest deletes the image and all
/// its tags. The first failure stops the operation. The images printed before it are deleted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DELETE_EXAMPLES)]
pub(crate) struct DeleteArgs {
    /// Images, each as name, path or URL of a repository with a tag or digest
    #[arg(value_name = "NAME:TAG|NAME@DIGEST", required = true)]
    images: Vec<String>,

    #[command(flatten)]
    owner: OrganizationArgs,
}

pub(crate) async fn delete(args: DeleteArgs, context: &Context) -> Result<(), Stop> {
    let images = args.images.iter().map(|image| {
        let (name, reference) = named_image(image, &args.owner, context)?;
        Ok((name, reference, context.owner_of(name, args.owner.organization.as_deref())?))
    });
    let images = images.collect::<Result<Vec<_>, Failure>>()?;
    let catalog = context.connect().await?;
    let mut targets = Vec::with_capacity(images.len());
    for (name, reference, organization) in images {
        let path = path_in(&catalog.in_organization(organization), name)?;
        targets.push((context.target(path), reference));
    }
    for (target, reference) in targets {
        let deleted = catalog.delete_image(&target.image(&reference)).await;
        let url = catalog.backend().repository_url(&target.path).image(reference);
        deleted.map_err(|error| target.explain(Attempt::DeleteImage, error))?;
        context.output.result(&url.to_string(), &serde_json::json!({ "url": url }))?;
    }
    Ok(())
}

/// Returns the repository and the tag or digest of an image to delete.
fn named_image<'a>(
    image: &'a str,
    owner: &OrganizationArgs,
    context: &Context,
) -> Result<(&'a str, Reference), Failure> {
    let ImageName { repository: name, reference } =
        ImageName::parse(image).map_err(Error::Parse)?;
    let reference = reference.ok_or_else(|| {
        Failure::usage(format!("{name:?} names no image: add :TAG or @DIGEST")).with_help(format!(
            "to delete the whole repository: {PROGRAM} --delete-repository {name}{}",
            context.typed_with(owner)
        ))
    })?;
    Ok((name, reference))
}

const PRUNE_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --prune-images test/repo --keep 10 --dry-run --organization GUID
  ark-catalog-container-tool --prune-images test/repo --keep 10 --older-than 30d \\
      --keep-tags 'release-*' --untagged --organization GUID

An index is deleted with its images, and an image with its signatures and other referrers. These do
not count as separate images. Everything that a kept image needs is kept.";

/// Delete the old images of a repository, and print them (administrators)
///
/// Each image is printed after it is deleted. An image whose tags change in the meantime is kept.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PRUNE_EXAMPLES)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// Delete tagged images, except the N that were pushed last
    #[arg(long, value_name = "N", required_unless_present = "untagged")]
    keep: Option<usize>,

    /// Delete only images that were pushed longer ago than this, such as 30d or 12h
    ///
    /// The default for images without a tag is 1h, since a running push may need them.
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,

    /// Keep images with a matching tag, such as 'release-*', and do not count them; may be repeated
    #[arg(long, value_name = "PATTERN")]
    keep_tags: Vec<String>,

    /// Also delete images without a tag, unless an index or image needs them
    #[arg(long)]
    untagged: bool,

    /// Print the images that would be deleted, and delete none
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn prune(args: PruneArgs, context: &Context) -> Result<(), Stop> {
    context.refuse_image(&args.repository)?;
    let patterns = args.keep_tags.iter().map(|pattern| {
        let pattern = pattern.parse::<TagPattern>();
        pattern.map_err(|error| Failure::from(Error::Parse(error)).within("--keep-tags"))
    });
    let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
    let (catalog, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let explain = |error| target.explain(Attempt::DeleteImage, error);
    let mut prune = catalog.prune(target.name()).with_untagged(args.untagged);
    if let Some(count) = args.keep {
        prune = prune.with_kept_newest(count);
    }
    if let Some(age) = args.older_than {
        prune = prune.with_min_age(age);
    }
    let prune = patterns.into_iter().fold(prune, Prune::with_kept_tags);
    let plan = prune.plan().await.map_err(explain)?;
    let (count, kept) = (plan.images.len(), plan.kept);
    let would = if args.dry_run { "would be" } else { "will be" };
    context.output.note(&format!("{count} of {} images {would} deleted", count + kept));
    if args.dry_run {
        let images = stream::iter(plan.images.into_iter().map(Ok));
        return context.output.table(&header(), images, image_row).await;
    }
    let deleted = plan.run().map_err(explain).try_filter_map(async |step| match step {
        PruneStep::Deleted(image) => Ok(Some(image)),
        PruneStep::Changed(image) => {
            context.output.note(&format!("{} changed in the meantime and is kept", image.digest));
            Ok(None)
        }
        _ => Ok(None),
    });
    context.output.table(&header(), deleted, image_row).await
}
