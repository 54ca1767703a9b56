//! docker's protocol for credential helpers: one operation, its input on standard input.

use std::ffi::OsString;
use std::process::ExitCode;

/// Does the operation that was asked for, and returns the exit code.
#[must_use]
pub fn run(_argv: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}
