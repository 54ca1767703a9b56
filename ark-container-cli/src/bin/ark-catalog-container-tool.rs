//! `ark-catalog-container-tool`: a team's container repositories on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ark_container_cli::run_tool(std::env::args_os().collect())
}
