//! The start of an ingest job: creates its repository, pulls its configuration to this machine, and gives its worker a
//! login that can only pull, for an hour.
//!
//!     cargo run --example ingest_job -- catalog/extract-video ingest/settings:v1 DIR WORKER…
//!
//! The worker is a program that reads docker's configuration, such as `skopeo inspect`. The image to pull is the last
//! argument. `ARK_REGISTRY` and `ARK_ORGANIZATION` select the registry and the organization.

#![expect(clippy::print_stderr, reason = "this program talks to a person")]

use std::error::Error;
use std::process::Stdio;
use std::time::Duration;

use ark_container_core::Catalog;
use ark_container_core::distribution::Retry;
use ark_container_core::model::Access;
use tokio::process::Command;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [repository, settings, directory, worker @ ..] = arguments.as_slice() else {
        return Err("expected REPOSITORY, SETTINGS-IMAGE, DIRECTORY and a WORKER".into());
    };
    let [program, options @ ..] = worker else { return Err("the WORKER is missing".into()) };
    let builder = Catalog::builder().with_environment();
    let catalog = builder.with_credentials_lifetime(Duration::from_secs(3600)).connect().await?;

    // Retries calls of the backend, and failures that last longer than the retries of a pull.
    let retry = Retry::default();
    let created = retry.run(|| catalog.create(repository)).await?;
    eprintln!("{} exists", created.url);

    // By digest, so that the image that runs is the resolved one even if the tag moves.
    let pinned = retry.run(|| catalog.resolve(settings)).await?.url;
    let target = format!("oci:{directory}");
    let pulled = retry.run(|| catalog.pull(&pinned, &target)).await?;
    eprintln!("{} is in {directory}, {} bytes fetched", pulled.url, pulled.bytes_fetched);

    // The worker has its own login, in a file that only this user can read and that is deleted at the end.
    let url = format!("{}/{}", pulled.url.host(), pulled.url.repository());
    let credentials = retry.run(|| catalog.credentials(&url, Access::Pull)).await?;
    let folder = tempfile::tempdir()?;
    let config = credentials.write_docker_config(folder.path())?;
    let status = Command::new(program)
        .args(options)
        .arg(format!("docker://{pinned}"))
        .env("DOCKER_CONFIG", folder.path())
        .env("REGISTRY_AUTH_FILE", config)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    match status.await? {
        status if status.success() => Ok(()),
        status => Err(format!("the worker failed: {status}").into()),
    }
}
