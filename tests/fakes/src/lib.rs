//! Fakes for the tests, benches and examples of this project: AWS, and a registry behind a faulty link;
//! and the HTTP client that the tests speak to registries with.

pub mod aws;
mod faulty;
mod random;
pub mod registry_client;

pub use faulty::FaultyRegistry;
