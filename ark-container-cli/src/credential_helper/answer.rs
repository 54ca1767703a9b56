//! [`Answer`] and [`Refusal`]: what a client is told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::model::RegistryHost;
use serde::Serialize;

use super::HELPER;
use crate::failure::Failure;

/// What was asked for.
#[derive(Debug)]
pub(super) enum Answer {
    /// That it is done.
    Done,
    /// A login to a server, as the client calls it.
    Login { server: String, credentials: RegistryCredentials },
    /// The registries that there is a login for, with the user's name there.
    Logins(BTreeMap<RegistryHost, &'static str>),
    /// Which program this is.
    Version,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server is none of ours, so that the client goes on without a login.
    NotFound,
    /// The client named no server.
    NoServer,
    /// The client named no user.
    NoUser,
    /// It failed.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Refusal {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// As it stands on standard output. Clients know the first three by their very words.
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

/// A login as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LoginRecord<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// Tells the client, and returns the exit code.
pub(super) fn tell(answer: &Result<Answer, Refusal>) -> ExitCode {
    match answer {
        Ok(answer) => match print(answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(refusal) => {
            // What cannot be told leaves only the exit code to tell.
            let _ = writeln!(io::stdout(), "{refusal}");
            if let Refusal::Failed(_) = refusal {
                let _ = writeln!(io::stderr(), "{refusal}");
            }
            ExitCode::FAILURE
        }
    }
}

fn print(answer: &Answer) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match answer {
        Answer::Done => return Ok(()),
        Answer::Login { server, credentials } => {
            let record = LoginRecord {
                server,
                username: &credentials.username,
                secret: credentials.password.expose(),
            };
            serde_json::to_writer(&mut stdout, &record)?;
        }
        Answer::Logins(logins) => serde_json::to_writer(&mut stdout, logins)?,
        Answer::Version => {
            let (package, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
            write!(stdout, "{HELPER} ({package}) v{version}")?;
        }
    }
    writeln!(stdout)?;
    stdout.flush()
}
