//! `ark-catalog-container-tool`: manages container repositories on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ark_container_cli::run_tool(std::env::args_os().collect())
}
