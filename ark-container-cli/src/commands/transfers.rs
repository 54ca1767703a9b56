//! Operations that move an image: `--push`, `--pull`, `--copy`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ark_container_core::backend::CreateOptions;
use ark_container_core::model::{ImageName, ImageUrl, Platform, Reference, RegistryHost, Tag};
use ark_container_core::pull::{Copy, Pull};
use ark_container_core::push::{Compression, ImageSource, PlatformChoice, Push, Pushed};
use ark_container_core::{Error, RegistryBackend as _, RegistryBackendExt as _};
use clap::builder::TypedValueParser;
use futures_util::future::{Either, select};
use serde::Serialize;

use crate::arguments::{LoginScopeArgs, OrganizationArgs, one_of};
use crate::connect::{Connection, Context, Place};
use crate::failure::{Failure, Stop};
use crate::hint::{Attempt, Target};
use crate::output::{Output, human_size, human_time, replace_file, to_json_line};
use crate::progress::Report;

/// The tag where none is given, as for docker.
const DEFAULT_TAG: &str = "latest";
const PUSH_INTERRUPTED: &str =
    "the repository's tags are as they were, and the same command goes on";

const PUSH_EXAMPLES: &str = "\
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
#[command(after_long_help = PUSH_EXAMPLES)]
pub(crate) struct PushArgs {
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
    #[arg(long, value_name = "HOW", default_value = "gzip", value_parser = compression())]
    compression: Compression,

    /// Send so many blobs at once; as many as the link likes unless told
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    #[command(flatten)]
    login: LoginScopeArgs,

    /// Write the result to a file too, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
}

fn compression() -> impl TypedValueParser<Value = Compression> {
    one_of([
        (Compression::Gzip, "gzip", "What every client reads"),
        (
            Compression::Zstd,
            "zstd",
            "Smaller and faster, for docker 23, containerd 1.5, podman 2 and later",
        ),
    ])
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
            url: &pushed.image,
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

pub(crate) async fn push(args: PushArgs, context: &Context) -> Result<(), Stop> {
    let (name, tag) = name_and_tag(&args.image, "a push")?;
    let (connection, target) = context.connect_to(name, &args.owner).await?;
    let explain = |error| Stop::from(target.explain(Attempt::Push { source: &args.from }, error));
    let source: ImageSource = args.from.parse().map_err(explain)?;
    if args.create {
        create(&connection, &target, context).await?;
    }
    let report = Report::new(context.output);
    let push = |endpoint| configured(&args, &connection, &target, tag.clone(), &report, endpoint);
    let pushed =
        transfer(&connection.place, &report, async |endpoint| push(endpoint).run(&source).await);
    let pushed = pushed
        .await
        .map_err(|broken| broken.into_stop(context.output, PUSH_INTERRUPTED, explain))?;
    let record = PushRecord::new(&pushed, &tag);
    if let Some(file) = &args.metadata_file {
        write_record(file, &record)?;
    }
    context.output.result(&pushed.image.to_string(), &record)?;
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
    replace_file(file, to_json_line(record)?.as_bytes()).map_err(|error| {
        Failure::io(
            format!("the image is pushed, but {} cannot be written", file.display()),
            &error,
        )
        .with_help("--metadata-file takes a file in a folder that exists and that you may write to")
    })
}

fn configured<'a>(
    args: &PushArgs,
    connection: &'a Connection,
    target: &'a Target,
    tag: Tag,
    report: &'a Report,
    endpoint: Option<RegistryHost>,
) -> Push<'a> {
    let platforms = match &args.platform {
        Some(platform) => PlatformChoice::One(platform.clone()),
        None if args.all_platforms => PlatformChoice::All,
        None => PlatformChoice::Only,
    };
    let mut push = Push::new(&connection.backend, &target.path)
        .with_tag(tag)
        .with_platforms(platforms)
        .with_compression(args.compression)
        .with_login_scope(args.login.login_scope)
        .with_progress(report);
    if let Some(concurrency) = args.concurrency {
        push = push.with_concurrency(concurrency.get());
    }
    if let Some(directory) = Push::user_memory_directory() {
        push = push.with_memory(directory);
    }
    match endpoint {
        Some(endpoint) => push.with_endpoint(endpoint),
        None => push,
    }
}

const PULL_INTERRUPTED: &str = "the folder's images are as they were, and the same command goes on";

const PULL_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --pull test/repo:v1 --to oci:DIR --organization GUID
  ark-catalog-container-tool --pull test/repo@sha256:… --to oci:DIR:v1 --organization GUID \\
      --platform linux/arm64

The folder keeps the images that it has. The image is listed there last, under REF, else under the tag;
one that had this name gives it up.";

/// Fetch an image into a folder in the OCI image layout, and print its URL by digest
///
/// What the folder has already is not fetched again, and a pull that was cut off goes on where it was.
/// Every blob is verified.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PULL_EXAMPLES)]
pub(crate) struct PullArgs {
    /// The repository's name and the image's tag or digest; the tag is latest where left out
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,

    /// Where the image goes: oci:DIR[:REF], a folder in the OCI image layout
    #[arg(long, value_name = "TARGET")]
    to: Layout,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// Of an image for several platforms, pull the one for this, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Fetch so many blobs at once; 4 unless told
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,
}

/// A folder, and the name of an image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    directory: PathBuf,
    name: Option<String>,
}

/// A path with a colon is meant where such a folder exists, as for `--from`.
impl FromStr for Layout {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("oci:").ok_or("expected oci:DIR[:REF]")?;
        let (directory, name) = match rest.split_once(':') {
            Some((directory, name)) if !PathBuf::from(rest).is_dir() => (directory, name),
            _ => (rest, ""),
        };
        if directory.is_empty() {
            return Err("it names no folder; expected oci:DIR[:REF]");
        }
        let name = (!name.is_empty()).then(|| name.to_owned());
        Ok(Self { directory: directory.into(), name })
    }
}

/// What a pull did, as programs read it.
#[derive(Debug, Serialize)]
struct PullRecord<'a> {
    url: &'a ImageUrl,
    directory: &'a PathBuf,
    name: Option<&'a str>,
    blobs_fetched: usize,
    bytes_fetched: u64,
    blobs_skipped: usize,
    bytes_skipped: u64,
    seconds: f64,
}

pub(crate) async fn pull(args: PullArgs, context: &Context) -> Result<(), Stop> {
    let ImageName { repository: name, reference } =
        ImageName::parse(&args.image).map_err(Error::Parse)?;
    let reference = match reference {
        Some(reference) => reference,
        None => Reference::Tag(DEFAULT_TAG.parse().map_err(Error::Parse)?),
    };
    let listed_as = args.to.name.clone().or_else(|| match &reference {
        Reference::Tag(tag) => Some(tag.to_string()),
        Reference::Digest(_) => None,
    });
    let (connection, target) = context.connect_to(name, &args.owner).await?;
    let report = Report::new(context.output);
    let mut pull = Pull::new(&connection.backend, &target.path, reference).with_progress(&report);
    if let Some(platform) = args.platform {
        pull = pull.with_platform(platform);
    }
    if let Some(name) = &listed_as {
        pull = pull.with_name(name);
    }
    if let Some(concurrency) = args.concurrency {
        pull = pull.with_concurrency(concurrency.get());
    }
    let directory = &args.to.directory;
    let pulled = transfer(&connection.place, &report, async |endpoint| match endpoint {
        Some(endpoint) => pull.with_endpoint(endpoint).into_layout(directory).await,
        None => pull.into_layout(directory).await,
    });
    let explain = |error| target.explain(Attempt::Pull, error).into();
    let pulled = pulled
        .await
        .map_err(|broken| broken.into_stop(context.output, PULL_INTERRUPTED, explain))?;
    let record = PullRecord {
        url: &pulled.image,
        directory,
        name: listed_as.as_deref(),
        blobs_fetched: pulled.blobs_fetched,
        bytes_fetched: pulled.bytes_fetched,
        blobs_skipped: pulled.blobs_skipped,
        bytes_skipped: pulled.bytes_skipped,
        seconds: pulled.duration.as_secs_f64(),
    };
    context.output.result(&pulled.image.to_string(), &record)?;
    let summary = Summary::default()
        .blobs("blobs fetched", pulled.blobs_fetched, pulled.bytes_fetched)
        .blobs("there already", pulled.blobs_skipped, pulled.bytes_skipped)
        .within(pulled.duration);
    context.output.note(&format!("{}: {summary}", args.image));
    Ok(())
}

const COPY_EXAMPLES: &str = "\
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
#[command(after_long_help = COPY_EXAMPLES)]
pub(crate) struct CopyArgs {
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
    login: LoginScopeArgs,
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

pub(crate) async fn copy(args: CopyArgs, context: &Context) -> Result<(), Stop> {
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
    let report = Report::new(context.output);
    let mut copy = Copy::new(&connection.backend, &source.path, reference, &target.path)
        .with_tag(tag.clone())
        .with_login_scope(args.login.login_scope)
        .with_progress(&report);
    if let Some(platform) = args.platform {
        copy = copy.with_platform(platform);
    }
    if let Some(concurrency) = args.concurrency {
        copy = copy.with_concurrency(concurrency.get());
    }
    let copied = transfer(&connection.place, &report, async |endpoint| match endpoint {
        Some(endpoint) => copy.with_endpoint(endpoint).run().await,
        None => copy.run().await,
    });
    let explain = |error: Error| match is_about(&error, &source) {
        true => source.explain(Attempt::Pull, error).into(),
        false => target.explain(Attempt::Copy, error).into(),
    };
    let copied = copied
        .await
        .map_err(|broken| broken.into_stop(context.output, PUSH_INTERRUPTED, explain))?;
    let record = CopyRecord {
        url: &copied.image,
        tag: &tag,
        blobs_sent: copied.blobs_sent,
        bytes_sent: copied.bytes_sent,
        blobs_skipped: copied.blobs_skipped,
        bytes_skipped: copied.bytes_skipped,
        blobs_mounted: copied.blobs_mounted,
        bytes_mounted: copied.bytes_mounted,
        seconds: copied.duration.as_secs_f64(),
    };
    context.output.result(&copied.image.to_string(), &record)?;
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

/// Why a transfer did not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// By Ctrl-C.
    Interrupted,
    Failed(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Does the work, which is given where to dial, until it ends or Ctrl-C comes.
///
/// A folder is reached through a registry that lives as long as the work, on a port of its own: so no
/// server has to run, and the one that does is not disturbed.
pub(crate) async fn transfer<T>(
    place: &Place,
    report: &Report,
    work: impl AsyncFnOnce(Option<RegistryHost>) -> Result<T, Error>,
) -> Result<T, Broken> {
    let ended = match place {
        Place::Ecr(_) => until_interrupted(report.watch(work(None))).await,
        Place::Local(local) => {
            let interruptible = |endpoint| until_interrupted(report.watch(work(Some(endpoint))));
            local.serve_while(interruptible).await
        }
    };
    report.finish();
    ended
}

/// Gives the work up when Ctrl-C comes. It is made to be given up at any moment.
async fn until_interrupted<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Broken> {
    let interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    match select(std::pin::pin!(work), interrupted).await {
        Either::Left((done, _)) => done.map_err(Broken::Failed),
        Either::Right((Ok(()), _)) => Err(Broken::Interrupted),
        // Where signals cannot be waited for, they end the program as they always do.
        Either::Right((Err(_), work)) => work.await.map_err(Broken::Failed),
    }
}

impl Broken {
    /// How the program stops, with what is said of an interruption and of an error.
    pub(crate) fn into_stop(
        self,
        output: Output,
        interruption: &str,
        explain: impl FnOnce(Error) -> Stop,
    ) -> Stop {
        match self {
            Self::Failed(error) => explain(error),
            Self::Interrupted => {
                output.note(&format!("interrupted: {interruption}"));
                Stop::Interrupted
            }
        }
    }
}

/// What became of an image's blobs, as people are told.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<String>);

impl Summary {
    /// Blobs that were moved or not, as `sent`, with their bytes.
    pub(crate) fn blobs(mut self, what: &str, count: usize, bytes: u64) -> Self {
        self.0.push(format!("{what}: {count} ({})", human_size(bytes)));
        self
    }

    /// The same, where there are any.
    pub(crate) fn some_blobs(self, what: &str, count: usize, bytes: u64) -> Self {
        if count == 0 { self } else { self.blobs(what, count, bytes) }
    }

    /// Bytes that need not be sent, where there are any.
    pub(crate) fn bytes(mut self, what: &str, bytes: u64) -> Self {
        if bytes > 0 {
            self.0.push(format!("{what}: {}", human_size(bytes)));
        }
        self
    }

    /// All of it on one line, with how long it took.
    pub(crate) fn within(self, duration: Duration) -> String {
        format!("{}; {}", self.0.join("; "), human_time(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(text: &str) -> Result<(String, Option<String>), &'static str> {
        let Layout { directory, name } = text.parse()?;
        Ok((directory.display().to_string(), name))
    }

    #[test]
    fn a_target_is_a_folder_with_a_name_for_the_image() {
        assert_eq!(layout("oci:a/b"), Ok(("a/b".to_owned(), None)));
        assert_eq!(layout("oci:a/b:v1"), Ok(("a/b".to_owned(), Some("v1".to_owned()))));
        assert_eq!(layout("oci:a:x/y:v1"), Ok(("a".to_owned(), Some("x/y:v1".to_owned()))));
        for wrong in ["a/b", "oci:", "oci::v1", "docker-archive:a"] {
            assert!(layout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_that_exists_may_have_colons() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a:b");
        std::fs::create_dir(&path).unwrap();
        let path = path.display().to_string();
        assert_eq!(layout(&format!("oci:{path}")), Ok((path, None)));
    }

    #[test]
    fn a_summary_leaves_out_what_there_is_none_of() {
        let summary = Summary::default().blobs("sent", 2, 1500).some_blobs("mounted", 0, 0);
        let summary = summary.bytes("saved", 0).bytes("resumed", 10);
        let line = summary.within(Duration::from_millis(1200));
        assert_eq!(line, "sent: 2 (1.5 kB); resumed: 10 B; 1.2 s");
    }
}
