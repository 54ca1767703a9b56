//! `--push`: uploads an image, and prints its URL by digest.

use std::net::{Ipv4Addr, SocketAddr};

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::model::{ImageUrl, Reference, Tag};
use ark_container_core::push::{ImageSource, Push, Pushed};
use ark_container_core::{Error, RegistryBackend as _};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::args::{Owner, split_image};
use crate::connect::{Connection, Context, Place};
use crate::failure::{Failure, Stop};
use crate::hint::{Attempt, Target};
use crate::output::human_size;

/// The tag where none is given, as for docker.
const DEFAULT_TAG: &str = "latest";

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --push test/repo:v1 --from oci:DIR --organization GUID
  docker save my-image -o image.tar
  ark-catalog-container-tool --push test/repo:v1 --from docker-archive:image.tar --organization GUID

The tag is put last: until then the repository's tags are as they were, however the push ends.";

/// Upload an image, and print its URL by digest
///
/// What the repository has already is not sent again. A local registry needs no running server, and
/// ECR no login.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The repository's name and the tag to put on the image; the tag is latest where left out
    #[arg(value_name = "NAME[:TAG]")]
    image: String,

    /// Where the image is: oci:DIR[:REF] or docker-archive:FILE[:REF]
    #[arg(long, value_name = "SOURCE")]
    from: String,

    #[command(flatten)]
    owner: Owner,
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
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let (name, reference) = split_image(&args.image).map_err(Error::Parse)?;
    let tag = match reference {
        Some(Reference::Tag(tag)) => tag,
        Some(Reference::Digest(_)) => {
            return Err(Failure::usage(format!("{:?}: a push takes a tag", args.image))
                .with_help("the digest is the image's own, and printed when it is pushed")
                .into());
        }
        None => DEFAULT_TAG.parse().map_err(Error::Parse)?,
    };
    let (connection, target) = context.connect_to(name, &args.owner).await?;
    let explain = |error| target.explain(Attempt::Push { source: &args.from }, error);
    let source: ImageSource = args.from.parse().map_err(explain)?;
    let pushed = push(&connection, &target, &source, tag.clone()).await.map_err(explain)?;
    let record = PushRecord {
        url: &pushed.image,
        tag: &tag,
        blobs_sent: pushed.blobs_sent,
        bytes_sent: pushed.bytes_sent,
        blobs_skipped: pushed.blobs_skipped,
        bytes_skipped: pushed.bytes_skipped,
    };
    context.output.result(&pushed.image.to_string(), &record)?;
    context.output.note(&format!(
        "{name}:{tag}: blobs sent: {} ({}); there already: {} ({})",
        record.blobs_sent,
        human_size(record.bytes_sent),
        record.blobs_skipped,
        human_size(record.bytes_skipped),
    ));
    Ok(())
}

async fn push(
    connection: &Connection,
    target: &Target,
    source: &ImageSource,
    tag: Tag,
) -> Result<Pushed, Error> {
    // Says at once that the repository is missing, before the source is read.
    connection.backend.describe_repository(&target.path).await?;
    let push = Push::new(&connection.backend, &target.path).with_tag(tag);
    match &connection.place {
        Place::Ecr(_) => push.run(source).await,
        Place::Local(local) => push_into_folder(local, push, source).await,
    }
}

/// Pushes to a folder through a registry that lives as long as the push, on a port of its own: so
/// no server has to run, and the one that does is not disturbed.
async fn push_into_folder(
    local: &LocalBackend,
    push: Push<'_>,
    source: &ImageSource,
) -> Result<Pushed, Error> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let registry = Registry::bind(local.clone(), any_port)?;
    let endpoint = registry.local_addr().into();
    let (pushing, done) = oneshot::channel::<()>();
    let serve = registry.serve(async move {
        // The sender is dropped when the push has ended.
        let _ = done.await;
    });
    let push = async {
        let _pushing = pushing;
        push.with_endpoint(endpoint).run(source).await
    };
    let (served, pushed) = tokio::join!(serve, push);
    let pushed = pushed?;
    served?;
    Ok(pushed)
}
