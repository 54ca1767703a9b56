//! A client of the OCI distribution API: blobs, manifests and tags of one repository over HTTP.
//!
//! It keeps to the [specification] and adapts to what registries really answer. It tries nothing
//! twice: [`Error::is_temporary`](crate::Error::is_temporary) tells whether trying again makes sense.
//!
//! [specification]: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md

mod blob;
mod client;
mod document;
mod error;
mod link;
mod listing;
mod manifest;
mod sending;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
mod upload;

pub use blob::BlobStream;
pub use client::Client;
pub use document::Manifest;
pub(crate) use document::{ImageManifest, Index};
pub use error::{DistributionError, RegistryMessage};
pub use upload::{Mount, Upload};
