//! Image operations of a catalog: push, pull, copy and tag.

use std::sync::Arc;

use serde::Serialize;

use super::Catalog;
#[cfg(feature = "local")]
use super::registry::OpenRegistry;
use crate::backend::RegistryBackendExt as _;
use crate::connection::Connection;
use crate::distribution::Client;
use crate::error::{Error, Result};
use crate::model::{Access, ImageUrl, Reference, RepositoryPath, Scope, Tag};
use crate::transfer::{Copy, ImageSource, ImageTarget, Pull, Pulled, Push, Pushed};

/// An image is written as the name, path or URL of its repository, with `:<tag>` or `@<digest>`. The default tag is
/// `latest`. A local registry needs no running server: during a transfer it is served on a free port.
///
/// Pushes, pulls and copies are futures that own their data, so they can be spawned as tasks.
impl Catalog {
    /// Uploads an image, and sets its tag at the end.
    ///
    /// The source is `docker-daemon:REF`, `podman:REF`, `docker-archive:FILE[:REF]`, `oci:DIR[:REF]`,
    /// `oci-archive:FILE[:REF]` or `-`; see [`ImageSource`]. [`Push`] documents the guarantees.
    ///
    /// # Errors
    /// See [`Push`] and [`prepare_push`](Self::prepare_push).
    pub async fn push(&self, image: &str, source: &str) -> Result<Pushed> {
        self.prepare_push(image, source)?.await
    }

    /// Prepares a push, to set platforms, compression or other options before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name or the source is invalid, or if the name has
    /// a digest or belongs to no organization.
    pub fn prepare_push(&self, image: &str, source: &str) -> Result<Push> {
        let source: ImageSource = source.parse()?;
        let (path, tag) = self.target(image)?;
        let push = Push::new(Arc::new(self.backend.clone()), &path, source).with_tag(tag);
        Ok(push.with_connection(self.connection()))
    }

    /// Downloads an image to this machine, with all its platforms. The image is in a repository, or in
    /// another registry as `docker://HOST/REPOSITORY[:TAG|@DIGEST]`.
    ///
    /// The target is `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`,
    /// `docker-daemon:NAME`, `podman:NAME` or `-`; see [`ImageTarget`].
    ///
    /// # Errors
    /// See [`Pull`] and [`prepare_pull`](Self::prepare_pull).
    pub async fn pull(&self, image: &str, target: &str) -> Result<Pulled> {
        self.prepare_pull(image, target)?.await
    }

    /// Prepares a pull, to set a platform or other options before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid or belongs to no organization.
    pub fn prepare_pull(&self, image: &str, target: &str) -> Result<Pull> {
        let target: ImageTarget = target.parse()?;
        let backend = Arc::new(self.backend.clone());
        let pull = Pull::of(backend, self.named(image)?.into(), target);
        Ok(pull.with_connection(self.connection()))
    }

    /// Copies an image to a repository, with all its platforms. The image is in this registry, or in
    /// another registry as `docker://HOST/REPOSITORY[:TAG|@DIGEST]`.
    ///
    /// # Errors
    /// See [`Copy`](struct@Copy) and [`prepare_copy`](Self::prepare_copy).
    pub async fn copy(&self, from: &str, to: &str) -> Result<Pushed> {
        self.prepare_copy(from, to)?.await
    }

    /// Prepares a copy, to set a platform or other options before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if a name is invalid or belongs to no organization, or
    /// if the name of the copy has a digest.
    pub fn prepare_copy(&self, from: &str, to: &str) -> Result<Copy> {
        let (to, tag) = self.target(to)?;
        let backend = Arc::new(self.backend.clone());
        let copy = Copy::of(backend, self.named(from)?.into(), &to).with_tag(tag);
        Ok(copy.with_connection(self.connection()))
    }

    /// Opens a client of the OCI distribution API for one repository. The client renews its credentials for
    /// `access` automatically. A local registry is served as long as the client exists.
    ///
    /// # Errors
    /// See [`credentials`](Self::credentials).
    pub async fn client(&self, name: &str, access: Access) -> Result<Client> {
        let path = self.path(name)?;
        let scope = Scope::repository(path.clone(), access);
        self.connection().client(&path, &scope).await
    }

    pub(super) fn connection(&self) -> Connection {
        let connection = Connection::audited(&self.backend);
        match &self.shared.registry {
            #[cfg(feature = "local")]
            Some(OpenRegistry::Local(local)) => connection.with_local(local),
            _ => connection,
        }
    }

    /// Returns the repository and tag of the target of a push or copy.
    fn target(&self, image: &str) -> Result<(RepositoryPath, Tag)> {
        match self.image(image)? {
            (path, Reference::Tag(tag)) => Ok((path, tag)),
            (_, Reference::Digest(_)) => {
                Err(Error::invalid(format!("{image}: the target must have a tag, not a digest")))
            }
        }
    }

    /// Adds a tag to an image. No blob is copied, and the image keeps its other tags.
    ///
    /// # Errors
    /// - [`Error::Parse`] or [`Error::InvalidInput`] if the name or the tag is invalid, or if the name
    ///   belongs to no organization
    /// - [`Error::NotFound`] if the image does not exist
    /// - [`Error::Conflict`] if the tag is immutable and belongs to another image
    pub async fn tag(&self, image: &str, tag: &str) -> Result<Tagged> {
        let (path, reference) = self.image(image)?;
        let tag: Tag = tag.parse()?;
        let connection = self.connection();
        let put = connection.clone().serve_while(async |connection| {
            let scope = Scope::repository(path.clone(), Access::Push);
            let client = connection.client(&path, &scope).await?;
            let manifest = connection.fetch_image(&client, &path, &reference).await?;
            client.put_manifest(&tag.clone().into(), &manifest).await?;
            Ok(manifest)
        });
        let source = format!("{path}{}{reference}", reference.separator());
        let put = connection.record_push(&path, Some(&tag), Some(source), put, |put| &put.digest);
        let url = self.backend.repository_url(&path).image(Reference::Digest(put.await?.digest));
        Ok(Tagged { url, tag })
    }
}

/// The result of [`Catalog::tag`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tagged {
    /// The URL of the image, by digest.
    pub url: ImageUrl,
    /// The tag that was added.
    pub tag: Tag,
}
