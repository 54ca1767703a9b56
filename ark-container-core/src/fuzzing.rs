//! Private parsers for the fuzz targets in `tests/fuzz` (feature `_fuzzing`).
//!
//! The parsers are those of the library and are documented there.

pub use crate::backend::local::fuzzing as registry;
pub use crate::distribution::fuzzing as client;
