//! `--delete-image`: for administrators.

use ark_container_core::model::ImageName;
use ark_container_core::{Error, RegistryBackend as _, RegistryBackendExt as _};

use crate::args::{OrganizationArgs, PROGRAM};
use crate::connect::Context;
use crate::failure::{Failure, Stop};
use crate::hint::Attempt;

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --delete-image test/repo:v1 --organization GUID
  ark-catalog-container-tool --delete-image test/repo@sha256:HEX --organization GUID";

/// Delete an image by tag or digest, and print its URL (administrators)
///
/// A tag is deleted alone if the image has others, and with the image if it is its last. A digest
/// is deleted with all its tags.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The image: a repository's name with a tag or a digest
    #[arg(value_name = "NAME:TAG|NAME@DIGEST")]
    image: String,

    #[command(flatten)]
    owner: OrganizationArgs,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let ImageName { repository: name, reference } =
        ImageName::parse(&args.image).map_err(Error::Parse)?;
    let Some(reference) = reference else {
        return Err(Failure::usage(format!("{name:?} names no image: add :TAG or @DIGEST"))
            .with_help(format!("to delete the whole repository: {PROGRAM} --delete-repository"))
            .into());
    };
    let (connection, target) = context.connect_to(name, &args.owner).await?;
    let deleted = connection.backend.delete_image(&target.path, &reference).await;
    deleted.map_err(|error| target.explain(Attempt::DeleteImage, error))?;
    let url = connection.backend.repository_url(&target.path).image(reference);
    context.output.result(&url.to_string(), &serde_json::json!({ "url": url }))
}
