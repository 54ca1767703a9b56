//! [`Catalog`]: the one thing that a program opens to work with container repositories.

mod builder;
#[cfg(feature = "push")]
mod images;
mod name;
mod opened;
mod place;

pub use builder::CatalogBuilder;
pub use opened::Catalog;
pub use place::Place;
