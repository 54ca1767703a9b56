//! Suites that use the library through its public API, against real components.
//!
//! They are in the test targets; a package needs a library to have any.
