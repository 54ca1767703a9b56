//! The programs of this package: `ark-catalog-container-tool` manages container repositories on the command
//! line, and `docker-credential-ark` gives logins to docker and other clients. The library is for these two
//! programs only; other programs use `ark-container-core`.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "--help prints the docs of arguments, in which brackets mark optional text"
)]

mod arguments;
mod commands;
mod completion;
mod context;
mod credential_helper;
mod failure;
mod hint;
mod log;
mod output;
mod program;
mod progress;

pub use credential_helper::run as run_credential_helper;
pub use program::run as run_tool;
