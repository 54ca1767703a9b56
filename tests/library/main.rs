//! The library through its public API.

#![expect(clippy::unwrap_used, reason = "the functions that tests share are tests too")]

mod access;
mod architecture;
mod attacks;
mod aws;
mod conformance;
mod identity;
mod live;
mod oci_spec;
mod permission;
mod push;
#[path = "../python_component.rs"]
mod python_component;
mod registry;
mod terraform;
