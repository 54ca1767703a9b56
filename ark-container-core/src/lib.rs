//! A team's container repositories: list, create, log in, upload.
//!
//! Each organization owns repositories at `<registry host>/<stage>/<organization>/<name>`. A
//! [`RegistryBackend`] lists and creates them and gives out [credentials] that reach no further than
//! asked; [`Permissioned`](permission::Permissioned) guards any backend with the rules of
//! organizations; [`transfer`] uploads images.
//!
//! A [`Catalog`] is the one thing that a program opens. It works with the registry that the command line
//! would use here, a folder of this machine where nothing is set, and asks the rules first:
//!
//! ```no_run
//! # async fn example() -> ark_container_core::Result<()> {
//! let catalog = ark_container_core::Catalog::from_env().await?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! # #[cfg(all(feature = "local", feature = "push", feature = "testing"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use ark_container_core::testing::{SampleImage, TestRegistry};
//! # let folder = tempfile::tempdir()?;
//! # SampleImage::new("hello").write_oci_layout(folder.path(), None)?;
//! # let source = &format!("oci:{}", folder.path().display());
//! # let registry = TestRegistry::start()?;
//! # let catalog = registry.catalog();
//! use ark_container_core::model::{Access, OrganizationId};
//! use futures_util::TryStreamExt;
//!
//! // Create: names are of the organization that was chosen. One that exists is no error.
//! let ours = catalog.in_organization(OrganizationId::TBD);
//! let repository = ours.create("catalog/extract-video").await?;
//!
//! // List: a stream, never a whole account in memory.
//! let mut repositories = catalog.list();
//! while let Some(repository) = repositories.try_next().await? {
//!     println!("{}", repository.url);
//! }
//!
//! // Push: from docker, podman, an archive or a folder, as `docker-daemon:my-image`.
//! let pushed = ours.push("catalog/extract-video:v1", source).await?;
//! println!("{} bytes were sent", pushed.bytes_sent);
//!
//! // Resolve: what the tag stands for now, and how to go on naming it.
//! let image = ours.resolve("catalog/extract-video:v1").await?;
//! println!("{} is for {:?}, {} bytes", image.url, image.platforms, image.size);
//!
//! // Credentials: they reach this repository, for pulling, and nothing else.
//! let credentials = ours.credentials("catalog/extract-video", Access::Pull).await?;
//! println!("log in to {} until {:?}", credentials.host, credentials.expires_at);
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "local", feature = "push", feature = "testing")))]
//! # fn main() {}
//! ```
//!
//! The [guide] has a page on concepts, quick start, choosing a backend, permissions, testing your code,
//! errors and retries, observability, and security.
//!
//! | to | look at |
//! |---|---|
//! | open a registry, from settings or a builder | [`Catalog`], [`catalog`] |
//! | name things | [`model`]: organizations, repositories, references, scopes |
//! | know what a backend promises | [`RegistryBackend`], and [`RegistryBackendExt`] for conveniences |
//! | work on one machine, without a cloud account | [`backend::local`] and its registry |
//! | work in AWS ECR | [`backend::ecr`] |
//! | know who asks, and whether they may | [`identity`], [`permission`] |
//! | verify the tokens of an identity provider | `identity::token` |
//! | upload an image | [`transfer::Push`] |
//! | inspect, tag or prune images | [`Catalog::inspect`], [`Catalog::tag`], [`Catalog::prune`] |
//! | fetch an image, or copy it to another repository | [`transfer::Pull`], [`transfer::Copy`] |
//! | talk to a registry directly | [`distribution::Client`] |
//! | test what uses this library | [`testing`]: a mock, a registry in the test, sample images |
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

#[cfg(feature = "ecr")]
mod aws_environment;
pub mod backend;
pub mod catalog;
#[cfg(feature = "push")]
mod connection;
pub mod credentials;
#[cfg(any(feature = "ecr", feature = "local", feature = "push"))]
mod digester;
#[cfg(feature = "push")]
pub mod distribution;
mod encoding;
mod error;
mod escape;
mod files;
#[cfg(feature = "_fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(feature = "ecr", feature = "local", feature = "push", feature = "testing"))]
pub mod guide;
pub mod identity;
pub mod model;
pub mod observability;
pub mod permission;
#[cfg(any(feature = "ecr", feature = "push"))]
mod private_folder;
#[cfg(any(feature = "ecr", feature = "push"))]
mod secrets;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "push")]
pub mod transfer;

pub use backend::{RegistryBackend, RegistryBackendExt};
pub use catalog::Catalog;
pub use encoding::decode;
pub use error::{BoxError, Error, ErrorKind, InvalidSetting, ResourceKind, Result};
pub use escape::{escape_untrusted, quote_for_shell};
pub use files::{OutputFile, create_trusted_folder, open_to_append};
