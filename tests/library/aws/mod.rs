//! The fake of AWS, as AWS's own SDK and a client of the registry see it, and the ECR backend on it
//! and on emulators that others wrote.

mod access;
pub(crate) mod cloud;
mod conformance;
pub(crate) mod emulator;
mod faults;
mod iam;
mod images;
mod index;
mod put_image;
mod registry;
mod repositories;
mod sessions;
mod signatures;
mod sts_tokens;
mod web_identity;
