//! Fakes for the tests, benches and examples of this project: AWS, a registry behind a faulty link, and an HTTP
//! client of registries.

pub mod aws;
mod faulty;
mod random;
pub mod registry_client;

pub use faulty::FaultyRegistry;
