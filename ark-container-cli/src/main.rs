//! `ark-catalog-container-tool`: a team's container repositories on the command line.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "docs of arguments are what --help shows, where brackets say that a part is optional"
)]

mod args;
mod argv;
mod commands;
mod connect;
mod failure;
mod hint;
mod output;
mod program;
mod progress;
mod settings;
mod transfer;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::run(std::env::args_os().collect())
}
