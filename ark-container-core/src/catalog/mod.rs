//! [`Catalog`]: the one thing that a program opens to work with container repositories.
//!
//! [`Catalog::from_env`] reads the settings that the command line reads; [`CatalogBuilder`] says what a
//! program chooses by itself. [`Settings`] tells what holds; [`WhoAmI`]
//! tells who asks, and why it is they.

mod builder;
mod catalog;
mod identity;
#[cfg(feature = "push")]
mod images;
mod name;
#[cfg(all(feature = "ecr", feature = "push"))]
mod outside;
mod registry;
mod report;
mod settings;

pub use builder::CatalogBuilder;
pub use catalog::{Catalog, CreateIfMissing};
pub use identity::ChosenIdentity;
pub use report::{AwsReport, CredentialsReach, IdentityReport, Membership, Resource, WhoAmI};
pub use settings::{Origin, Settings};
