//! The beginning of an ingest job: its repository exists, its configuration is on this machine, and its
//! worker can pull for an hour, and do nothing else.
//!
//!     cargo run --example ingest_job -- catalog/extract-video ingest/settings:v1 DIR WORKER…
//!
//! The worker is a program that reads docker's configuration, such as `skopeo inspect`. The image that it
//! is to pull is the last of its arguments. `ARK_REGISTRY` and `ARK_ORGANIZATION` say where and whose.

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

    // A pull retries each request by itself. This is for calls of the backend, and for what outlasts that.
    let retry = Retry::default();
    let created = retry.run(|| catalog.create(repository)).await?;
    eprintln!("{} is there", created.url);

    // By digest, so that what runs is what was looked at, wherever the tag goes meanwhile.
    let pinned = retry.run(|| catalog.resolve(settings)).await?.url;
    let target = format!("oci:{directory}");
    let pulled = retry.run(|| catalog.pull(&pinned, &target)).await?;
    eprintln!("{} is in {directory}, {} bytes fetched", pulled.url, pulled.bytes_fetched);

    // The worker has a login of its own, in a file that only this user can read, until it has ended.
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
