//! [`Catalog`]: the one thing that a program opens to work with container repositories.

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
