//! `--list-repositories`: the documented table, row by row as they arrive.

use ark_container_core::RegistryBackend as _;
use ark_container_core::model::{OrganizationId, Organizations};
use futures_util::TryStreamExt as _;

use super::RepositoryRecord;
use crate::connect::{Context, Listing};
use crate::failure::Stop;

/// The width of the first column: a GUID and a space.
const ORGANIZATION_WIDTH: usize = OrganizationId::PRINTED_LEN + 1;

/// List the repositories of your organizations
///
/// Prints a table of organization and URL. The URL is what one tags and pushes to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the repositories of this organization; neither the environment nor the configuration
    /// file narrows the list
    #[arg(long, value_name = "GUID")]
    organization: Option<String>,

    /// On ecr:, read through the whole account instead of the index of the organization
    ///
    /// The index may be some seconds behind, and knows only repositories with the resource tag
    /// ark:organization, which --create-repository puts on them.
    #[arg(long)]
    all_pages: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let organizations = match args.organization.as_deref() {
        Some(organization) => context.settings.organization(Some(organization))?,
        None => None,
    };
    let organizations = organizations.map_or(Organizations::All, Organizations::from);
    let listing = if args.all_pages { Listing::AllPages } else { Listing::ByIndex };
    let connection = context.connect_for(listing).await?;
    let mut repositories = connection.backend.list_repositories(&organizations);
    // What is refused has no table, so the header waits for the first answer.
    let mut next = repositories.try_next().await?;
    context.output.header(&format!("{:<ORGANIZATION_WIDTH$}URL", "Organization"))?;
    while let Some(repository) = next {
        let row = format!("{} {}", repository.url.path().organization(), repository.url);
        context.output.result(&row, &RepositoryRecord::from(&repository))?;
        next = repositories.try_next().await?;
    }
    Ok(())
}
