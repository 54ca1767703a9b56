//! The local registry over TCP, as a client sees it.

mod access;
mod content;
mod limits;
pub(crate) mod server;
mod uploads;
