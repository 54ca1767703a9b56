//! Parsers that are private, for the fuzz targets in `tests/fuzz` (feature `_fuzzing`).
//!
//! They are as the rest of the library has them; what holds of them is said there.

pub use crate::backend::local::fuzzing as registry;
pub use crate::distribution::fuzzing as client;
