//! Who asks, by tokens: what is refused, where the keys come from, and renewal during a run.

mod forgeries;
mod key_server;
mod key_sets;
mod token_file;

use std::error::Error as _;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ark_container_core::Error;
use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{TestToken, TokenIssuer};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "ark";

fn issuer() -> TokenIssuer {
    TokenIssuer::new(ISSUER, AUDIENCE).unwrap()
}

/// A token of this user, a member of the standard organization.
fn user(name: &str) -> TestToken {
    TestToken::new(&format!("user:{name}").parse().unwrap())
        .with_organizations([OrganizationId::TBD])
}

/// Puts a file in the place of another at once, closed to others.
fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, path).unwrap();
}

/// Everything that an error says: its text, those of its causes, and its fields.
fn everything(error: &Error) -> String {
    let mut said = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(next) = cause {
        write!(said, " {next} {next:?}").unwrap();
        cause = next.source();
    }
    said
}
