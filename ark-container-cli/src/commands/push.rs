//! `--push`: uploads an image, and prints its URL by digest.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ark_container_core::backend::CreateOptions;
use ark_container_core::model::{ImageName, ImageUrl, Platform, Reference, Tag};
use ark_container_core::push::{Compression, ImageSource, PlatformChoice, Push, Pushed};
use ark_container_core::{Error, RegistryBackend as _};
use clap::ValueEnum;
use serde::Serialize;

use crate::args::{LoginArgs, OrganizationArgs};
use crate::connect::{Connection, Context};
use crate::failure::{Failure, Stop};
use crate::hint::{Attempt, Target};
use crate::progress::Report;
use crate::transfer::{Summary, transfer};
use crate::whole_file::write_whole;

/// The tag where none is given, as for docker.
const DEFAULT_TAG: &str = "latest";
const INTERRUPTED: &str = "the repository's tags are as they were, and the same command goes on";

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --push test/repo:v1 --from my-image:latest --organization GUID
  ark-catalog-container-tool --push test/repo:v1 --from oci:DIR --organization GUID --create
  docker save my-image | ark-catalog-container-tool --push test/repo:v1 --from - --organization GUID

SOURCE is one of:
  docker-daemon:REF         an image of docker, by name or id
  podman:REF                an image of podman
  docker-archive:FILE[:REF] what docker save writes
  oci:DIR[:REF]             a folder in the OCI image layout
  oci-archive:FILE[:REF]    such a folder in a tar
  -                         an archive of either kind on standard input
Without a prefix it is told from what is there.

The tag is put last: until then the repository's tags are as they were, however the push ends.";

/// Upload an image, and print its URL by digest
///
/// What the repository has already is not sent again, and a push that was cut off goes on where it was.
/// A local registry needs no running server, and ECR no login.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The repository's name and the tag to put on the image; the tag is latest where left out
    #[arg(value_name = "NAME[:TAG]")]
    image: String,

    /// Where the image is: an image of docker or podman, an archive or a folder
    #[arg(long, value_name = "SOURCE")]
    from: String,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// Create the repository if it does not exist
    #[arg(long)]
    create: bool,

    /// Of an image for several platforms, push the one for this, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all_platforms")]
    platform: Option<Platform>,

    /// Push an image with all its platforms
    #[arg(long)]
    all_platforms: bool,

    /// How to compress layers that are not compressed yet
    #[arg(long, value_name = "HOW", default_value = "gzip")]
    compression: CompressionArg,

    /// Send so many blobs at once; as many as the link likes unless told
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    #[command(flatten)]
    login: LoginArgs,

    /// Write the result to a file too, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
}

/// [`Compression`] as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressionArg {
    /// What every client reads
    Gzip,
    /// Smaller and faster, for docker 23, containerd 1.5, podman 2 and later
    Zstd,
}

impl From<CompressionArg> for Compression {
    fn from(typed: CompressionArg) -> Self {
        match typed {
            CompressionArg::Gzip => Self::Gzip,
            CompressionArg::Zstd => Self::Zstd,
        }
    }
}

/// What a push did, as programs read it.
#[derive(Debug, Serialize)]
struct PushRecord<'a> {
    url: &'a ImageUrl,
    tag: &'a Tag,
    blobs_sent: usize,
    bytes_sent: u64,
    blobs_skipped: usize,
    bytes_skipped: u64,
    blobs_mounted: usize,
    bytes_mounted: u64,
    bytes_resumed: u64,
    bytes_saved: u64,
    retries: u64,
    seconds: f64,
}

impl<'a> PushRecord<'a> {
    fn new(pushed: &'a Pushed, tag: &'a Tag) -> Self {
        Self {
            url: &pushed.url,
            tag,
            blobs_sent: pushed.blobs_sent,
            bytes_sent: pushed.bytes_sent,
            blobs_skipped: pushed.blobs_skipped,
            bytes_skipped: pushed.bytes_skipped,
            blobs_mounted: pushed.blobs_mounted,
            bytes_mounted: pushed.bytes_mounted,
            bytes_resumed: pushed.bytes_resumed,
            bytes_saved: pushed.bytes_saved,
            retries: pushed.retries,
            seconds: pushed.duration.as_secs_f64(),
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let (name, tag) = name_and_tag(&args.image, "a push")?;
    let (connection, target) = context.connect_to(name, &args.owner).await?;
    let explain = |error| Stop::from(target.explain(Attempt::Push { source: &args.from }, error));
    let source: ImageSource = args.from.parse().map_err(explain)?;
    if args.create {
        create(&connection, &target, context).await?;
    }
    let report = Arc::new(Report::new(context.output));
    let push = push(&args, &connection, &target, source, tag.clone(), report.clone());
    let pushed = transfer(&connection.place, &report, async |endpoint| match endpoint {
        Some(endpoint) => push.with_endpoint(endpoint).await,
        None => push.await,
    });
    let pushed =
        pushed.await.map_err(|broken| broken.into_stop(context.output, INTERRUPTED, explain))?;
    let record = PushRecord::new(&pushed, &tag);
    if let Some(file) = &args.metadata_file {
        write_record(file, &record)?;
    }
    context.output.result(&pushed.url.to_string(), &record)?;
    let summary = Summary::default()
        .blobs("blobs sent", pushed.blobs_sent, pushed.bytes_sent)
        .blobs("there already", pushed.blobs_skipped, pushed.bytes_skipped)
        .some_blobs("mounted", pushed.blobs_mounted, pushed.bytes_mounted)
        .bytes("gone on after", pushed.bytes_resumed)
        .bytes("saved by compression", pushed.bytes_saved)
        .within(pushed.duration);
    context.output.note(&format!("{name}:{tag}: {summary}"));
    Ok(())
}

/// The name and the tag of an image that is yet to be.
pub(super) fn name_and_tag<'a>(image: &'a str, what: &str) -> Result<(&'a str, Tag), Stop> {
    let ImageName { repository: name, reference } =
        ImageName::parse(image).map_err(Error::Parse)?;
    let tag = match reference {
        Some(Reference::Tag(tag)) => tag,
        Some(Reference::Digest(_)) => {
            return Err(Failure::usage(format!("{image:?}: {what} takes a tag"))
                .with_help("the digest is the image's own, and printed when it is there")
                .into());
        }
        None => DEFAULT_TAG.parse().map_err(Error::Parse)?,
    };
    Ok((name, tag))
}

/// Sees to it that the repository exists.
async fn create(connection: &Connection, target: &Target, context: &Context) -> Result<(), Stop> {
    let explain = |error| target.explain(Attempt::Create { existing: None }, error);
    match connection.backend.describe_repository(&target.path).await {
        Ok(_) => return Ok(()),
        Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(explain(error).into()),
    }
    let options = CreateOptions::default();
    let created = connection.backend.create_repository(&target.path, &options).await;
    let repository = created.map_err(explain)?;
    context.output.note(&format!("created {}", repository.url));
    Ok(())
}

/// Writes the result for programs that come later.
fn write_record(file: &Path, record: &PushRecord<'_>) -> Result<(), Failure> {
    let written = serde_json::to_vec(record).map_err(io::Error::from).and_then(|mut json| {
        json.push(b'\n');
        write_whole(file, &json)
    });
    written.map_err(|error| {
        Failure::io(
            format!("the image is pushed, but {} cannot be written", file.display()),
            &error,
        )
        .with_help("--metadata-file takes a file in a folder that exists and that you may write to")
    })
}

fn push(
    args: &Args,
    connection: &Connection,
    target: &Target,
    source: ImageSource,
    tag: Tag,
    report: Arc<Report>,
) -> Push {
    let platforms = match &args.platform {
        Some(platform) => PlatformChoice::One(platform.clone()),
        None if args.all_platforms => PlatformChoice::All,
        None => PlatformChoice::Only,
    };
    let mut push = Push::new(Arc::new(connection.backend.clone()), &target.path, source)
        .with_tag(tag)
        .with_platforms(platforms)
        .with_compression(args.compression.into())
        .with_login_scope(args.login.scope())
        .with_progress(report);
    if let Some(concurrency) = args.concurrency {
        push = push.with_concurrency(concurrency.get());
    }
    if let Some(directory) = Push::user_cache_directory() {
        push = push.with_cache_directory(directory);
    }
    push
}
