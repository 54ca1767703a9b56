//! What the helper does.

use std::io::{self, Write as _};

use ark_container_core::credentials::USERNAME;
use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::model::{RegistryHost, RegistryLocation};

use super::answer::{Answer, Refusal};
use super::login::login;
use super::registry::{host_of, meant};
use super::request::{Request, Stored};
use super::{HELPER, SUFFIX, log};
use crate::args::GlobalOptions;
use crate::failure::Failure;
use crate::output::rfc3339;
use crate::settings::Settings;

/// Does what a client asks for.
pub(super) fn perform(request: Request) -> Result<Answer, Refusal> {
    if let Request::Version = request {
        return Ok(Answer::Version);
    }
    let settings = Settings::resolve(&GlobalOptions::default(), &|name| std::env::var_os(name))?;
    match request {
        Request::Get { server } => get(server, settings),
        Request::Store(stored) => store(&stored, settings),
        Request::Erase { server } => erase(&server, &settings),
        Request::List => list(&settings),
        Request::Version => Ok(Answer::Version),
    }
}

fn get(server: String, settings: Settings) -> Result<Answer, Refusal> {
    let registry = meant(&server, &settings)?.ok_or(Refusal::NotFound)?;
    let credentials = login(settings, registry)?;
    tracing::info!(
        target: log::TARGET,
        "a login until {} for {}", rfc3339(credentials.expires_at), credentials.scope
    );
    Ok(Answer::Login { server, credentials })
}

/// Keeps nothing, since there will be a login whenever one is asked for. So it succeeds where there is
/// one, and a client that was logged in otherwise can go on.
fn store(stored: &Stored, settings: Settings) -> Result<Answer, Refusal> {
    let Stored { server, username, secret } = stored;
    let Some(registry) = meant(server, &settings)? else {
        return Err(foreign(server).into());
    };
    if username != USERNAME {
        let message = format!("{server} has one user, {USERNAME}, and not {username}");
        let help = format!("docker login --username {USERNAME}; no login is needed with {HELPER}");
        return Err(Failure::usage(message).with_help(help).into());
    }
    let own = login(settings, registry)?;
    if own.password.expose() != secret {
        // What cannot be told is not worth failing for.
        let _ = writeln!(
            io::stderr(),
            "{HELPER}: this password is not kept: clients that ask for one get a login of your own \
             to {}",
            own.host
        );
    }
    Ok(Answer::Done)
}

fn foreign(server: &str) -> Failure {
    Failure::usage(format!("it keeps no passwords, and has none for {server}")).with_help(format!(
        "for a password of your own, take {SUFFIX:?} out of credHelpers or credsStore in docker's \
             config.json; where it is a registry of ours, name it in registries of container.toml"
    ))
}

/// Forgets what is cached of a registry; one that is none of ours has nothing to forget.
fn erase(server: &str, settings: &Settings) -> Result<Answer, Refusal> {
    if let Some(RegistryLocation::Ecr { host, .. }) = meant(server, settings)?
        && let Some(directory) = CredentialsCache::user_directory()
    {
        let removed = clear(&CredentialsCache::open(directory), host.registry_host())?;
        tracing::info!(target: log::TARGET, "cached logins that were removed: {removed}");
    }
    Ok(Answer::Done)
}

fn clear(cache: &CredentialsCache, host: &RegistryHost) -> Result<usize, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    Ok(runtime.block_on(cache.clear(Some(host)))?)
}

fn list(settings: &Settings) -> Result<Answer, Refusal> {
    let hosts = settings.registries().map(|location| Ok((host_of(location)?, USERNAME)));
    Ok(Answer::Logins(hosts.collect::<Result<_, Failure>>()?))
}
