//! Container repositories of organizations: list, create, log in, push, pull.
//!
//! Each organization owns repositories at `<registry host>/<stage>/<organization>/<name>`. A
//! [`RegistryBackend`] lists and creates repositories, and issues [credentials] that are limited to the
//! requested scope. [`Permissioned`](permission::Permissioned) enforces the rules of organizations on any
//! backend. [`transfer`] pushes, pulls and copies images.
//!
//! A [`Catalog`] is the entry point of a program. [`Catalog::from_env`] opens the same registry as the
//! command line; the default is a folder of this machine. Every call is checked against the rules first:
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
//! // Create: the name belongs to the organization of the catalog. An existing repository is no error.
//! let ours = catalog.in_organization(OrganizationId::TBD);
//! let repository = ours.create("catalog/extract-video").await?;
//!
//! // List: a stream, so that a large account does not need much memory.
//! let mut repositories = catalog.list();
//! while let Some(repository) = repositories.try_next().await? {
//!     println!("{}", repository.url);
//! }
//!
//! // Push: from docker, podman, an archive or a folder, as `docker-daemon:my-image`.
//! let pushed = ours.push("catalog/extract-video:v1", source).await?;
//! println!("{} bytes were sent", pushed.bytes_sent);
//!
//! // Resolve: the current digest of the tag. `image.url` refers to the image by digest.
//! let image = ours.resolve("catalog/extract-video:v1").await?;
//! println!("{} is for {:?}, {} bytes", image.url, image.platforms, image.size);
//!
//! // Credentials: limited to pulling from this repository.
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
//! | task | see |
//! |---|---|
//! | open a registry, from settings or a builder | [`Catalog`], [`catalog`] |
//! | name organizations, repositories, images and scopes | [`model`] |
//! | implement or call a backend | [`RegistryBackend`], and [`RegistryBackendExt`] for shortcuts |
//! | work on one machine, without a cloud account | [`backend::local`] and its registry |
//! | work in AWS ECR | [`backend::ecr`] |
//! | identify and authorize the caller | [`identity`], [`permission`] |
//! | verify the tokens of an identity provider | `identity::token` |
//! | push an image | [`transfer::Push`] |
//! | inspect, tag or prune images | [`Catalog::inspect`], [`Catalog::tag`], [`Catalog::prune`] |
//! | pull an image, or copy it to another repository | [`transfer::Pull`], [`transfer::Copy`] |
//! | use the registry API directly | [`distribution::Client`] |
//! | test a program that uses this library | [`testing`]: a mock, a registry in the test, sample images |
//! | monitor it with spans, counters and durations | [`observability`] |
//! | handle errors | [`Error`], whose variant tells what the caller can do |
//!
//! The library prints nothing. Results are in return values, and events go to [`tracing`].
//!
//! # Features
//!
//! | feature | default | content |
//! |---|---|---|
//! | `ecr` | on | repositories in AWS ECR; includes `token` |
//! | `local` | on | repositories in a folder, and the registry that serves them |
//! | `push` | on | pushes, pulls and copies, and the client of the OCI distribution API |
//! | `token` | on | principals from JSON Web Tokens |
//! | `testing` | off | test doubles and test data for programs that use the library |

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
