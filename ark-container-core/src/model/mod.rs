//! The words of the project as types: organization, repository, reference, digest, scope, action.
//!
//! Everything here is plain data. Parsing and printing are inverse, and nothing in this module calls
//! AWS, speaks HTTP or touches files.

mod action;
mod descriptor;
mod digest;
mod ecr_host;
mod location;
pub mod media_type;
mod organization;
mod organizations;
mod parse;
mod platform;
mod reference;
mod repository;
mod role_arn;
mod scope;
mod tag_filter;

pub use action::Action;
pub(crate) use action::Effect;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest};
pub use ecr_host::EcrHost;
pub use location::{RegistryHost, RegistryLocation};
pub use organization::OrganizationId;
pub use organizations::Organizations;
pub use parse::ParseError;
pub(crate) use parse::serde_as_text;
pub use platform::Platform;
pub use reference::{Reference, Tag};
pub use repository::{ImageUrl, RepositoryName, RepositoryPath, RepositoryUrl, Stage};
pub use role_arn::RoleArn;
pub use scope::{Access, Scope, ScopeTarget};
pub use tag_filter::TagFilter;
