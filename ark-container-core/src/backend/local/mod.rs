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
#[cfg(feature = "testing")]
pub(crate) use registry::Faults;
pub use registry::Registry;
#[cfg(feature = "_ecr_emulation")]
#[doc(hidden)]
pub use registry::ecr_emulation;
