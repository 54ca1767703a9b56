//! `docker-credential-ark`: implements docker's protocol for credential helpers, through which docker, podman,
//! buildah, skopeo and kaniko get logins. A run does one operation, with its input on standard input.
//!
//! A failure is printed on standard output and on standard error: most clients show the former to their users,
//! and docker shows the latter.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>

mod registry;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ark_container_core::catalog::{Settings, expand_home};
use ark_container_core::credentials::cache::CredentialsCache;
use ark_container_core::credentials::{CredentialsOptions, RegistryCredentials, USERNAME};
use ark_container_core::model::{RegistryHost, RegistryLocation};
use ark_container_core::{Error, decode, open_to_append};
use serde::{Deserialize, Serialize};

use crate::arguments::{GlobalOptions, PROGRAM};
use crate::context::Context;
use crate::failure::{Failure, Kind};
use crate::log::{self, HELPER_TARGET};
use crate::output::{self, rfc3339, visible};
use crate::program::{block_on, unset_empty_variables};
use registry::registry_of;

pub(crate) use registry::host_of;

/// Name of the program.
pub(crate) const HELPER: &str = "docker-credential-ark";

/// Name of the program in docker's configuration.
pub(crate) const SUFFIX: &str = "ark";

/// Environment variable with the path of the log file.
const LOG_VARIABLE: &str = "ARK_CREDENTIAL_LOG";

/// Maximum time of a run, including waits for the network, a lock or the input.
const RUN_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum length of the input. Some passwords have a megabyte.
const MAX_INPUT_BYTES: u64 = 4 * 1024 * 1024;

/// Maximum number of organizations of a login: the local registry accepts 64 KiB of headers, and each
/// organization adds about 170 bytes to the password.
const MAX_ORGANIZATIONS: usize = 300;

/// Runs the operation of the command line, and returns the exit code.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    unset_empty_variables(&argv);
    let answer = in_time(RUN_TIMEOUT, move || block_on(answer(&argv))?);
    match answer {
        Ok(answer) => match write!(io::stdout(), "{answer}").and_then(|()| io::stdout().flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(refusal) => {
            tracing::warn!(target: HELPER_TARGET, "refused: {refusal}");
            // The exit code reports the failure even if it cannot be printed.
            let _ = writeln!(io::stdout(), "{refusal}");
            if let Refusal::Failed(_) = refusal {
                let _ = writeln!(io::stderr(), "{refusal}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs the work on another thread, which is abandoned at the timeout.
fn in_time(
    timeout: Duration,
    work: impl FnOnce() -> Result<String, Refusal> + Send + 'static,
) -> Result<String, Refusal> {
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
                     or the client that sends the input takes too long",
                    timeout.as_secs()
                ),
            )
            .with_help(format!("try again; to see what it does: export {LOG_VARIABLE}=FILE")),
            // The thread panicked, and the panic is already printed.
            RecvTimeoutError::Disconnected => {
                Failure::new(Kind::Other, "the operation ended without an answer")
            }
        };
        Err(failure.into())
    })
}

/// The reason that a run failed.
#[derive(Debug)]
enum Refusal {
    /// The server is not in the settings, so the client continues without a login.
    NotFound,
    /// The client named no server.
    NoServer,
    /// The client named no user.
    NoUser,
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Refusal {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// The text on standard output. Clients compare the first three literally.
///
/// Source: <https://github.com/docker/docker-credential-helpers/blob/v0.9.3/credentials/error.go>
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("credentials not found in native keychain"),
            Self::NoServer => f.write_str("no credentials server URL"),
            Self::NoUser => f.write_str("no credentials username"),
            Self::Failed(failure) => {
                write!(f, "{HELPER}: {failure}")?;
                match failure.help() {
                    Some(help) => write!(f, "\nhelp: {}", help.replace('\n', "; ")),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Runs the operation of the client, and returns its output.
async fn answer(argv: &[OsString]) -> Result<String, Refusal> {
    start_log();
    let [_, operation] = argv else { return Err(usage("one operation is required").into()) };
    let context = || Context::new(&GlobalOptions { quiet: true, ..GlobalOptions::default() });
    match operation.to_str() {
        Some("get") => {
            let server = read_server("get")?;
            let context = context()?;
            let Some(registry) = registry_of(&server, &context.settings)? else {
                tracing::info!(target: HELPER_TARGET, "{}", not_ours(&server, &context.settings));
                return Err(Refusal::NotFound);
            };
            let credentials = login(context, registry).await?;
            let (expiry, scope) = (rfc3339(credentials.expires_at), &credentials.scope);
            tracing::info!(target: HELPER_TARGET, "a login until {expiry} for {scope}");
            Ok(output::to_json_line(&ClientLogin {
                server,
                username: credentials.username.clone(),
                secret: credentials.password.expose().to_owned(),
            })?)
        }
        Some("store") => {
            let login = read_login()?;
            store(&login, context()?).await
        }
        Some("erase") => {
            let server = read_server("erase")?;
            erase(&server, &context()?).await
        }
        Some("list") => {
            tracing::info!(target: HELPER_TARGET, "list");
            let context = context()?;
            let hosts =
                context.settings.registries().map(|location| Ok((host_of(location)?, USERNAME)));
            let hosts = hosts.collect::<Result<BTreeMap<RegistryHost, _>, Failure>>()?;
            Ok(output::to_json_line(&hosts)?)
        }
        Some("help" | "--help" | "-h") => Ok(HELP.to_owned()),
        Some("version" | "--version") => {
            let (package, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
            Ok(format!("{HELPER} ({package}) v{version}\n"))
        }
        _ => Err(usage(&format!("unknown operation {}", operation.display())).into()),
    }
}

fn usage(problem: &str) -> Failure {
    Failure::usage(format!("{problem}: get, store, erase, list or version")).with_help(format!(
        "clients such as docker run {HELPER}; to configure docker: {PROGRAM} --configure-docker; \
         to list the operations: {HELPER} --help"
    ))
}

const HELP: &str = "\
Gives docker, podman, buildah, skopeo and kaniko logins to your registries

Usage: docker-credential-ark <get|store|erase|list|version>

Operations, which read their input from standard input:
  get      Print user and password for the host of a registry, as JSON
  store    Check credentials in JSON, and store nothing: get creates a login each time
  erase    Delete the cached passwords for the host of a registry
  list     Print the hosts of your registries, as JSON
  version  Print the version

The registries are registry and registries of $XDG_CONFIG_HOME/ark/container.toml, or ARK_REGISTRY.
ARK_CREDENTIAL_LOG is the path of a log file.

To configure docker for this program: ark-catalog-container-tool --configure-docker
";

/// Returns the message that a server is not in the settings, with the registries that are.
fn not_ours(server: &str, settings: &Settings) -> String {
    let registries: Vec<String> = settings.registries().map(ToString::to_string).collect();
    format!(
        "{server} is not one of your registries, which are {} (registry from {}, registries in {})",
        registries.join(", "),
        settings.registry_origin(),
        settings.configuration_file().display()
    )
}

/// A login in the JSON of the protocol.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ClientLogin {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Checks that `get` has a login for the server, and stores nothing: `get` creates a login each time. Success
/// lets a client continue that logged in with another password.
async fn store(login_of_client: &ClientLogin, context: Context) -> Result<String, Refusal> {
    let ClientLogin { server, username, secret } = login_of_client;
    let Some(registry) = registry_of(server, &context.settings)? else {
        let problem = not_ours(server, &context.settings);
        let failure = Failure::usage(format!("passwords are not stored, and {problem}"));
        return Err(failure
            .with_help(format!(
                "to store a password, remove {SUFFIX:?} from credHelpers or credsStore in docker's \
                 config.json; for an Ark registry, add it to registries in {}",
                context.settings.configuration_file().display()
            ))
            .into());
    };
    if username != USERNAME {
        let message = format!("the user of {server} is {USERNAME}, not {username}");
        let help = format!("docker login --username {USERNAME}; no login is needed with {HELPER}");
        return Err(Failure::usage(message).with_help(help).into());
    }
    let own = login(context, registry).await?;
    if own.password.expose() != secret {
        // A failure to print it does not fail the run.
        let _ = writeln!(
            io::stderr(),
            "{HELPER}: this password is not stored: each client gets a new login to {} instead",
            own.host
        );
    }
    Ok(String::new())
}

/// Removes the cached logins of a registry. A server that is not in the settings has no cached logins.
async fn erase(server: &str, context: &Context) -> Result<String, Refusal> {
    if let Some(RegistryLocation::Ecr { host, .. }) = registry_of(server, &context.settings)?
        && let Some(directory) = CredentialsCache::user_directory()
    {
        let cache = CredentialsCache::open(directory);
        let removed = cache.clear(Some(host.registry_host())).await?;
        tracing::info!(target: HELPER_TARGET, "removed cached logins: {removed}");
    }
    Ok(String::new())
}

/// Gets a login to a registry, from the cache or a new one.
async fn login(
    context: Context,
    registry: RegistryLocation,
) -> Result<RegistryCredentials, Failure> {
    let context = context.with_registry(registry)?;
    credentials(&context).await.map_err(|failure| context.advise(failure))
}

async fn credentials(context: &Context) -> Result<RegistryCredentials, Failure> {
    let catalog = context.connect().await?;
    if context.is_local() && catalog.served_at().is_none() {
        // Another program that listens on the address would receive the password.
        let message = format!("{catalog} is not served");
        let help = format!("serve it: {}", context.serve_command());
        return Err(Failure::new(Kind::Other, message).with_help(help));
    }
    let for_one_repository = |failure: Failure| {
        failure.with_help(format!(
            "log in to one repository at a time: {PROGRAM} --login NAME --organization GUID \
             --docker-config DIR"
        ))
    };
    let scope = catalog.login_scope().await?;
    let organizations = scope.organization_ids().len();
    if organizations > MAX_ORGANIZATIONS {
        let message = format!("a login for {organizations} organizations is too long");
        return Err(for_one_repository(Failure::usage(message)));
    }
    let credentials = catalog.credentials_for(&scope, &CredentialsOptions::default()).await;
    credentials.map_err(|error| match error {
        Error::InvalidInput { .. } if organizations > 1 => for_one_repository(error.into()),
        _ => error.into(),
    })
}

fn read_input() -> Result<String, Failure> {
    let mut input = Vec::new();
    let read = io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut input);
    read.map_err(|error| Failure::io("cannot read standard input", &error))?;
    if input.len() as u64 > MAX_INPUT_BYTES {
        let max = MAX_INPUT_BYTES / 1024 / 1024;
        return Err(Failure::usage(format!("standard input is longer than {max} MiB")));
    }
    match decode(&input) {
        Ok(text) => Ok(text.to_owned()),
        Err(problem) => Err(Failure::usage(format!("standard input cannot be decoded: {problem}"))),
    }
}

fn read_server(operation: &str) -> Result<String, Refusal> {
    let input = read_input()?;
    let server = input.trim();
    if server.is_empty() {
        return Err(Refusal::NoServer);
    }
    tracing::info!(target: HELPER_TARGET, "{operation} {}", visible(server));
    Ok(server.to_owned())
}

fn read_login() -> Result<ClientLogin, Refusal> {
    let login: ClientLogin = serde_json::from_str(&read_input()?).map_err(|error| {
        // The text of the error may contain the secret.
        let (line, column) = (error.line(), error.column());
        Failure::usage(format!(
            "standard input is not a login in JSON, at line {line}, column {column}: expected an \
             object with the strings ServerURL, Username and Secret"
        ))
    })?;
    if login.server.trim().is_empty() {
        return Err(Refusal::NoServer);
    }
    if login.username.is_empty() {
        return Err(Refusal::NoUser);
    }
    tracing::info!(target: HELPER_TARGET, "store {}", visible(&login.server));
    Ok(login)
}

/// Starts a log in the file of [`LOG_VARIABLE`], if set: the user does not see the helper's output. A file that
/// cannot be written does not prevent a login.
fn start_log() {
    let Some(path) = std::env::var_os(LOG_VARIABLE).filter(|path| !path.is_empty()) else { return };
    let path = match expand_home(path.into()) {
        Ok(path) => path,
        Err(error) => return report_no_log(&error),
    };
    match open_to_append(&path, "log") {
        Ok(file) => log::start_in(file),
        Err(error) => report_no_log(&error),
    }
}

fn report_no_log(problem: &dyn fmt::Display) {
    // A failure to print it does not fail the run.
    let _ = writeln!(io::stderr(), "{HELPER}: no log: {LOG_VARIABLE}: {problem}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hanging_or_panicking_work_is_a_failure() {
        let refused = |timeout, work: fn()| {
            let refusal = in_time(timeout, move || {
                work();
                Ok(String::new())
            });
            refusal.unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(Duration::from_millis(1), || loop { thread::park() }), @"
        docker-credential-ark: no answer within 0 seconds: the network, another process that is logging in, or the client that sends the input takes too long
        help: try again; to see what it does: export ARK_CREDENTIAL_LOG=FILE
        ");
        let silent = || std::panic::resume_unwind(Box::new(()));
        insta::assert_snapshot!(refused(Duration::from_secs(60), silent), @"
        docker-credential-ark: the operation ended without an answer
        ");
    }
}
