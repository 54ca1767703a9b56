//! [`Request`]: what a client asks for.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _};

use serde::Deserialize;

use super::HELPER;
use super::answer::Refusal;
use crate::args::PROGRAM;
use crate::failure::Failure;
use crate::output::visible;

/// The most that is read, in bytes: some passwords have a megabyte, and no server's name has.
const MOST_INPUT: u64 = 4 * 1024 * 1024;

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
    let read = io::stdin().take(MOST_INPUT + 1).read_to_end(&mut input);
    read.map_err(|error| Failure::io("cannot read standard input", &error))?;
    if input.len() as u64 > MOST_INPUT {
        let most = MOST_INPUT / 1024 / 1024;
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
