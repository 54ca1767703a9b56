//! Who asks, by what was set, and what is told where nobody can be asking.

mod aws_callers;
pub(crate) mod in_aws;
mod nameless;
mod tokens;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use ark_container_core::testing::{TestToken, TokenIssuer};

use crate::sandbox::{Sandbox, TBD};

/// Where `ark-auth-tool` leaves a token.
const DEFAULT_FILE: &str = ".cache/tbd/jwt.json";

/// The identity provider.
pub(crate) fn provider() -> TokenIssuer {
    TokenIssuer::new("https://auth.example.com", "ark").unwrap()
}

/// A token of alice, a member of [`TBD`].
pub(crate) fn alice() -> TestToken {
    TestToken::new(&"user:alice".parse().unwrap()).with_organizations([TBD.parse().unwrap()])
}

/// Writes a token as its owner's alone.
fn write_token(sandbox: &Sandbox, below: &str, token: &str) -> PathBuf {
    let path = sandbox.write(below, token);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}
