//! Tests of the fake of AWS with AWS's SDK and a client of its registry.

#![expect(clippy::unwrap_used, reason = "the functions that tests share are tests too")]

mod access;
mod faults;
mod images;
mod registry;
mod repositories;
mod sessions;
mod signatures;
mod tagging;
mod web_identity;
