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
use ark_container_core::model::RegistryLocation;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::GlobalOptions;
use crate::failure::{Failure, Kind};
use crate::output::{self, rfc3339};
use crate::program::block_on;
use crate::settings::Settings;
use login::{login, registry_of};
use protocol::{Answer, Refusal, Request, Stored};

pub(crate) use login::host_of;

/// Name of the program.
pub(crate) const HELPER: &str = "docker-credential-ark";

/// Name of the program in docker's configuration.
pub(crate) const SUFFIX: &str = "ark";

/// Target of the helper's own lines in the log.
pub(crate) const LOG_TARGET: &str = "docker_credential_ark";

/// Names the file of the log.
const LOG_VARIABLE: &str = "ARK_CREDENTIAL_LOG";

/// Maximum time of a run, whatever it waits for: the network, a lock, its input.
const RUN_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the operation of the command line, and returns the exit code.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let answer = in_time(RUN_TIMEOUT, move || block_on(answer(&argv))?);
    if let Err(refusal) = &answer {
        tracing::warn!(target: LOG_TARGET, "refused: {refusal}");
    }
    protocol::print(&answer)
}

/// Works on another thread, which is abandoned at the timeout.
fn in_time(
    timeout: Duration,
    work: impl FnOnce() -> Result<Answer, Refusal> + Send + 'static,
) -> Result<Answer, Refusal> {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::Builder::new().spawn(move || {
        // Sending fails after the timeout.
        let _ = sender.send(work());
    });
    worker.map_err(|error| Failure::io("cannot start", &error))?;
    receiver.recv_timeout(timeout).unwrap_or_else(|error| {
        let failure = match error {
            RecvTimeoutError::Timeout => Failure::new(
                Kind::Temporary,
                format!(
                    "no answer within {} seconds: the network, another process that is logging in, \
                     or whoever is to send input takes too long",
                    timeout.as_secs()
                ),
            )
            .with_help(format!("try again; to see what it does: export {LOG_VARIABLE}=FILE")),
            // The thread panicked, which is printed already.
            RecvTimeoutError::Disconnected => {
                Failure::new(Kind::Other, "it ended without an answer")
            }
        };
        Err(failure.into())
    })
}

async fn answer(argv: &[OsString]) -> Result<Answer, Refusal> {
    start_log();
    let request = Request::read(argv)?;
    tracing::info!(target: LOG_TARGET, "{request}");
    if let Request::Version = request {
        return Ok(Answer::Version);
    }
    let settings = Settings::resolve(&GlobalOptions::default(), &|name| std::env::var_os(name))?;
    match request {
        Request::Get { server } => {
            let registry = registry_of(&server, &settings)?.ok_or(Refusal::NotFound)?;
            let credentials = login(settings, registry).await?;
            let (expiry, scope) = (rfc3339(credentials.expires_at), &credentials.scope);
            tracing::info!(target: LOG_TARGET, "a login until {expiry} for {scope}");
            Ok(Answer::Login { server, credentials })
        }
        Request::Store(stored) => store(&stored, settings).await,
        Request::Erase { server } => {
            if let Some(RegistryLocation::Ecr { host, .. }) = registry_of(&server, &settings)?
                && let Some(directory) = CredentialsCache::user_directory()
            {
                let cache = CredentialsCache::open(directory);
                let removed = cache.clear(Some(host.registry_host())).await?;
                tracing::info!(target: LOG_TARGET, "cached logins that were removed: {removed}");
            }
            Ok(Answer::Done)
        }
        Request::List => {
            let hosts = settings.registries().map(|location| Ok((host_of(location)?, USERNAME)));
            Ok(Answer::Logins(hosts.collect::<Result<_, Failure>>()?))
        }
        Request::Version => Ok(Answer::Version),
    }
}

/// Checks that there is a login for the client, and stores nothing: `get` creates a login each time. So a
/// client that is logged in otherwise can continue.
async fn store(stored: &Stored, settings: Settings) -> Result<Answer, Refusal> {
    let Stored { server, username, secret } = stored;
    let Some(registry) = registry_of(server, &settings)? else {
        let failure = Failure::usage(format!("it keeps no passwords, and has none for {server}"));
        return Err(failure
            .with_help(format!(
                "for a password of your own, take {SUFFIX:?} out of credHelpers or credsStore in \
                 docker's config.json; where it is a registry of ours, name it in registries of \
                 container.toml"
            ))
            .into());
    };
    if username != USERNAME {
        let message = format!("{server} has one user, {USERNAME}, and not {username}");
        let help = format!("docker login --username {USERNAME}; no login is needed with {HELPER}");
        return Err(Failure::usage(message).with_help(help).into());
    }
    let own = login(settings, registry).await?;
    if own.password.expose() != secret {
        // A failure to print it does not fail the run.
        let _ = writeln!(
            io::stderr(),
            "{HELPER}: this password is not kept: clients that ask for one get a login of your own \
             to {}",
            own.host
        );
    }
    Ok(Answer::Done)
}

/// Starts a log in the file that [`LOG_VARIABLE`] names, if it names one: clients run the helper where nobody
/// sees its output. A file that cannot be written is no reason to give no login.
fn start_log() {
    let Some(path) = std::env::var_os(LOG_VARIABLE).filter(|path| !path.is_empty()) else { return };
    let path = Path::new(&path);
    match OpenOptions::new().append(true).create(true).mode(0o600).open(path) {
        Ok(file) => output::start_log(LevelFilter::DEBUG, Mutex::new(file)),
        Err(error) => {
            let file = path.display();
            // A failure to print it does not fail the run.
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
