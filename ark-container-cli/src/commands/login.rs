//! `--login` prints a password, narrowed to one repository if the registry can narrow. `--logout` deletes
//! cached passwords.

use std::path::{Path, PathBuf};

use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::credentials::{Narrowing, RegistryCredentials, USERNAME};
use ark_container_core::model::{Access, RegistryHost, RegistryLocation};
use ark_container_core::permission::Action;
use ark_container_core::{Catalog, quote_for_shell};
use serde::Serialize;

use crate::arguments::{RepositoryArgs, one_of, path};
use crate::commands::docker::{FOLDER_VARIABLE, config_failure};
use crate::context::Context;
use crate::failure::{Failure, Stop};
use crate::hint::{Attempt, TO_NARROW, Target};
use crate::output::{Output, rfc3339};

const LOGIN_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --login test/repo --organization GUID \\
      | docker login --username AWS --password-stdin HOST
  ark-catalog-container-tool --login test/repo --organization GUID --access pull \\
      | skopeo login --username AWS --password-stdin HOST
  eval \"$(ark-catalog-container-tool --login test/repo --organization GUID --docker-config DIR)\"

HOST is the part of the repository's URL before the first slash. Without it docker would log in to
Docker Hub. podman, skopeo and buildah need --tls-verify=false for a registry on this machine.
In a script, set -o pipefail: otherwise a pipe hides that --login failed.";

/// Print a password for a repository, to pipe into docker login
///
/// The password is for this repository only. On ecr: this requires a role (role_arn in the settings);
/// without a role, a warning says which repositories the password reaches. A cached password is used if
/// enough of its lifetime remains. On a terminal, the docker command and the expiry time are shown.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// Access level of the password [default: push if you may push, else pull]
    #[arg(long, value_name = "ACCESS", value_parser = one_of(ACCESS_LEVELS))]
    access: Option<Access>,

    /// Write the login to a docker configuration in DIR, and print the line that makes docker use it
    ///
    /// docker stores one login for each registry; a folder for each repository allows one login for each
    /// repository. The login is written to DIR/config.json, and no password is printed.
    #[arg(long, value_name = "DIR", value_parser = path())]
    docker_config: Option<PathBuf>,
}

const ACCESS_LEVELS: [(Access, &str, &str); 3] = [
    (Access::Pull, "pull", "Read images"),
    (Access::Push, "push", "Read and upload images"),
    (Access::Delete, "delete", "Read, upload and delete images"),
];

/// JSON record of a login, with the password or the docker configuration that has it.
#[derive(Serialize)]
struct LoginRecord<'a> {
    host: &'a RegistryHost,
    #[serde(flatten)]
    target: LoginTarget<'a>,
    expires_at: &'a str,
    scope: String,
    narrowed: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum LoginTarget<'a> {
    Printed { username: &'a str, password: &'a str },
    DockerConfig { docker_config: &'a Path },
}

pub(crate) async fn login(args: LoginArgs, context: &Context) -> Result<(), Stop> {
    let (catalog, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let explain = |error| target.explain(Attempt::Login, error);
    if context.is_local() {
        // A login for a missing repository would succeed, and docker would then fail without a reason.
        // On AWS the check would cost more than the login.
        catalog.describe(&target.name()).await.map_err(explain)?;
    }
    let access = match args.access {
        Some(access) => access,
        None => default_access(&catalog, &target, context).await?,
    };
    let credentials = catalog.credentials(&target.name(), access).await.map_err(explain)?;
    let expires_at = rfc3339(credentials.expires_at);
    let is_narrowed = credentials.narrowing == Narrowing::Scoped;
    let print = |line: &str, target| {
        let (host, scope) = (&credentials.host, credentials.scope.to_string());
        let expires_at = expires_at.as_str();
        let record = LoginRecord { host, target, expires_at, scope, narrowed: is_narrowed };
        context.output.result(line, &record)
    };
    match &args.docker_config {
        Some(folder) => {
            let folder = write_docker_config(folder, &credentials)?;
            let export = quote_for_shell(&folder.display().to_string());
            let target = LoginTarget::DockerConfig { docker_config: &folder };
            print(&format!("export {FOLDER_VARIABLE}={export}"), target)?;
        }
        None => {
            let (username, password) = (&*credentials.username, credentials.password.expose());
            print(password, LoginTarget::Printed { username, password })?;
        }
    }
    let host = &credentials.host;
    if !is_narrowed {
        // --quiet does not hide this warning.
        let output = Output { quiet: false, ..context.output };
        output.warning(&format!(
            "the password is for every repository of {host} that your AWS identity can reach, not \
             only for {}; {TO_NARROW}",
            target.path,
        ));
    }
    context.output.note_on_terminal(&match args.docker_config {
        Some(_) => format!("valid until {expires_at}"),
        None => format!(
            "valid until {expires_at}; to use it: {} | docker login --username {USERNAME} \
             --password-stdin {host}",
            login_command(&target, args.access)
        ),
    });
    if context.is_local() && catalog.served_at().is_none() {
        let serve = context.serve_command();
        context
            .output
            .note_on_terminal(&format!("the registry is not served yet; to serve it: {serve}"));
    }
    Ok(())
}

/// Writes a login to the docker configuration in `folder`, and returns the absolute path of the folder.
fn write_docker_config(
    folder: &Path,
    credentials: &RegistryCredentials,
) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(folder).map_err(|error| {
        Failure::io(format!("cannot use the folder {}", folder.display()), &error)
    })?;
    credentials.write_docker_config(&absolute).map_err(|error| config_failure(&absolute, error))?;
    Ok(absolute)
}

fn login_command(target: &Target, access: Option<Access>) -> String {
    let login = target.command("login");
    match ACCESS_LEVELS.iter().find(|(level, ..)| Some(*level) == access) {
        Some((_, name, _)) => format!("{login} --access {name}"),
        None => login,
    }
}

/// Returns push if the caller may push, else pull.
async fn default_access(
    catalog: &Catalog,
    target: &Target,
    context: &Context,
) -> Result<Access, Failure> {
    if catalog.allows(Action::Push, target.path.clone()).await? {
        return Ok(Access::Push);
    }
    let principal = catalog.principal().await?;
    context.output.note(&format!("the password is for pull only: {principal} may not push here"));
    Ok(Access::Pull)
}

const LOGOUT_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --logout
  ark-catalog-container-tool --logout --all

Printed passwords stay valid until they expire. docker stores its own copy: docker logout HOST";

/// Delete the registry's cached passwords on this machine, and print the registry
///
/// A registry in a folder has no cached passwords: each login creates a new one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LOGOUT_EXAMPLES)]
pub(crate) struct LogoutArgs {
    /// Delete the cached passwords of every registry, and print '*'
    #[arg(long)]
    all: bool,
}

pub(crate) async fn logout(args: LogoutArgs, context: &Context) -> Result<(), Stop> {
    let registry = context.settings.registry();
    let directory = CredentialsCache::user_directory();
    let cache = directory.map_or_else(CredentialsCache::in_memory, CredentialsCache::open);
    let (registry, removed) = match registry {
        _ if args.all => (None, cache.clear(None).await?),
        RegistryLocation::Ecr { host, .. } => {
            (Some(registry), cache.clear(Some(host.registry_host())).await?)
        }
        RegistryLocation::Local { .. } => (Some(registry), 0),
    };
    let line = registry.map_or_else(|| "*".to_owned(), ToString::to_string);
    let record = serde_json::json!({ "registry": registry, "removed": removed });
    context.output.result(&line, &record)?;
    context.output.note(&format!("deleted cached passwords: {removed}"));
    Ok(())
}
