//! The local registry over TCP, as its clients see it.

mod access;
mod content;
mod limits;
pub(crate) mod server;
mod uploads;
