//! `--configure-docker`: configures docker to get logins from `docker-credential-ark`.

use std::env;
use std::path::{Path, PathBuf};

use ark_container_core::catalog::Origin;
use ark_container_core::credentials::DockerConfig;
use ark_container_core::model::RegistryHost;
use ark_container_core::{Error, quote_for_shell};
use serde::Serialize;

use crate::arguments::PROGRAM;
use crate::context::Context;
use crate::credential_helper::{HELPER, SUFFIX, host_of};
use crate::failure::{Failure, Kind, Stop};

/// Environment variable with the folder of docker's configuration.
pub(crate) const FOLDER_VARIABLE: &str = "DOCKER_CONFIG";

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --configure-docker
  ark-catalog-container-tool --configure-docker --undo

podman, buildah and skopeo read docker's configuration too, after their own.";

/// Configure docker to log in to your registries automatically, and print their hosts
///
/// Writes credHelpers entries into docker's config.json ($DOCKER_CONFIG, or ~/.docker), and changes nothing
/// else in it. docker then runs docker-credential-ark when it needs a login. docker-credential-ark must be
/// on PATH.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Remove the entries
    #[arg(long)]
    undo: bool,
}

/// JSON record of a registry's entry.
#[derive(Debug, Serialize)]
struct EntryRecord<'a> {
    host: &'a str,
    config: &'a Path,
    configured: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Stop> {
    let folder = user_folder()?;
    let configured = match args.undo {
        true => Vec::new(),
        false => configured_hosts(context)?,
    };
    let changed = DockerConfig::change(&folder, |config| match args.undo {
        true => Ok(undo(config)),
        false => configure(config, &configured).map(|()| configured.clone()),
    });
    let (config, hosts) = changed.map_err(|error| config_failure(&folder, error))?;
    let hosts = hosts?;
    for host in &hosts {
        let record = EntryRecord { host, config: config.path(), configured: !args.undo };
        context.output.result(host, &record)?;
    }
    print_notes(args, context, &config, &hosts);
    Ok(())
}

/// Returns the host of each registry of the settings.
fn configured_hosts(context: &Context) -> Result<Vec<String>, Failure> {
    if context.is_local() {
        // Prints a note if the registry is the default.
        context.open_local()?;
    }
    let registries = context.settings.registries();
    registries.map(|registry| Ok(host_of(registry)?.to_string())).collect()
}

/// Adds an entry for each registry.
fn configure(config: &mut DockerConfig, hosts: &[String]) -> Result<(), Failure> {
    let mut helpers = hosts.iter().filter_map(|host| Some((host, config.helper(host)?)));
    if let Some((host, other)) = helpers.find(|(_, helper)| *helper != SUFFIX) {
        let path = config.path().display();
        let message = format!("{path} names docker-credential-{other} for {host} in credHelpers");
        return Err(Failure::new(Kind::Conflict, message)
            .with_help("remove that entry, and run the same command again"));
    }
    hosts.iter().for_each(|host| config.set_helper(host, SUFFIX));
    Ok(())
}

/// Removes the entries of every registry that has this program's helper, and returns their hosts.
fn undo(config: &mut DockerConfig) -> Vec<String> {
    let hosts = config.hosts_of(SUFFIX);
    hosts.iter().for_each(|host| config.remove_helper(host));
    hosts
}

/// Prints the change, and warns of missing settings and programs.
fn print_notes(args: &Args, context: &Context, config: &DockerConfig, hosts: &[String]) {
    let (output, settings) = (&context.output, &context.settings);
    let path = config.path().display();
    if !config.is_changed() {
        output.note(&format!("there was nothing to change in {path}"));
    } else if args.undo {
        let hosts = hosts.join(", ");
        output.note(&format!("docker no longer logs in to {hosts} automatically ({path})"));
    } else {
        let hosts = hosts.join(", ");
        output.note(&format!("docker logs in to {hosts} automatically ({path})"));
    }
    if args.undo {
        return;
    }
    if let Origin::Flag(flag) = settings.registry_origin() {
        output.warning(&format!(
            "{HELPER} receives no options: instead of {flag}, set registry in the configuration \
             file, or export ARK_REGISTRY={}",
            quote_for_shell(&settings.registry().to_string())
        ));
    }
    if !is_on_path() {
        output.warning(&match beside_this_program() {
            Some(folder) => format!(
                "{HELPER} is not on PATH, where docker looks for it: export PATH={}:\"$PATH\"",
                quote_for_shell(&folder.display().to_string())
            ),
            None => format!(
                "{HELPER} is not on PATH, where docker looks for it; it is built and installed with \
                 {PROGRAM}"
            ),
        });
    }
}

/// Warns if docker is configured for other ports of this machine, but not for the served address.
pub(crate) fn warn_of_missing_entry(context: &Context, address: &str) {
    let Ok(Ok(config)) = user_folder().map(|folder| DockerConfig::read(&folder)) else { return };
    let entries = config.hosts_of(SUFFIX);
    let is_local =
        |host: &String| host.parse::<RegistryHost>().is_ok_and(|host| host.is_loopback());
    if let Some(other) = entries.iter().find(|host| is_local(host))
        && !entries.iter().any(|host| host == address)
    {
        let command = format!("{PROGRAM} --configure-docker{}", context.typed_options);
        context.output.warning(&format!(
            "docker logs in to {other} automatically, but not to {address}; to configure it: {command}"
        ));
    }
}

fn is_on_path() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(HELPER).is_file())
}

fn beside_this_program() -> Option<PathBuf> {
    let folder = env::current_exe().ok()?.parent()?.to_path_buf();
    folder.join(HELPER).is_file().then_some(folder)
}

/// Returns the folder of docker's configuration: `$DOCKER_CONFIG`, or `~/.docker`.
fn user_folder() -> Result<PathBuf, Failure> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
        return match folder.as_encoded_bytes().starts_with(b"~") {
            false => Ok(folder.into()),
            true => Err(Failure::usage(format!(
                "{FOLDER_VARIABLE}: docker takes {} for a folder of this name",
                folder.display()
            ))
            .with_help(format!("export {FOLDER_VARIABLE}=\"$HOME/.docker\""))),
        };
    }
    let home = etcetera::home_dir().map_err(|_| {
        Failure::new(Kind::Other, "there is no docker configuration: the home folder is not set")
            .with_help(format!("name the folder: export {FOLDER_VARIABLE}=DIR"))
    })?;
    Ok(home.join(".docker"))
}

/// Returns the failure of a change to the file, with help for an invalid file.
pub(crate) fn config_failure(folder: &Path, error: Error) -> Failure {
    match error {
        Error::InvalidInput { message, .. } => {
            let path = folder.join("config.json").display().to_string();
            let (from, to) = (quote_for_shell(&path), quote_for_shell(&format!("{path}.bad")));
            Failure::new(Kind::Other, message)
                .with_help(format!("correct it, or move it away: mv {from} {to}"))
        }
        error @ Error::Conflict { .. } => {
            Failure::from(error).with_help("use another folder, such as a new one")
        }
        error => error.into(),
    }
}
