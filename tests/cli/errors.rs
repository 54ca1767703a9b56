//! Every error that a user can make: what they are reported, and the exit code.

mod arguments;
mod conflicts;
mod ecr;
mod missing;
mod permission;
mod settings;
mod sources;
mod system;

use crate::sandbox::Run;

/// What a failed run reported: its exit code and standard error, after nothing on standard output.
pub(crate) fn reported(run: &Run) -> String {
    assert_eq!(run.stdout, "", "{run:?}");
    format!("exit {}\n{}", run.code, run.stderr)
}
