//! docker's protocol for credential helpers: a [`Request`], and the [`Answer`] or [`Refusal`] to it.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use ark_container_core::credentials::RegistryCredentials;
use ark_container_core::model::RegistryHost;
use serde::{Deserialize, Serialize};

use super::HELPER;
use crate::arguments::PROGRAM;
use crate::failure::Failure;
use crate::output::visible;

/// Maximum length of the input: some passwords have a megabyte, and no server's name has.
const MAX_INPUT_BYTES: u64 = 4 * 1024 * 1024;

/// What a client asks for.
pub(super) enum Request {
    /// A login to a server.
    Get { server: String },
    /// That a login be kept.
    Store(Stored),
    /// That what is kept of a server be forgotten.
    Erase { server: String },
    /// The servers that there is a login for.
    List,
    /// Which program this is.
    Version,
}

/// A login that a client has.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stored {
    #[serde(rename = "ServerURL", default)]
    pub(super) server: String,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) secret: String,
}

impl Request {
    /// Reads the operation from the command line, and what it is about from standard input.
    pub(super) fn read(argv: &[OsString]) -> Result<Self, Refusal> {
        let [_, operation] = argv else { return Err(usage("it takes one operation").into()) };
        match operation.to_str() {
            Some("get") => Ok(Self::Get { server: server(read_input()?)? }),
            Some("store") => Ok(Self::Store(stored(&read_input()?)?)),
            Some("erase") => Ok(Self::Erase { server: server(read_input()?)? }),
            Some("list") => Ok(Self::List),
            Some("version" | "--version") => Ok(Self::Version),
            _ => Err(usage(&format!("there is no operation {}", operation.display())).into()),
        }
    }
}

/// Without the secret.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { server } => write!(f, "get {}", visible(server)),
            Self::Store(stored) => write!(f, "store {}", visible(&stored.server)),
            Self::Erase { server } => write!(f, "erase {}", visible(server)),
            Self::List => f.write_str("list"),
            Self::Version => f.write_str("version"),
        }
    }
}

fn usage(problem: &str) -> Failure {
    Failure::usage(format!("{problem}: get, store, erase, list or version")).with_help(format!(
        "docker and its like run {HELPER}; to have docker do so: {PROGRAM} --configure-docker"
    ))
}

fn read_input() -> Result<String, Failure> {
    let mut input = Vec::new();
    let read = io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut input);
    read.map_err(|error| Failure::io("cannot read standard input", &error))?;
    if input.len() as u64 > MAX_INPUT_BYTES {
        let most = MAX_INPUT_BYTES / 1024 / 1024;
        return Err(Failure::usage(format!("standard input is longer than {most} MiB")));
    }
    String::from_utf8(input).map_err(|_| Failure::usage("standard input is not UTF-8"))
}

fn server(input: String) -> Result<String, Refusal> {
    match input.trim() {
        "" => Err(Refusal::NoServer),
        server => Ok(server.to_owned()),
    }
}

fn stored(input: &str) -> Result<Stored, Refusal> {
    let stored: Stored = serde_json::from_str(input).map_err(|error| {
        // What it says of the content may be the secret.
        let (line, column) = (error.line(), error.column());
        Failure::usage(format!(
            "standard input is no login in JSON, at line {line}, column {column}: expected an \
             object with the texts ServerURL, Username and Secret"
        ))
    })?;
    if stored.server.trim().is_empty() {
        return Err(Refusal::NoServer);
    }
    if stored.username.is_empty() {
        return Err(Refusal::NoUser);
    }
    Ok(stored)
}

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

/// Prints the answer or refusal for the client, and returns the exit code.
pub(super) fn print(answer: &Result<Answer, Refusal>) -> ExitCode {
    match answer {
        Ok(answer) => match print_answer(answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(refusal) => {
            // If it cannot be printed, the exit code remains.
            let _ = writeln!(io::stdout(), "{refusal}");
            if let Refusal::Failed(_) = refusal {
                let _ = writeln!(io::stderr(), "{refusal}");
            }
            ExitCode::FAILURE
        }
    }
}

fn print_answer(answer: &Answer) -> io::Result<()> {
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
