//! The registry under more than it can take, and what it has acknowledged before.
//!
//! A thousand connections and no file descriptors are for a process of its own: tests/cli/overload.rs.

mod clients;
mod disk;
mod small_disk;
mod sweeping;
