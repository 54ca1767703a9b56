//! For tests of programs that use this library (feature `testing`).
//!
//! [`MockRegistryBackend`] stands in for a registry in unit tests; with the feature `local`,
//! `TestRegistry` is a real one, in the process of the test. [`conformance`] checks that a
//! backend keeps the contract of [`RegistryBackend`](crate::RegistryBackend). [`SampleImage`] is a
//! small image to push. With the feature `token`, `TokenIssuer` signs tokens, good ones and forged ones.

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
