//! A team's container repositories: list, create, log in, upload.

pub mod backend;
pub mod credentials;
mod error;
pub mod identity;
pub mod model;

pub use backend::{RegistryBackend, RegistryBackendExt};
pub use error::{BoxError, Error, ResourceKind, Result};
