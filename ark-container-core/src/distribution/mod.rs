//! A client of the OCI distribution API: blobs, manifests and tags of one repository over HTTP.
//!
//! It keeps to the [specification] and adapts to what registries really answer. What fails for now is
//! tried again as [`Retry`] says, but for uploads, whose content only the caller can begin anew.
//!
//! [specification]: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md

mod blob;
mod body;
mod challenge;
mod chunks;
mod client;
mod document;
mod error;
mod fetch;
#[cfg(feature = "_fuzzing")]
pub mod fuzzing;
mod link;
mod listing;
mod login;
mod manifest;
mod pace;
#[cfg(feature = "ecr")]
mod presigned;
mod publish;
mod referrers;
mod request;
mod retry;
mod sending;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
mod token;
mod upload;

pub use blob::BlobStream;
pub use chunks::Chunk;
pub use client::Client;
pub use document::Manifest;
pub(crate) use document::{ImageManifest, Index, Referring};
pub use error::{DistributionError, RegistryMessage};
pub use fetch::BlobRest;
pub use login::Authenticate;
#[cfg(feature = "ecr")]
pub(crate) use presigned::fetch_presigned;
pub use retry::Retry;
pub(crate) use retry::Tries;
pub use upload::{Mount, Upload};
