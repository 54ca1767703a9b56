//! `--login`: a password for docker, narrowed to one repository where the registry can narrow.

use std::path::{Path, PathBuf};

use ark_container_core::RegistryBackend as _;
use ark_container_core::credentials::{Narrowing, RegistryCredentials, USERNAME};
use ark_container_core::model::{Access, RegistryHost, Scope};
use ark_container_core::permission::Action;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde::Serialize;

use crate::args::RepositoryArgs;
use crate::connect::{Connection, Context, Place};
use crate::docker_config::{DockerConfig, FOLDER_VARIABLE};
use crate::failure::{Failure, Kind, Stop};
use crate::hint::{Attempt, TO_NARROW, Target, quoted, serve_command};
use crate::output::rfc3339;

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --login test/repo --organization GUID \\
      | docker login --username AWS --password-stdin HOST
  ark-catalog-container-tool --login test/repo --organization GUID --access pull \\
      | skopeo login --username AWS --password-stdin HOST
  eval \"$(ark-catalog-container-tool --login test/repo --organization GUID --docker-config DIR)\"

HOST is the part of the repository's URL before the first slash. Without it docker would log in to
Docker Hub. podman, skopeo and buildah need --tls-verify=false for a registry on this machine.";

/// Print a password for a repository, to pipe into docker login
///
/// The password opens this repository only; on ecr: this takes a role (role_arn in the settings), and
/// without one a warning says how far it reaches. It comes from the cache while it is good for a while
/// longer. On a terminal the docker command that takes it is shown, and until when it is valid.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// How far the password goes [default: push where you may, else pull]
    #[arg(long, value_name = "ACCESS")]
    access: Option<AccessLevel>,

    /// Log docker in, in a configuration of its own, and print the line that makes docker use it
    ///
    /// docker keeps one login for each registry; with a folder for each repository it has as many as
    /// that. The login is written into DIR/config.json, and no password is printed.
    #[arg(long, value_name = "DIR")]
    docker_config: Option<PathBuf>,
}

/// [`Access`] as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum AccessLevel {
    /// Read images
    Pull,
    /// Read and upload images
    Push,
    /// Read, upload and delete images
    Delete,
}

impl From<AccessLevel> for Access {
    fn from(level: AccessLevel) -> Self {
        match level {
            AccessLevel::Pull => Self::Pull,
            AccessLevel::Push => Self::Push,
            AccessLevel::Delete => Self::Delete,
        }
    }
}

/// Credentials as programs read them.
#[derive(Serialize)]
struct CredentialsRecord<'a> {
    host: &'a RegistryHost,
    username: &'a str,
    password: &'a str,
    expires_at: String,
    scope: String,
    narrowed: bool,
}

impl<'a> From<&'a RegistryCredentials> for CredentialsRecord<'a> {
    fn from(credentials: &'a RegistryCredentials) -> Self {
        Self {
            host: &credentials.host,
            username: &credentials.username,
            password: credentials.password.expose(),
            expires_at: rfc3339(credentials.expires_at),
            scope: credentials.scope.to_string(),
            narrowed: is_narrowed(credentials),
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let (connection, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let explain = |error| target.explain(Attempt::Login, error);
    if let Place::Local(_) = &connection.place {
        // Credentials could be had for a repository that is yet to be created, but docker could not
        // use them, and would not say why. In AWS to ask would cost more than the login, each time.
        connection.backend.describe_repository(&target.path).await.map_err(explain)?;
    }
    let access = match args.access {
        Some(level) => level.into(),
        None => widest(&connection, &target, context).await?,
    };
    let scope = Scope::repository(target.path.clone(), access);
    let credentials =
        connection.backend.credentials(&scope, &Default::default()).await.map_err(explain)?;
    let record = CredentialsRecord::from(&credentials);
    match &args.docker_config {
        Some(folder) => log_docker_in(folder, &record, context)?,
        None => context.output.result(record.password, &record)?,
    }
    if !record.narrowed {
        let host = record.host;
        context.output.warning(&format!(
            "the password opens every repository of {host} that your AWS identity can reach, not \
             only {}; {TO_NARROW}",
            target.path,
        ));
    }
    if args.docker_config.is_some() {
        context.output.note_on_terminal(&format!("valid until {}", record.expires_at));
    } else {
        tell_how_to_log_in(&args, &target, &record, context);
    }
    if let Place::Local(local) = &connection.place
        && local.served_at().is_none()
    {
        let serve = serve_command(&context.settings);
        context
            .output
            .note_on_terminal(&format!("nothing listens there yet; to serve it: {serve}"));
    }
    Ok(())
}

/// A configuration that docker was logged in by, as programs read it.
#[derive(Serialize)]
struct DockerConfigRecord<'a> {
    host: &'a RegistryHost,
    docker_config: &'a Path,
    expires_at: &'a str,
    scope: &'a str,
    narrowed: bool,
}

/// Writes a login into the configuration in `folder`, and prints what makes docker use that.
fn log_docker_in(
    folder: &Path,
    record: &CredentialsRecord<'_>,
    context: &Context,
) -> Result<(), Stop> {
    let shown = folder.display();
    let folder = std::path::absolute(folder)
        .map_err(|error| Failure::io(format!("cannot use the folder {shown}"), &error))?;
    let host = record.host.as_str();
    let mut config = DockerConfig::read(&folder)?;
    if let Some(helper) = config.helper_before_logins(host) {
        let path = config.path().display();
        let message = format!("{path} has docker ask docker-credential-{helper} for {host}");
        return Err(Failure::new(Kind::Conflict, message)
            .with_help("name another folder, such as one that is yet to be made")
            .into());
    }
    config.set_login(host, &STANDARD.encode(format!("{}:{}", record.username, record.password)));
    config.write()?;
    let export = format!("export {FOLDER_VARIABLE}={}", quoted(&folder.display().to_string()));
    let record = DockerConfigRecord {
        host: record.host,
        docker_config: &folder,
        expires_at: &record.expires_at,
        scope: &record.scope,
        narrowed: record.narrowed,
    };
    context.output.result(&export, &record)
}

/// Shows whoever sits before it the command that takes the password.
fn tell_how_to_log_in(
    args: &Args,
    target: &Target,
    record: &CredentialsRecord<'_>,
    context: &Context,
) {
    let login = target.command("login");
    let login = match args.access.and_then(|level| level.to_possible_value()) {
        Some(level) => format!("{login} --access {}", level.get_name()),
        None => login,
    };
    context.output.note_on_terminal(&format!(
        "valid until {}; to use it: {login} | docker login --username {USERNAME} \
         --password-stdin {}",
        record.expires_at, record.host,
    ));
}

/// Whether the registry holds the credentials to their scope.
fn is_narrowed(credentials: &RegistryCredentials) -> bool {
    credentials.narrowing == Narrowing::Scoped
}

/// Push where the principal may, else pull: what most logins are for.
async fn widest(
    connection: &Connection,
    target: &Target,
    context: &Context,
) -> ark_container_core::Result<Access> {
    let principal = connection.backend.principal().await?;
    let organization = target.path.organization();
    if connection.guard.policy.decide(&principal, Action::Push, organization)?.is_allowed() {
        return Ok(Access::Push);
    }
    context.output.note(&format!("the password is for pull only: {principal} may not push here"));
    Ok(Access::Pull)
}
