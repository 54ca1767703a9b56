//! Test doubles and test data for programs that use this library (feature `testing`).
//!
//! - [`MockRegistryBackend`] is a mock for unit tests.
//! - `TestRegistry` (feature `local`) is a real registry inside the test process.
//! - [`conformance`] is a test suite for the contract of [`RegistryBackend`](crate::RegistryBackend).
//! - [`SampleImage`] is a small image to push.
//! - `TokenIssuer` (feature `token`) signs valid and forged tokens.

pub mod conformance;
mod mock;
#[cfg(feature = "local")]
mod registry;
mod sample_image;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(feature = "token")]
mod token_issuer;

pub use mock::{MockRegistryBackend, ready};
#[cfg(feature = "local")]
pub use registry::TestRegistry;
pub use sample_image::{SampleImage, SampleImageBuilder};
pub use serde_json::Value;
#[cfg(feature = "token")]
pub use token_issuer::{SigningAlgorithm, TestToken, TokenIssuer};
