//! The words of the project as types: organization, repository, reference, digest, scope, action.
//!
//! Everything here is plain data. Parsing and printing are inverse, and nothing in this module calls
//! AWS, speaks HTTP or touches files.

mod access;
mod aws;
mod descriptor;
mod image_reference;
mod location;
pub mod media_type;
mod organization;
mod parse;
mod platform;
mod reference;
mod repository;

pub(crate) use access::Effect;
pub use access::{Access, Action, Decision, Scope, ScopeTarget};
pub use aws::{EcrHost, RoleArn};
pub use descriptor::{Algorithm, Descriptor, Digest};
pub use image_reference::ImageReference;
pub use location::{RegistryHost, RegistryLocation};
pub use organization::{OrganizationId, Organizations};
pub use parse::ParseError;
pub(crate) use parse::{matches_wildcards, serde_as_text};
pub use platform::Platform;
pub use reference::{Reference, Tag, TagPattern};
pub use repository::{ImageName, ImageUrl, RepositoryName, RepositoryPath, RepositoryUrl, Stage};
