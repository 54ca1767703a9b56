//! The ECR backend on the fake of AWS and on the emulators moto and ministack.

mod accounts;
mod conformance;
pub(crate) mod emulator;
mod iam;
mod web_identity;

pub(crate) use ark_container_fakes::aws::cloud;
