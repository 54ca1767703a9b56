//! Test suites that run the program as a process, with its arguments and its output.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic fails the test")]

mod access;
mod attacks;
mod audit;
mod check_access;
mod clients;
mod cmake;
mod completions;
mod crash;
mod credential_helper;
mod ecr;
mod errors;
mod extract_video;
mod iam_policy;
mod identity;
mod images;
mod load;
mod memory;
mod other_users;
mod output;
mod packages;
mod push;
#[path = "../python_component.rs"]
mod python_component;
mod quickstart;
mod read_only;
mod reference;
mod resume;
mod sandbox;
#[path = "../small_disk.rs"]
mod small_disk;
mod tools;
