//! Repositories in a folder, and the registry that serves them.

mod address;
mod backend;
#[cfg(feature = "_fuzzing")]
pub mod fuzzing;
mod random;
mod registry;
mod serve_while;
mod store;
mod token;

pub use backend::LocalBackend;
pub use registry::Registry;
#[cfg(all(feature = "testing", feature = "ecr"))]
pub(crate) use registry::{Authorize, EcrHabits, Operation, Permit};
#[cfg(all(feature = "testing", feature = "ecr"))]
pub(crate) use token::TokenError;
