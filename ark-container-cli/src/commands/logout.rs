//! `--logout`: forgets cached passwords.

use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::model::RegistryLocation;
use serde::Serialize;

use crate::connect::Context;
use crate::failure::Stop;

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --logout
  ark-catalog-container-tool --logout --all

Passwords that were handed out stay valid until they expire, and docker keeps its own: docker logout HOST";

/// Forget the registry's passwords that are cached on this machine, and print the registry
///
/// A registry in a folder has none: its passwords are made when they are asked for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Forget those of every registry, and print '*'
    #[arg(long)]
    all: bool,
}

/// What was forgotten, as programs read it.
#[derive(Debug, Serialize)]
struct LogoutRecord<'a> {
    registry: Option<&'a RegistryLocation>,
    removed: usize,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let registry = &context.settings.registry;
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
    context.output.result(&line, &LogoutRecord { registry, removed })?;
    context.output.note(&format!("cached passwords that were removed: {removed}"));
    Ok(())
}
