//! `--delete-repository`: for administrators.

use ark_container_core::backend::DeleteOptions;
use ark_container_core::{RegistryBackend as _, RegistryBackendExt as _};

use crate::args::RepositoryArgs;
use crate::connect::Context;
use crate::failure::Stop;
use crate::hint::Attempt;

const EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --delete-repository test/repo --organization GUID";

/// Delete a repository, and print its URL (administrators)
///
/// A repository that has images is kept, unless --force is given.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct Args {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// Delete its images too
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let (connection, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let options = DeleteOptions::default().with_force(args.force);
    let deleted = connection.backend.delete_repository(&target.path, &options).await;
    deleted.map_err(|error| target.explain(Attempt::DeleteRepository, error))?;
    let url = connection.backend.repository_url(&target.path);
    context.output.result(&url.to_string(), &serde_json::json!({ "url": url }))
}
