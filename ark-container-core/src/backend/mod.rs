//! [`RegistryBackend`]: the contract that every kind of registry keeps.

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

/// The repositories of one registry: listed, created, described, deleted, and opened for clients.
///
/// The trait is object-safe, and no method has a default body, so that a wrapper which forgets one
/// does not compile. What can be built from these methods is in [`RegistryBackendExt`]. Listings are
/// streams which own what they need: they live on when the backend is dropped, and dropping one early
/// costs nothing more. `Display` says where the registry is, such as `local:/srv/registry`.
///
/// Every path that a backend is given must be of its own [`stage`](Self::stage); for another it
/// answers [`Error::InvalidInput`](crate::Error::InvalidInput). Every method may fail with
/// [`Error::Unauthenticated`](crate::Error::Unauthenticated),
/// [`Error::PermissionDenied`](crate::Error::PermissionDenied),
/// [`Error::Temporary`](crate::Error::Temporary) and [`Error::Failed`](crate::Error::Failed), where the
/// backend itself authenticates, decides, or depends on something that fails; further variants are
/// named at each method.
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
    /// The host that clients push to and pull from.
    fn host(&self) -> RegistryHost;

    /// The first part of every repository's path here.
    fn stage(&self) -> Stage;

    /// Returns this backend with `principal` as the caller that its registry records, or `None` if the
    /// registry keeps no record of its callers.
    ///
    /// # Behavior
    /// - The returned backend shares everything with this one but what belongs to a caller: AWS ECR names
    ///   the principal in resource tags, in sessions and in the cache of logins.
    /// - The call decides nothing: [`Permissioned`](crate::permission::Permissioned) authorizes the
    ///   principal first, then makes each call through the returned backend.
    /// - A wrapper returns itself around what the backend inside returns. A wrapper that authorizes by
    ///   itself returns `None`, since its callers are not the ones of its backend.
    fn acting_as(&self, principal: &Arc<Principal>) -> Option<Arc<dyn RegistryBackend>>;

    /// The repositories of `organizations`.
    ///
    /// # Behavior
    /// - Each repository that exists throughout the listing comes exactly once; one that is created or
    ///   deleted meanwhile may or may not come. After an error the stream ends.
    /// - An organization without repositories adds nothing; it is no error.
    /// - The order is the backend's. `local` gives organizations, then names, in the order of their bytes.
    /// - Memory is bounded by a page, not by the registry.
    fn list_repositories(
        &self,
        organizations: &Organizations,
    ) -> BoxStream<'static, Result<Repository>>;

    /// Creates a repository; one that exists with the same settings is returned as it is.
    ///
    /// # Behavior
    /// - Idempotent: the same request again succeeds with the same answer.
    /// - When it returns, the repository can be described, listed and pushed to by every process.
    /// - Two at once with the same settings both succeed.
    /// - The backend may add resource tags of its own, whose keys start with `ark:`.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if it exists with another tag mutability or other
    /// exceptions to it, without a resource tag that was asked for, or with another encryption or
    /// lifecycle policy than was asked for;
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if the registry does not have what is asked
    /// for, such as encryption.
    async fn create_repository(
        &self,
        path: &RepositoryPath,
        options: &CreateOptions,
    ) -> Result<Repository>;

    /// One repository, with its resource tags.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is none.
    async fn describe_repository(&self, path: &RepositoryPath) -> Result<Repository>;

    /// Deletes a repository, and its images where [`DeleteOptions::force`] says so.
    ///
    /// # Behavior
    /// - Whole or not at all: a repository is never left with some of its images.
    /// - Repositories whose names continue this one's (`a/b` for `a`) are untouched.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is none;
    /// [`Error::Conflict`](crate::Error::Conflict) if it has images and `force` is off.
    async fn delete_repository(&self, path: &RepositoryPath, options: &DeleteOptions)
    -> Result<()>;

    /// Lists the images of a repository, tagged or not, one per manifest.
    ///
    /// # Behavior
    /// - Each image that exists throughout the listing comes exactly once, with all its tags.
    /// - [`Image`] says which of its fields may be empty in a listing.
    /// - The order is the backend's. `local` gives the newest first.
    ///
    /// # Errors
    /// The stream's first item is [`Error::NotFound`](crate::Error::NotFound) if the repository does
    /// not exist. After an error the stream ends.
    fn list_images(&self, path: &RepositoryPath) -> BoxStream<'static, Result<Image>>;

    /// Describes the image that a tag or digest names, without listing its repository.
    ///
    /// # Behavior
    /// - The image has all its tags, its children, its subject and its artifact type.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the repository or the image does not exist. An image
    /// that is [archived](ImageState::Archived) is such an error too, whose source says how to restore it.
    async fn describe_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image>;

    /// Deletes an image by digest, with all its tags; or a tag, and the image with its last tag. Returns
    /// the digest of the image that had the tag, for the [audit](crate::permission::audit); `None` if the
    /// registry does not tell it.
    ///
    /// # Behavior
    /// - An image that an index still refers to keeps its manifest when it loses its last tag.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if the repository or the image does not exist;
    /// [`Error::Conflict`](crate::Error::Conflict) if it is named by digest and an index refers to it.
    async fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Option<Digest>>;

    /// Returns credentials for `scope`, limited to it where the backend can narrow credentials.
    ///
    /// # Behavior
    /// - A scope may name a repository that does not exist yet.
    /// - [`RegistryCredentials::narrowing`] says whether the registry restricts the credentials to the
    ///   scope. With [`require_scoped`](CredentialsOptions::require_scoped) it always does.
    /// - New credentials have the [lifetime](CredentialsOptions::lifetime) that was asked for. Without
    ///   one they have the backend's configured or own lifetime.
    /// - New and cached credentials are valid for at least
    ///   [`min_remaining`](CredentialsOptions::min_remaining).
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if the scope names no organization, or if the
    /// backend cannot keep an option: it never returns credentials with another lifetime, less time
    /// left or a wider scope than was asked for.
    async fn credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials>;
}
