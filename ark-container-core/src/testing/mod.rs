//! For tests of programs that use this library (feature `testing`).
//!
//! [`MockRegistryBackend`] stands in for a registry in unit tests. [`conformance`] checks that a
//! backend keeps the contract of [`RegistryBackend`](crate::RegistryBackend). [`SampleImage`] is a
//! small image to push. With the features `ecr` and `local`, `aws` has a fake of AWS.

#[cfg(all(feature = "ecr", feature = "local"))]
pub mod aws;
pub mod conformance;
mod image;
mod mock;
mod sample;
#[cfg(test)]
pub(crate) mod scripted;

pub use image::SampleImage;
pub use mock::MockRegistryBackend;
pub use sample::SampleImageBuilder;
