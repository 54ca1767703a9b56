//! Fakes for the tests, benches and examples of this project: AWS, and a registry behind a faulty link.

pub mod aws;
mod faulty;
mod random;

pub use faulty::FaultyRegistry;
