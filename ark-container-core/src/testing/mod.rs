//! For tests of programs that use this library (feature `testing`).
//!
//! [`MockRegistryBackend`] stands in for a registry in unit tests; with the feature `local`,
//! `TestRegistry` is a real one, in the process of the test. [`conformance`] checks that a
//! backend keeps the contract of [`RegistryBackend`](crate::RegistryBackend). [`SampleImage`] is a
//! small image to push. With the feature `token`, `TokenIssuer` signs tokens, good ones and forged ones.

pub mod conformance;
mod image;
mod mock;
#[cfg(feature = "local")]
mod registry;
mod sample;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(feature = "token")]
mod signing_key;
#[cfg(feature = "token")]
mod test_token;
#[cfg(feature = "token")]
mod token_issuer;

pub use image::SampleImage;
pub use mock::MockRegistryBackend;
#[cfg(feature = "local")]
pub use registry::TestRegistry;
pub use sample::SampleImageBuilder;
#[cfg(feature = "token")]
pub use signing_key::SigningAlgorithm;
#[cfg(feature = "token")]
pub use test_token::TestToken;
#[cfg(feature = "token")]
pub use token_issuer::TokenIssuer;
