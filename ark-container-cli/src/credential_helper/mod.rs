//! `docker-credential-ark`: docker's protocol for credential helpers, by which docker, podman, buildah,
//! skopeo and kaniko get a login when they need one. A run does one operation; its input is standard input.
//!
//! A client shows its user what a helper printed on standard output when it fails; docker ignores that and
//! shows standard error. So a failure is printed on both.

mod login;
mod protocol;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ark_container_core::credentials::USERNAME;
use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::model::{RegistryHost, RegistryLocation};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::arguments::GlobalOptions;
use crate::failure::{Failure, Kind};
use crate::output::rfc3339;
use crate::settings::Settings;
use login::{login, registry_of};
use protocol::{Answer, Refusal, Request, Stored};

pub(crate) use login::host_of;

/// Name of the program.
pub(crate) const HELPER: &str = "docker-credential-ark";

/// Name of the program in docker's configuration.
pub(crate) const SUFFIX: &str = "ark";

/// Maximum time of a run, whatever it waits for: the network, a lock, its input.
const RUN_TIMEOUT: Duration = Duration::from_secs(15);

/// Does the operation that was asked for, and returns the exit code.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let answer = in_time(RUN_TIMEOUT, move || answer(&argv));
    if let Err(refusal) = &answer {
        tracing::warn!(target: LOG_TARGET, "refused: {refusal}");
    }
    protocol::print(&answer)
}

/// Works on a thread of its own: where that hangs, its end is not waited for.
fn in_time(
    timeout: Duration,
    work: impl FnOnce() -> Result<Answer, Refusal> + Send + 'static,
) -> Result<Answer, Refusal> {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::Builder::new().spawn(move || {
        // Nobody listens any more where it took too long.
        let _ = sender.send(work());
    });
    worker.map_err(|error| Failure::io("cannot start", &error))?;
    receiver.recv_timeout(timeout).unwrap_or_else(|error| Err(given_up(error, timeout).into()))
}

fn given_up(error: RecvTimeoutError, timeout: Duration) -> Failure {
    match error {
        RecvTimeoutError::Timeout => Failure::new(
            Kind::Temporary,
            format!(
                "no answer within {} seconds: the network, another process that is logging in, or \
                 whoever is to send input takes too long",
                timeout.as_secs()
            ),
        )
        .with_help(format!("try again; to see what it does: export {}=FILE", LOG_VARIABLE)),
        // Where it panicked, the panic has been told.
        RecvTimeoutError::Disconnected => Failure::new(Kind::Other, "it ended without an answer"),
    }
}

/// Does what the client asks for.
fn answer(argv: &[OsString]) -> Result<Answer, Refusal> {
    start_log();
    let request = Request::read(argv)?;
    tracing::info!(target: LOG_TARGET, "{request}");
    let settings = || Settings::resolve(&GlobalOptions::default(), &|name| std::env::var_os(name));
    match request {
        Request::Get { server } => get(server, settings()?),
        Request::Store(stored) => store(&stored, settings()?),
        Request::Erase { server } => erase(&server, &settings()?),
        Request::List => list(&settings()?),
        Request::Version => Ok(Answer::Version),
    }
}

fn get(server: String, settings: Settings) -> Result<Answer, Refusal> {
    let registry = registry_of(&server, &settings)?.ok_or(Refusal::NotFound)?;
    let credentials = login(settings, registry)?;
    tracing::info!(
        target: LOG_TARGET,
        "a login until {} for {}", rfc3339(credentials.expires_at), credentials.scope
    );
    Ok(Answer::Login { server, credentials })
}

/// Keeps nothing, since there will be a login whenever one is asked for. So it succeeds where there is
/// one, and a client that was logged in otherwise can go on.
fn store(stored: &Stored, settings: Settings) -> Result<Answer, Refusal> {
    let Stored { server, username, secret } = stored;
    let Some(registry) = registry_of(server, &settings)? else {
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
    if let Some(RegistryLocation::Ecr { host, .. }) = registry_of(server, settings)?
        && let Some(directory) = CredentialsCache::user_directory()
    {
        let removed = clear(&CredentialsCache::open(directory), host.registry_host())?;
        tracing::info!(target: LOG_TARGET, "cached logins that were removed: {removed}");
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

/// Names the file.
const LOG_VARIABLE: &str = "ARK_CREDENTIAL_LOG";

/// Whose lines the helper's own are.
const LOG_TARGET: &str = "docker_credential_ark";

/// Begins to append to the file that [`LOG_VARIABLE`] names, if it names one.
///
/// Other libraries stay silent, so that nothing they know of headers and passwords gets there. That
/// there is no record is no reason to give no login.
fn start_log() {
    let Some(path) = std::env::var_os(LOG_VARIABLE).filter(|path| !path.is_empty()) else { return };
    let path = Path::new(&path);
    match OpenOptions::new().append(true).create(true).mode(0o600).open(path) {
        Ok(file) => {
            let targets = Targets::new()
                .with_target(LOG_TARGET, LevelFilter::DEBUG)
                .with_target("ark_container_core", LevelFilter::DEBUG)
                .with_target(ark_container_core::permission::AUDIT_TARGET, LevelFilter::DEBUG);
            let lines =
                tracing_subscriber::fmt::layer().with_writer(Mutex::new(file)).with_ansi(false);
            // It fails only where another subscriber was installed, and there is none.
            let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
        }
        Err(error) => {
            let file = path.display();
            // What cannot be told is not worth failing for.
            let _ = writeln!(io::stderr(), "{HELPER}: no log: {LOG_VARIABLE}: {file}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hanging_or_panicking_work_is_a_failure() {
        let refused = |timeout, work: fn()| {
            let refusal = in_time(timeout, move || {
                work();
                Ok(Answer::Done)
            });
            refusal.unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(Duration::from_millis(1), || loop { thread::park() }), @"
        docker-credential-ark: no answer within 0 seconds: the network, another process that is logging in, or whoever is to send input takes too long
        help: try again; to see what it does: export ARK_CREDENTIAL_LOG=FILE
        ");
        let silent = || std::panic::resume_unwind(Box::new(()));
        insta::assert_snapshot!(refused(Duration::from_secs(60), silent), @"
        docker-credential-ark: it ended without an answer
        ");
    }
}
