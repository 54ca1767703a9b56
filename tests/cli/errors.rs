//! User errors: the message and the exit code of each.

mod arguments;
mod conflicts;
mod ecr;
mod missing;
mod permission;
mod settings;
mod sources;
mod system;

use crate::sandbox::Run;

/// Returns the exit code and the standard error of a failed run, which printed no result.
pub(crate) fn reported(run: &Run) -> String {
    assert_eq!(run.stdout, "", "{run:?}");
    format!("exit {}\n{}", run.code, run.stderr)
}
