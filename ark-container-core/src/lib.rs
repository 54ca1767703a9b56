//! A team's container repositories: list, create, log in, upload.
//!
//! Each organization owns repositories at `<registry host>/<stage>/<organization>/<name>`. A
//! [`RegistryBackend`] lists and creates them and gives out [credentials] that reach no further than
//! asked; [`Permissioned`](permission::Permissioned) guards any backend with the rules of
//! organizations; [`push`] uploads images.
//!
//! ```
//! # #[cfg(feature = "local")]
//! # fn main() -> ark_container_core::Result<()> {
//! use ark_container_core::backend::CreateOptions;
//! use ark_container_core::backend::local::LocalBackend;
//! use ark_container_core::model::{Access, OrganizationId, Scope};
//! use ark_container_core::{RegistryBackend, RegistryBackendExt};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path();
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let backend = LocalBackend::open(Some(folder))?;
//! let path = backend.repository_path(OrganizationId::TBD, &"catalog/extract-video".parse()?)?;
//! let repository = backend.create_repository(&path, &CreateOptions::default()).await?;
//! println!("push to {}", repository.url);
//!
//! let credentials = backend.credentials(&Scope::repository(path, Access::Push)).await?;
//! println!("log in to {} until {:?}", credentials.host, credentials.expires_at);
//! # Ok(())
//! # })
//! # }
//! # #[cfg(not(feature = "local"))]
//! # fn main() {}
//! ```
//!
//! | to | look at |
//! |---|---|
//! | name things | [`model`]: organizations, repositories, references, scopes |
//! | know what a backend promises | [`RegistryBackend`], and [`RegistryBackendExt`] for conveniences |
//! | work on one machine, without a cloud account | [`backend::local`] and its registry |
//! | work in AWS ECR | [`backend::ecr`] |
//! | know who asks, and whether they may | [`identity`], [`permission`] |
//! | verify the tokens of an identity provider | `identity::token` |
//! | upload an image | [`push::Push`] |
//! | fetch an image, or copy it to another repository | [`pull::Pull`], [`pull::Copy`] |
//! | talk to a registry directly | [`distribution::Client`] |
//! | test what uses this library | [`testing`]: a mock, sample images, the conformance suite |
//! | watch it work, by spans, counters and durations | [`observability`] |
//! | handle what goes wrong | [`Error`], whose variant says what to do next |
//!
//! Nothing here prints. What happens is told in return values, and through [`tracing`].
//!
//! # Features
//!
//! `ecr` (on): repositories in AWS ECR. `local` (on): repositories in a folder, and the registry that
//! serves them. `push` (on): pushing, pulling and copying images, and the client of the OCI
//! distribution API. `token` (on, and part of `ecr`): principals by JSON Web Tokens. `testing`: for the
//! tests of programs that use the library.

pub mod backend;
pub mod catalog;
#[cfg(feature = "push")]
mod connection;
pub mod credentials;
#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
mod digester;
#[cfg(feature = "push")]
pub mod distribution;
mod error;
pub mod identity;
pub mod model;
pub mod observability;
pub mod permission;
#[cfg(any(feature = "ecr", feature = "push"))]
mod private_folder;
#[cfg(feature = "push")]
pub mod progress;
#[cfg(feature = "push")]
pub mod pull;
#[cfg(feature = "push")]
pub mod push;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{RegistryBackend, RegistryBackendExt};
pub use catalog::Catalog;
pub use error::{BoxError, Error, ResourceKind, Result};
