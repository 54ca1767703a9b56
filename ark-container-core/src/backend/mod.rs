//! [`RegistryBackend`]: the trait that every kind of registry implements.

#[cfg(feature = "ecr")]
pub mod ecr;
mod extension;
mod forward;
mod layer;
#[cfg(feature = "local")]
pub mod local;
mod observed;
mod types;

use std::any::Any;
use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::credentials::{CredentialsOptions, RegistryCredentials};
use crate::error::Result;
use crate::identity::Principal;
use crate::model::{Digest, Organizations, Reference, RegistryHost, RepositoryPath, Scope, Stage};

pub use crate::model::Platform;
pub use extension::RegistryBackendExt;
pub use layer::{BackendLayer, Layered};
pub use observed::Observed;
pub use types::{
    CreateOptions, DeleteOptions, Encryption, Image, ImageState, Repository, TagMutability,
};

/// The operations on the repositories of one registry: list, create, describe, delete, and log in.
///
/// The trait is object-safe. No method has a default body, so that a wrapper without one of the methods
/// does not compile. [`RegistryBackendExt`] has methods that are built from these. A listing is a stream
/// that owns its data: it remains valid when the backend is dropped, and sends no request after it is
/// dropped itself. `Display` shows the registry location, such as `local:/srv/registry`.
///
/// Every path must have the backend's own [`stage`](Self::stage). A path of another stage fails with
/// [`Error::InvalidInput`](crate::Error::InvalidInput). Every method may fail with
/// [`Error::Unauthenticated`](crate::Error::Unauthenticated),
/// [`Error::PermissionDenied`](crate::Error::PermissionDenied),
/// [`Error::Temporary`](crate::Error::Temporary) and [`Error::Failed`](crate::Error::Failed). Each method
/// documents its further variants.
///
/// ```
/// use ark_container_core::RegistryBackend;
/// use ark_container_core::model::{Organizations, RepositoryPath};
/// use futures_util::TryStreamExt;
///
/// async fn names(backend: &dyn RegistryBackend) -> ark_container_core::Result<Vec<RepositoryPath>> {
///     let repositories = backend.list_repositories(&Organizations::All);
///     repositories.map_ok(|repository| repository.url.path().clone()).try_collect().await
/// }
/// ```
#[async_trait]
pub trait RegistryBackend: Any + Debug + Display + Send + Sync {
    /// Returns the host that clients push to and pull from.
    fn host(&self) -> RegistryHost;

    /// Returns the stage: the first segment of every repository path of this backend.
    fn stage(&self) -> Stage;

    /// Returns this backend with `principal` as the caller that its registry records, or `None` if the
    /// registry keeps no record of its callers.
    ///
    /// # Behavior
    /// - The returned backend shares all state with this one except the caller's: AWS ECR names the
    ///   principal in resource tags, in sessions and in the login cache.
    /// - The method does not authorize: [`Permissioned`](crate::permission::Permissioned) authorizes the
    ///   principal first, then makes each call through the returned backend.
    /// - A wrapper wraps the backend that its inner backend returns. A wrapper that authorizes by itself
    ///   returns `None`, since its callers are not those of its inner backend.
    fn acting_as(&self, principal: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>>;

    /// Lists the repositories of `organizations`.
    ///
    /// # Behavior
    /// - Each repository that exists throughout the listing is listed exactly once. A repository that is
    ///   created or deleted meanwhile may or may not be listed. After an error the stream ends.
    /// - An organization without repositories is not an error.
    /// - Each backend has its own order. `local` sorts by organization, then by name, bytewise.
    /// - Memory use is bounded by the size of a page, not of the registry.
    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>>;

    /// Creates a repository, or returns an existing one with the same settings.
    ///
    /// # Behavior
    /// - Idempotent: the same request again succeeds with the same result.
    /// - After the return, every process can describe, list and push to the repository.
    /// - Two concurrent requests with the same settings both succeed.
    /// - The backend may add resource tags of its own, whose keys start with `ark:`.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if the repository exists with another tag mutability or
    /// other exclusions, without a requested resource tag, or with another encryption or lifecycle policy
    /// than the requested one;
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if the registry does not support an option,
    /// such as encryption.
    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository>;

    /// Describes a repository, with its resource tags.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the repository does not exist.
    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository>;

    /// Deletes a repository, and with [`DeleteOptions::force`] also its images.
    ///
    /// # Behavior
    /// - Atomic: a repository is never left with some of its images.
    /// - Repositories below its name, such as `a/b` below `a`, remain.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the repository does not exist;
    /// [`Error::Conflict`](crate::Error::Conflict) if it has images and `force` is off.
    async fn delete_repository(&self, path: &RepositoryPath, options: &DeleteOptions)
    -> Result<()>;

    /// Lists the images of a repository, tagged or untagged, one per manifest.
    ///
    /// # Behavior
    /// - Each image that exists throughout the listing is listed exactly once, with all its tags.
    /// - [`Image`] documents which of its fields may be empty in a listing.
    /// - Each backend has its own order. `local` lists the newest image first.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) as the first item of the stream if the repository does
    /// not exist. After an error the stream ends.
    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>>;

    /// Describes the image that a tag or digest names, without listing its repository.
    ///
    /// # Behavior
    /// - The image has all its tags, its children, its subject and its artifact type.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the repository or the image does not exist, or if the
    /// image is [archived](ImageState::Archived): the source of the error then says how to restore it.
    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image>;

    /// Deletes an image and all its tags by digest, or deletes a tag and, with the last tag, its image.
    ///
    /// Returns the digest of the image for the [audit](crate::permission::audit), or `None` if the
    /// registry does not return it.
    ///
    /// # Behavior
    /// - An image that an index refers to keeps its manifest when its last tag is deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the repository or the image does not exist;
    /// [`Error::Conflict`](crate::Error::Conflict) if `reference` is a digest and an index refers to the
    /// image.
    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>>;

    /// Returns credentials for `scope`, restricted to it if the backend can narrow credentials.
    ///
    /// # Behavior
    /// - A scope may name a repository that does not exist yet.
    /// - [`RegistryCredentials::narrowing`] says whether the registry restricts the credentials to the
    ///   scope. With [`require_scoped`](CredentialsOptions::require_scoped) it always does.
    /// - New credentials have the requested [lifetime](CredentialsOptions::lifetime), or else the
    ///   backend's configured or default lifetime.
    /// - New and cached credentials are valid for at least
    ///   [`min_remaining`](CredentialsOptions::min_remaining).
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if the scope names no organization, or if the
    /// backend does not support an option: it never returns credentials with another lifetime, an earlier
    /// expiry or a wider scope than requested.
    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials>;
}
