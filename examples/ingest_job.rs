//! The beginning of an ingest job: its repository exists, its configuration is on this machine, and its
//! worker can pull for an hour, and do nothing else.
//!
//!     cargo run --example ingest_job -- catalog/extract-video ingest/settings:v1 DIR WORKER…
//!
//! The worker is a program that reads docker's configuration, such as `skopeo inspect`. The image that it
//! is to pull is the last of its arguments. `ARK_REGISTRY` and `ARK_ORGANIZATION` say where and whose.

#![expect(clippy::print_stderr, reason = "this program talks to a person")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ark_container_core::Catalog;
use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::distribution::Retry;
use ark_container_core::model::Access;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tokio::process::Command;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [repository, settings, directory, worker @ ..] = arguments.as_slice() else {
        return Err("expected REPOSITORY, SETTINGS-IMAGE, DIRECTORY and a WORKER".into());
    };
    let catalog = Catalog::builder().with_environment().with_credentials_lifetime(HOUR);
    let catalog = catalog.connect().await?;

    // A pull retries each request by itself. This is for calls of the backend, and for what outlasts that.
    let retry = Retry::default();
    let created = retry.run(|| catalog.create(repository)).await?;
    eprintln!("{} is there", created.url);

    // By digest, so that what runs is what was looked at, wherever the tag goes meanwhile.
    let resolved = retry.run(|| catalog.resolve(settings)).await?;
    let pinned = resolved.url.to_string();
    let pulled = retry.run(|| catalog.pull(&pinned, directory)).await?;
    eprintln!("{} is in {directory}, {} bytes fetched", pulled.url, pulled.bytes_fetched);

    let repository_url = pinned.rsplit_once('@').map_or(pinned.as_str(), |(url, _)| url);
    let credentials = retry.run(|| catalog.credentials(repository_url, Access::Pull)).await?;
    let status = run_worker(worker, &pinned, &credentials).await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the worker failed: {status}").into()),
    }
}

/// Runs the worker with a login of its own, which goes when it has ended.
///
/// The password reaches it by a file that only this user can read, never by arguments or variables.
async fn run_worker(
    worker: &[String],
    image: &str,
    credentials: &RegistryCredentials,
) -> Result<ExitStatus, Box<dyn Error>> {
    let [program, arguments @ ..] = worker else { return Err("the WORKER is missing".into()) };
    // The folder is its owner's alone.
    let folder = tempfile::tempdir()?;
    write_login(&folder.path().join("config.json"), credentials)?;
    let status = Command::new(program)
        .args(arguments)
        .arg(format!("docker://{image}"))
        .env("DOCKER_CONFIG", folder.path())
        .env("REGISTRY_AUTH_FILE", folder.path().join("config.json"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    Ok(status.await?)
}

/// Writes a login as docker, podman and skopeo read it.
fn write_login(file: &Path, credentials: &RegistryCredentials) -> Result<(), Box<dyn Error>> {
    let login = format!("{}:{}", credentials.username, credentials.password.expose());
    let auth = BASE64_STANDARD.encode(login);
    let config = json!({ "auths": { credentials.host.as_str(): { "auth": auth } } });
    fs::write(file, config.to_string())?;
    Ok(())
}
