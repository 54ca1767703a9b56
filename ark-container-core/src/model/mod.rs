//! The words of the project as types: organization, repository, reference, digest, scope.
//!
//! Everything here is plain data. Parsing and printing are inverse, and nothing in this module knows
//! of AWS, HTTP or files.

mod digest;
mod location;
mod organization;
mod organizations;
mod parse;
mod reference;
mod repository;
mod scope;

pub use digest::{Algorithm, Digest};
pub use location::{RegistryHost, RegistryLocation};
pub use organization::OrganizationId;
pub use organizations::Organizations;
pub use parse::ParseError;
pub(crate) use parse::serde_as_text;
pub use reference::{Reference, Tag};
pub use repository::{ImageUrl, RepositoryName, RepositoryPath, RepositoryUrl, Stage};
pub use scope::{Access, Scope, ScopeTarget};
