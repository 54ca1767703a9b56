//! Creates a repository, logs in to it and pushes an image, all on this machine: `cargo run -p quickstart`.
//!
//! The registry is the user's local registry, or the folder in `ARK_REGISTRY=local:DIR`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the program prints its results")]

use std::error::Error;
use std::process::ExitCode;

use ark_container_core::Catalog;
use ark_container_core::model::{Access, OrganizationId, RegistryLocation};
use futures_util::TryStreamExt;

/// An image of one file, in the OCI layout.
const IMAGE: &str = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/hello");

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    eprint!("error: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}

async fn run() -> Result<(), Box<dyn Error>> {
    let organization = OrganizationId::TBD;
    let builder = Catalog::builder().with_environment().with_organization(organization);
    if let location @ RegistryLocation::Ecr { .. } = builder.settings()?.registry() {
        return Err(format!("the registry {location} is set: quickstart uses a folder").into());
    }
    let catalog = builder.connect().await?;
    println!("{} uses {catalog}", catalog.principal().await?);
    let repository = catalog.create("quickstart/hello").await?;
    println!("created   {}", repository.url);
    let credentials = catalog.credentials("quickstart/hello", Access::Push).await?;
    println!("logged in {} on {}", credentials.scope, credentials.host);

    let pushed = catalog.push("quickstart/hello:v1", IMAGE).await?;
    println!("pushed    {} ({} bytes)\n\nThe repositories:", pushed.url, pushed.bytes_sent);
    let mut repositories = catalog.list();
    while let Some(repository) = repositories.try_next().await? {
        println!("  {}", repository.url);
    }

    let tool = "ark-catalog-container-tool";
    println!("\nWhat to type next:");
    println!("  cargo build --release -p ark-container-cli && PATH=$PWD/target/release:$PATH");
    println!("  {tool} --list-repositories");
    println!("  {tool} --list-images quickstart/hello --organization {organization}");
    if catalog.served_at().is_none() {
        println!("  {tool} --serve &");
    }
    let login = format!("{tool} --login quickstart/hello --organization {organization}");
    let host = repository.url.host();
    println!("  {login} | docker login --username AWS --password-stdin {host}");
    println!("  docker pull {}:v1", repository.url);
    Ok(())
}
