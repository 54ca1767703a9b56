//! The library through its public API.

#![expect(clippy::unwrap_used, reason = "the functions that tests share are tests too")]

mod access;
mod architecture;
mod attacks;
mod aws;
mod cancel;
mod conformance;
mod documents;
mod embedding;
mod examples;
mod identity;
mod images;
mod live;
mod observability;
mod oci_spec;
mod overload;
mod permission;
mod push;
#[path = "../python_component.rs"]
mod python_component;
mod registry;
#[path = "../small_disk.rs"]
mod small_disk;
mod terraform;
