//! `--copy`: copies an image from one repository to another.

use std::num::NonZeroUsize;
use std::sync::Arc;

use ark_container_core::model::{ImageName, ImageUrl, Platform, Reference, Tag};
use ark_container_core::pull::Copy;
use ark_container_core::{Error, RegistryBackendExt as _};
use serde::Serialize;

use super::push::name_and_tag;
use crate::args::{LoginArgs, OrganizationArgs};
use crate::connect::Context;
use crate::failure::Stop;
use crate::hint::{Attempt, Target};
use crate::progress::Report;
use crate::transfer::{Summary, transfer};

const INTERRUPTED: &str = "the repository's tags are as they were, and the same command goes on";

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --copy test/repo:v1 --to release/repo:v1 --organization GUID
  ark-catalog-container-tool --copy test/repo@sha256:… --to repo:v1 --organization GUID \\
      --to-organization GUID2

Within an organization the registry takes the blobs over by itself, where it can; else they go
through this machine, and touch no disk. The tag is put last.";

/// Copy an image to another repository of the registry, and print its URL there by digest
///
/// The image keeps its digest, and what refers to it, such as a signature, goes along. What the other repository has already is not sent again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The repository's name and the image's tag or digest; the tag is latest where left out
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,

    /// The other repository's name and the tag to put on the image there
    ///
    /// Where the tag is left out it is that of the image, or latest.
    #[arg(long, value_name = "NAME2[:TAG2]")]
    to: String,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// The organization of the other repository, if it is another
    #[arg(long, value_name = "GUID")]
    to_organization: Option<String>,

    /// Of an image for several platforms, copy the one for this, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Move so many blobs at once; 4 unless told
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    #[command(flatten)]
    login: LoginArgs,
}

/// What a copy did, as programs read it.
#[derive(Debug, Serialize)]
struct CopyRecord<'a> {
    url: &'a ImageUrl,
    tag: &'a Tag,
    blobs_sent: usize,
    bytes_sent: u64,
    blobs_skipped: usize,
    bytes_skipped: u64,
    blobs_mounted: usize,
    bytes_mounted: u64,
    seconds: f64,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let ImageName { repository: name, reference } =
        ImageName::parse(&args.image).map_err(Error::Parse)?;
    let (to, default_tag) = name_and_tag(&args.to, "a copy")?;
    let reference = reference.unwrap_or(Reference::Tag(default_tag.clone()));
    let tag = match (&reference, args.to.contains(':')) {
        (Reference::Tag(tag), false) => tag.clone(),
        _ => default_tag,
    };
    let (connection, source) = context.connect_to(name, &args.owner).await?;
    let organization = match &args.to_organization {
        Some(organization) => organization.parse().map_err(Error::Parse)?,
        None => source.path.organization(),
    };
    let to = to.parse().map_err(Error::Parse)?;
    let path = connection.backend.repository_path(organization, &to)?;
    let target = Target::new(path, &context.settings);
    let report = Arc::new(Report::new(context.output));
    let backend = Arc::new(connection.backend.clone());
    let mut copy = Copy::new(backend, &source.path, reference, &target.path)
        .with_tag(tag.clone())
        .with_login_scope(args.login.scope())
        .with_progress(report.clone());
    if let Some(platform) = args.platform {
        copy = copy.with_platform(platform);
    }
    if let Some(concurrency) = args.concurrency {
        copy = copy.with_concurrency(concurrency.get());
    }
    let copied = transfer(&connection.place, &report, async |endpoint| match endpoint {
        Some(endpoint) => copy.with_endpoint(endpoint).await,
        None => copy.await,
    });
    let explain = |error: Error| match is_about(&error, &source) {
        true => source.explain(Attempt::Pull, error).into(),
        false => target.explain(Attempt::Copy, error).into(),
    };
    let copied =
        copied.await.map_err(|broken| broken.into_stop(context.output, INTERRUPTED, explain))?;
    let record = CopyRecord {
        url: &copied.url,
        tag: &tag,
        blobs_sent: copied.blobs_sent,
        bytes_sent: copied.bytes_sent,
        blobs_skipped: copied.blobs_skipped,
        bytes_skipped: copied.bytes_skipped,
        blobs_mounted: copied.blobs_mounted,
        bytes_mounted: copied.bytes_mounted,
        seconds: copied.duration.as_secs_f64(),
    };
    context.output.result(&copied.url.to_string(), &record)?;
    let summary = Summary::default()
        .blobs("blobs sent", copied.blobs_sent, copied.bytes_sent)
        .blobs("there already", copied.blobs_skipped, copied.bytes_skipped)
        .some_blobs("mounted", copied.blobs_mounted, copied.bytes_mounted)
        .within(copied.duration);
    context.output.note(&format!("{to}:{tag}: {summary}"));
    Ok(())
}

/// Whether what is missing belongs to the repository that is copied from.
fn is_about(error: &Error, repository: &Target) -> bool {
    let path = repository.path.to_string();
    let is_path = |name: &str| {
        let rest = name.rsplit_once(&path).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
    };
    matches!(error, Error::NotFound { name, .. } if is_path(name))
}
