//! A client of the OCI distribution API: blobs, manifests and tags of one repository over HTTP.
//!
//! The client follows the [specification] and supports the deviations of real registries. Temporary errors are
//! retried as configured in [`Retry`], except for uploads, whose content only the caller can restart.
//!
//! [specification]: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md

mod blob;
mod client;
mod error;
#[cfg(feature = "_fuzzing")]
pub mod fuzzing;
mod login;
mod manifest;
mod referrers;
mod response;
mod retry;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
mod upload;
mod upload_body;

pub use blob::{BlobRest, BlobStream};
pub use client::Client;
pub use error::{DistributionError, RegistryMessage};
pub use login::Authenticate;
pub use manifest::Manifest;
pub(crate) use manifest::{ManifestBounds, images_for, platform_names};
#[cfg(feature = "ecr")]
pub(crate) use response::fetch_presigned;
pub use retry::Retry;
pub(crate) use retry::Tries;
pub use tokio_util::bytes::Bytes;
pub use upload::{Mount, Upload};
