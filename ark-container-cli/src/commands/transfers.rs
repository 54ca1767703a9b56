//! Operations that transfer an image: `--push`, `--pull`, `--copy`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::model::{ImageName, ImageReference, Platform, Reference, Tag};
use ark_container_core::transfer::{Compression, ImageTarget, PlatformChoice, Push};
use ark_container_core::{Error, OutputFile, quote_for_shell};
use clap::builder::TypedValueParser;
use futures_util::future::{Either, select};

use crate::arguments::{LoginScopeArgs, OrganizationArgs, PROGRAM, image_location, one_of, path};
use crate::context::{Context, path_in};
use crate::failure::{Failure, Stop};
use crate::hint::{Attempt, ImageOrigin};
use crate::output::{human_size, human_time, to_json_line};
use crate::progress::Report;

const PUSH_INTERRUPTED: &str =
    "the repository's tags are unchanged, and the same command resumes the transfer";
const PULL_INTERRUPTED: &str =
    "the folder's images are unchanged, and the same command resumes the transfer";

const PUSH_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --push test/repo:v1 --from my-image:latest --organization GUID
  ark-catalog-container-tool --push test/repo:v1 --from oci:DIR --organization GUID --create
  docker save my-image | ark-catalog-container-tool --push test/repo:v1 --from - --organization GUID

SOURCE is one of:
  docker-daemon:REF         an image of docker, by name or id
  podman:REF                an image of podman
  docker-archive:FILE[:REF] an archive that docker save wrote
  oci:DIR[:REF]             a folder in the OCI image layout
  oci-archive:FILE[:REF]    a tar archive of such a folder
  -[:REF]                   an archive of either kind on standard input
Without a prefix, the kind is detected. In a folder or an archive, REF is a name, a digest such as
@sha256:… or a position such as @0.

The tag is written last: a push that fails leaves the repository's tags unchanged.";

/// Upload an image, and print its URL by digest
///
/// Blobs that the repository already has are not sent again, and an interrupted push is resumed. A local
/// registry needs no running server, and ECR needs no login.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PUSH_EXAMPLES)]
pub(crate) struct PushArgs {
    /// Name, path or URL of the repository, with the tag for the image; the default tag is latest
    #[arg(value_name = "NAME[:TAG]")]
    image: String,

    /// Image source: an image of docker or podman, an archive or a folder
    #[arg(long, value_name = "SOURCE", allow_hyphen_values = true, value_parser = image_location())]
    from: String,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// Create the repository if it does not exist
    #[arg(long)]
    create: bool,

    #[command(flatten)]
    platforms: PlatformArgs,

    /// Compression of layers that are not compressed yet
    #[arg(long, value_name = "HOW", default_value = "gzip", value_parser = compression())]
    compression: Compression,

    /// Maximum number of concurrent blobs; the default adapts to the link
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    #[command(flatten)]
    login: LoginScopeArgs,

    /// Also write the result to a file, as JSON
    #[arg(long, value_name = "FILE", value_parser = path())]
    metadata_file: Option<PathBuf>,
}

/// The choice of platforms, the same for every transfer.
#[derive(Debug, clap::Args)]
struct PlatformArgs {
    /// Transfer only the image for this platform, such as linux/arm64
    ///
    /// Without this option, the image is transferred unchanged, with all its platforms.
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all_platforms")]
    platform: Option<Platform>,

    /// Transfer the image with all its platforms, and fail if the source lacks one
    #[arg(long)]
    all_platforms: bool,
}

impl PlatformArgs {
    fn choice(self) -> PlatformChoice {
        match self.platform {
            Some(platform) => PlatformChoice::One(platform),
            None if self.all_platforms => PlatformChoice::All,
            None => PlatformChoice::AsIs,
        }
    }
}

fn compression() -> impl TypedValueParser<Value = Compression> {
    one_of([
        (Compression::Gzip, "gzip", "Supported by every client"),
        (
            Compression::Zstd,
            "zstd",
            "Smaller and faster, for docker 23, containerd 1.5, podman 2 and later",
        ),
    ])
}

pub(crate) async fn push(args: PushArgs, context: &Context) -> Result<(), Stop> {
    let (name, tag) = name_and_tag(&args.image, "a push")?;
    let tag = tag.unwrap_or_else(Tag::latest);
    if args.from.starts_with(ImageReference::PREFIX) {
        let command = format!(
            "{PROGRAM} --copy {} --to {}{}",
            quote_for_shell(&args.from),
            args.image,
            context.typed_with(&args.owner)
        );
        return Err(Failure::usage(format!("{} is in a registry, not on this machine", args.from))
            .with_help(format!("copy it: {command}"))
            .into());
    }
    // A file that cannot be written fails here, before the push.
    let metadata_file = match &args.metadata_file {
        Some(file) => Some(OutputFile::create(file).map_err(|error| {
            Failure::from(error).or_help("use a file in a folder that exists: --metadata-file FILE")
        })?),
        None => None,
    };
    let (catalog, target) = context.connect_to(name, &args.owner).await?;
    let explain = |error| target.explain(Attempt::Push { source: &args.from }, error);
    let push = catalog.prepare_push(&format!("{}:{tag}", target.path), &args.from);
    let push = push.map_err(explain)?;
    let report = Arc::new(Report::new(context.output));
    let mut push = push.with_platforms(args.platforms.choice());
    if args.create {
        // Opens the source first, so that a source that cannot be pushed creates no repository.
        push = push.open().await.map_err(explain)?;
        let created = catalog.create_if_missing(&target.name()).await;
        let created =
            created.map_err(|error| target.explain(Attempt::Create { existing: None }, error))?;
        if created.is_new {
            context.output.note(&format!("created {}", created.repository.url));
        }
    }
    push = push
        .with_compression(args.compression)
        .with_login_scope(args.login.login_scope)
        .with_progress(report.clone());
    if let Some(concurrency) = args.concurrency {
        push = push.with_concurrency(concurrency.get());
    }
    if let Some(directory) = Push::user_cache_directory() {
        push = push.with_cache_directory(directory);
    }
    let pushed = transfer(push.into_future(), &report, PUSH_INTERRUPTED).await?.map_err(explain)?;
    if let Some(file) = metadata_file {
        let written = file.publish(to_json_line(&pushed)?.as_bytes());
        written.map_err(|error| Failure::from(error).within("the image is pushed"))?;
    }
    context.output.result(&pushed.url.to_string(), &pushed)?;
    let mut counts = vec![
        blobs("blobs sent", pushed.blobs_sent, pushed.bytes_sent),
        blobs("skipped", pushed.blobs_skipped, pushed.bytes_skipped),
    ];
    if pushed.blobs_mounted > 0 {
        counts.push(blobs("mounted", pushed.blobs_mounted, pushed.bytes_mounted));
    }
    if pushed.bytes_resumed > 0 {
        counts.push(format!("resumed after: {}", human_size(pushed.bytes_resumed)));
    }
    if pushed.bytes_saved > 0 {
        counts.push(format!("saved by compression: {}", human_size(pushed.bytes_saved)));
    }
    context.output.note(&summary(&format!("{name}:{tag}"), &counts, pushed.duration));
    Ok(())
}

/// Returns the repository and the tag of an image that a transfer creates.
fn name_and_tag<'a>(image: &'a str, transfer: &str) -> Result<(&'a str, Option<Tag>), Failure> {
    let ImageName { repository: name, reference } =
        ImageName::parse(image).map_err(Error::Parse)?;
    match reference {
        Some(Reference::Tag(tag)) => Ok((name, Some(tag))),
        Some(Reference::Digest(_)) => {
            Err(Failure::usage(format!("{image:?}: {transfer} takes a tag"))
                .with_help("use a tag; the digest of the image is printed after the transfer"))
        }
        None => Ok((name, None)),
    }
}

const PULL_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --pull test/repo:v1 --to oci:DIR --organization GUID
  ark-catalog-container-tool --pull test/repo@sha256:… --to oci:DIR:v1 --organization GUID \\
      --platform linux/arm64
  ark-catalog-container-tool --pull docker://alpine:3.20 --to oci-archive:alpine.tar

TARGET is one of:
  oci:DIR[:NAME]             a folder in the OCI image layout
  oci-archive:FILE[:NAME]    a new archive of such a folder
  docker-archive:FILE[:NAME] a new archive that docker load and podman load read
  docker-daemon:NAME         docker
  podman:NAME                podman
  -                          an archive on standard output

A folder keeps its other images. The image is added to its index last, as NAME or else as the tag;
an image that had this name loses it. Docker and podman accept one platform: choose it with
--platform.";

/// Fetch an image to this machine, and print its URL by digest
///
/// Blobs that the folder already has are not fetched again, and an interrupted pull is resumed. Every blob
/// is verified.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PULL_EXAMPLES)]
pub(crate) struct PullArgs {
    /// Name, path or URL of a repository, with a tag or digest, or docker://HOST/REPOSITORY[:TAG|@DIGEST]
    ///
    /// The default tag is latest.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,

    /// Image target: a folder, an archive, docker or podman
    #[arg(long, value_name = "TARGET", allow_hyphen_values = true, value_parser = image_location())]
    to: String,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// Use plain HTTP for the registry of a docker:// image
    #[arg(long)]
    plain_http: bool,

    #[command(flatten)]
    platforms: PlatformArgs,

    /// Maximum number of concurrent blobs; the default adapts to the link
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,
}

pub(crate) async fn pull(args: PullArgs, context: &Context) -> Result<(), Stop> {
    let mut to: ImageTarget = args.to.parse()?;
    let (catalog, image, origin) = context.connect_to_image(&args.image, &args.owner).await?;
    let read: ImageReference = image.parse().map_err(Error::Parse)?;
    if let (Reference::Tag(tag), None, Some(_)) = (read.reference(), to.name(), to.path()) {
        let name = match &origin {
            _ if !to.is_for_one_platform() => tag.to_string(),
            ImageOrigin::Repository(target) => format!("{}:{tag}", target.path.name()),
            ImageOrigin::Registry(image) => image.to_string(),
        };
        to = to.with_name(name);
    }
    let report = Arc::new(Report::new(context.output));
    let pull = catalog.prepare_pull(&image, &to.to_string()).map_err(Failure::from)?;
    let pull = pull.with_plain_http(args.plain_http).with_progress(report.clone());
    let mut pull = pull.with_platforms(args.platforms.choice());
    if let Some(concurrency) = args.concurrency {
        pull = pull.with_concurrency(concurrency.get());
    }
    let interrupted = match to.layout() {
        Some(_) => PULL_INTERRUPTED,
        None => "the target was not written",
    };
    let pulled = transfer(pull.into_future(), &report, interrupted).await?;
    let pulled = pulled.map_err(|error| origin.explain(error))?;
    // An archive on standard output is the result itself.
    if !to.is_standard_output() {
        context.output.result(&pulled.url.to_string(), &pulled)?;
    }
    let counts = [
        blobs("blobs fetched", pulled.blobs_fetched, pulled.bytes_fetched),
        blobs("skipped", pulled.blobs_skipped, pulled.bytes_skipped),
    ];
    context.output.note(&summary(&args.image, &counts, pulled.duration));
    Ok(())
}

const COPY_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --copy test/repo:v1 --to release/repo:v1 --organization GUID
  ark-catalog-container-tool --copy test/repo@sha256:… --to repo:v1 --organization GUID \\
      --to-organization GUID2
  ark-catalog-container-tool --copy docker://alpine:3.20 --to base/alpine --organization GUID

docker://HOST/REPOSITORY[:TAG|@DIGEST] is an image in any registry. It is read with the credentials
that docker or podman has for the registry, or anonymously. Within an organization the registry
mounts the blobs if it can; otherwise the blobs pass through this machine, and are not written to
disk. The tag is written last.";

/// Copy an image from any registry to a repository, and print its new URL by digest
///
/// The image keeps its digest, and its referrers, such as signatures, are copied too. Blobs that the target
/// repository already has are not sent again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = COPY_EXAMPLES)]
pub(crate) struct CopyArgs {
    /// Name, path or URL of a repository, with a tag or digest, or docker://HOST/REPOSITORY[:TAG|@DIGEST]
    ///
    /// The default tag is latest.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,

    /// Name, path or URL of the target repository, with the tag for the image
    ///
    /// The default tag is the tag of the source image, or latest. :TAG2 alone is a tag in the same repository.
    #[arg(long, value_name = "NAME2[:TAG2]")]
    to: String,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// Use plain HTTP for the registry of a docker:// image
    #[arg(long)]
    plain_http: bool,

    /// GUID of the target repository's organization, if it differs
    #[arg(long, value_name = "GUID")]
    to_organization: Option<String>,

    #[command(flatten)]
    platforms: PlatformArgs,

    /// Maximum number of concurrent blobs; the default adapts to the link
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    #[command(flatten)]
    login: LoginScopeArgs,
}

pub(crate) async fn copy(args: CopyArgs, context: &Context) -> Result<(), Stop> {
    let same_repository;
    let to = match args.to.starts_with(':') {
        true => {
            let ImageName { repository, .. } =
                ImageName::parse(&args.image).map_err(Error::Parse)?;
            same_repository = format!("{repository}{}", args.to);
            &same_repository
        }
        false => &args.to,
    };
    let (to, to_tag) = name_and_tag(to, "a copy")?;
    let (catalog, from, source, target) = if args.image.starts_with(ImageReference::PREFIX) {
        let image: ImageReference = args.image.parse().map_err(Error::Parse)?;
        let (catalog, target) = context.connect_to(to, &args.owner).await?;
        let reference = Some(image.reference().clone());
        (catalog, args.image.clone(), (ImageOrigin::Registry(image), reference), target)
    } else {
        let ImageName { repository: name, reference } =
            ImageName::parse(&args.image).map_err(Error::Parse)?;
        let (catalog, source) = context.connect_to(name, &args.owner).await?;
        let organization = match args.to_organization.as_deref() {
            Some(other) => context.owner_of(to, Some(other))?,
            None => source.path.organization(),
        };
        let path = path_in(&catalog.in_organization(organization), to)?;
        let read = reference.clone().unwrap_or_else(|| Tag::latest().into());
        let image = source.image(&read);
        let target = context.target(path);
        (catalog, image, (ImageOrigin::Repository(source), reference), target)
    };
    let (source, reference) = source;
    let tag = match (reference, to_tag) {
        (_, Some(tag)) | (Some(Reference::Tag(tag)), None) => tag,
        (_, None) => Tag::latest(),
    };
    let report = Arc::new(Report::new(context.output));
    let mut copy = catalog
        .prepare_copy(&from, &format!("{}:{tag}", target.path))
        .map_err(Failure::from)?
        .with_login_scope(args.login.login_scope)
        .with_platforms(args.platforms.choice())
        .with_plain_http(args.plain_http)
        .with_progress(report.clone());
    if let Some(concurrency) = args.concurrency {
        copy = copy.with_concurrency(concurrency.get());
    }
    let copied = transfer(copy.into_future(), &report, PUSH_INTERRUPTED).await?;
    let copied = copied.map_err(|error| match source.is_about(&error) {
        true => source.explain(error),
        false => target.explain(Attempt::Copy, error),
    })?;
    context.output.result(&copied.url.to_string(), &copied)?;
    let mut counts = vec![
        blobs("blobs sent", copied.blobs_sent, copied.bytes_sent),
        blobs("skipped", copied.blobs_skipped, copied.bytes_skipped),
    ];
    if copied.blobs_mounted > 0 {
        counts.push(blobs("mounted", copied.blobs_mounted, copied.bytes_mounted));
    }
    context.output.note(&summary(&format!("{to}:{tag}"), &counts, copied.duration));
    Ok(())
}

/// Runs a transfer until it ends, or until Ctrl-C drops it.
async fn transfer<T>(
    work: impl Future<Output = Result<T, Error>>,
    report: &Report,
    interruption: &str,
) -> Result<Result<T, Error>, Stop> {
    let work = std::pin::pin!(report.watch(work));
    let ended = match select(work, std::pin::pin!(tokio::signal::ctrl_c())).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right((Ok(()), _)) => Err(Stop::Interrupted),
        // If Ctrl-C cannot be handled, it ends the program by default.
        Either::Right((Err(_), work)) => Ok(work.await),
    };
    report.finish();
    if ended.is_err() {
        report.output.note(&format!("interrupted: {interruption}"));
    }
    ended
}

/// Returns the number of blobs and their bytes as text.
fn blobs(label: &str, count: usize, bytes: u64) -> String {
    format!("{label}: {count} ({})", human_size(bytes))
}

/// Returns a summary of a transfer as text.
fn summary(image: &str, counts: &[String], duration: Duration) -> String {
    format!("{image}: {}; {}", counts.join("; "), human_time(duration))
}
