//! [`Catalog`]: the one thing that a program opens to work with container repositories.
//!
//! [`Catalog::from_env`] reads the [settings] that the command line reads; [`CatalogBuilder`] says what a
//! program chooses by itself. [`Guard`] is what decides, for a program that wants to tell; [`Place`] is where
//! the repositories are.

mod builder;
mod guard;
mod identity;
#[cfg(feature = "push")]
mod images;
mod name;
mod opened;
#[cfg(all(feature = "ecr", feature = "push"))]
mod outside;
mod place;
pub mod settings;
mod source;

pub use builder::CatalogBuilder;
pub use guard::Guard;
pub use identity::Identity;
pub use opened::Catalog;
pub use place::Place;
