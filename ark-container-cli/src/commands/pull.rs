//! `--pull`: fetches an image into a folder of this machine.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ark_container_core::Error;
use ark_container_core::model::{ImageName, ImageUrl, Platform, Reference};
use ark_container_core::pull::Pull;
use serde::Serialize;

use crate::args::OrganizationArgs;
use crate::connect::Context;
use crate::failure::Stop;
use crate::hint::Attempt;
use crate::progress::Report;
use crate::transfer::{Summary, transfer};

/// The tag where none is given, as for docker.
const DEFAULT_TAG: &str = "latest";
const INTERRUPTED: &str = "the folder's images are as they were, and the same command goes on";

const EXAMPLES: &str = "\
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
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
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

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
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
    let report = Arc::new(Report::new(context.output));
    let directory = &args.to.directory;
    let backend = Arc::new(connection.backend.clone());
    let mut pull = Pull::new(backend, &target.path, reference, directory);
    pull = pull.with_progress(report.clone());
    if let Some(platform) = args.platform {
        pull = pull.with_platform(platform);
    }
    if let Some(name) = &listed_as {
        pull = pull.with_name(name);
    }
    if let Some(concurrency) = args.concurrency {
        pull = pull.with_concurrency(concurrency.get());
    }
    let pulled = transfer(&connection.place, &report, async |endpoint| match endpoint {
        Some(endpoint) => pull.with_endpoint(endpoint).await,
        None => pull.await,
    });
    let explain = |error| target.explain(Attempt::Pull, error).into();
    let pulled =
        pulled.await.map_err(|broken| broken.into_stop(context.output, INTERRUPTED, explain))?;
    let record = PullRecord {
        url: &pulled.url,
        directory,
        name: listed_as.as_deref(),
        blobs_fetched: pulled.blobs_fetched,
        bytes_fetched: pulled.bytes_fetched,
        blobs_skipped: pulled.blobs_skipped,
        bytes_skipped: pulled.bytes_skipped,
        seconds: pulled.duration.as_secs_f64(),
    };
    context.output.result(&pulled.url.to_string(), &record)?;
    let summary = Summary::default()
        .blobs("blobs fetched", pulled.blobs_fetched, pulled.bytes_fetched)
        .blobs("there already", pulled.blobs_skipped, pulled.bytes_skipped)
        .within(pulled.duration);
    context.output.note(&format!("{}: {summary}", args.image));
    Ok(())
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
}
