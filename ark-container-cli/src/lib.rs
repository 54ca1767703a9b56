//! The programs of this package: `ark-catalog-container-tool`, a team's container repositories
//! on the command line, and `docker-credential-ark`, through which docker and its like log in by
//! themselves. It is for these two; other programs link `ark-container-core`.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "docs of arguments are what --help shows, where brackets say that a part is optional"
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
