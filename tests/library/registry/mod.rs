//! The local registry over TCP, as a client sees it.

mod access;
mod blobs;
mod limits;
mod log;
mod manifests;
mod referrers;
pub(crate) mod server;
mod shutdown;
mod tags;
mod uploads;
