//! The data types of the project: organizations, repositories, references, digests, scopes and actions.
//!
//! All types are plain data. Parsing and printing are inverse. No function of this module calls AWS, uses
//! HTTP or accesses files.

mod access;
mod aws;
mod descriptor;
mod image_reference;
mod location;
#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
mod manifest_content;
#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
mod manifest_keys;
pub mod media_type;
mod organization;
mod parse;
mod platform;
mod reference;
mod repository;

pub(crate) use access::Effect;
pub use access::{Access, Action, Decision, Scope, ScopeTarget};
pub use aws::{AdditionalAction, EcrHost, RoleArn};
pub(crate) use descriptor::REFERRERS_TAG_DIGITS;
pub use descriptor::{Algorithm, Descriptor, Digest};
pub use image_reference::ImageReference;
#[cfg(any(feature = "push", feature = "token"))]
pub(crate) use location::is_loopback;
#[cfg(feature = "ecr")]
pub(crate) use location::split_port;
pub use location::{RegistryHost, RegistryLocation};
#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
pub(crate) use manifest_content::ManifestContent;
#[cfg(feature = "_fuzzing")]
pub(crate) use manifest_content::fuzzing;
#[cfg(feature = "push")]
pub(crate) use manifest_content::{ImageManifest, Index};
pub use organization::{OrganizationId, Organizations};
pub use parse::ParseError;
pub(crate) use parse::{matches_wildcards, serde_as_text, user_info};
pub use platform::Platform;
pub use reference::{Reference, Tag, TagPattern};
pub use repository::{ImageName, ImageUrl, RepositoryName, RepositoryPath, RepositoryUrl, Stage};
