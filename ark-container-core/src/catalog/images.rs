//! What a catalog does with images.

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

/// Images are named by a repository's name, path or URL, with `:<tag>` or `@<digest>`; the tag is `latest`
/// where neither is given. A folder of this machine needs no server: while images move, it is served on a
/// port of its own.
///
/// Pushes, pulls and copies are awaited. They own what they need, so that a task can be spawned with them.
impl Catalog {
    /// Uploads an image, and puts its tag on it in the end.
    ///
    /// The source is `docker-daemon:REF`, `podman:REF`, `docker-archive:FILE[:REF]`, `oci:DIR[:REF]`,
    /// `oci-archive:FILE[:REF]` or `-`, as [`ImageSource`] reads it. [`Push`] says all that is promised.
    ///
    /// # Errors
    /// Those of [`Push`], and of [`prepare_push`](Self::prepare_push).
    pub async fn push(&self, image: &str, source: &str) -> Result<Pushed> {
        self.prepare_push(image, source)?.await
    }

    /// Prepares a push, to choose platforms, compression and the like before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name or the source is not valid, or if the name
    /// has a digest or lies outside of the organizations.
    pub fn prepare_push(&self, image: &str, source: &str) -> Result<Push> {
        let source: ImageSource = source.parse()?;
        let (path, tag) = self.target(image)?;
        let push = Push::new(Arc::new(self.backend.clone()), &path, source).with_tag(tag);
        Ok(push.with_connection(self.connection()))
    }

    /// Fetches an image to this machine, with all its platforms: from a repository, or from any other registry, as
    /// `docker://HOST/REPOSITORY[:TAG|@DIGEST]`.
    ///
    /// The target is `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`,
    /// `docker-daemon:NAME`, `podman:NAME` or `-`, as [`ImageTarget`] reads it.
    ///
    /// # Errors
    /// Those of [`Pull`], and of [`prepare_pull`](Self::prepare_pull).
    pub async fn pull(&self, image: &str, target: &str) -> Result<Pulled> {
        self.prepare_pull(image, target)?.await
    }

    /// Prepares a pull, to choose a platform and the like before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name is not valid, or lies outside of the
    /// organizations.
    pub fn prepare_pull(&self, image: &str, target: &str) -> Result<Pull> {
        let target: ImageTarget = target.parse()?;
        let backend = Arc::new(self.backend.clone());
        let pull = Pull::of(backend, self.named(image)?.into(), target);
        Ok(pull.with_connection(self.connection()))
    }

    /// Copies an image to a repository, with all its platforms: from another repository of this registry, from
    /// another tag, or from any other registry, as `docker://HOST/REPOSITORY[:TAG|@DIGEST]`.
    ///
    /// # Errors
    /// Those of [`Copy`](struct@Copy), and of [`prepare_copy`](Self::prepare_copy).
    pub async fn copy(&self, from: &str, to: &str) -> Result<Pushed> {
        self.prepare_copy(from, to)?.await
    }

    /// Prepares a copy, to choose a platform and the like before it is awaited.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if a name is not valid or lies outside of the
    /// organizations, or if the name of the copy has a digest.
    pub fn prepare_copy(&self, from: &str, to: &str) -> Result<Copy> {
        let (to, tag) = self.target(to)?;
        let backend = Arc::new(self.backend.clone());
        let copy = Copy::of(backend, self.named(from)?.into(), &to).with_tag(tag);
        Ok(copy.with_connection(self.connection()))
    }

    /// Opens a client of one repository for the OCI distribution API, with credentials for `access` that it
    /// renews by itself. A folder of this machine is served for as long as the client exists.
    ///
    /// # Errors
    /// Those of [`credentials`](Self::credentials).
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

    /// The repository and the tag of an image that is yet to be.
    fn target(&self, image: &str) -> Result<(RepositoryPath, Tag)> {
        match self.image(image)? {
            (path, Reference::Tag(tag)) => Ok((path, tag)),
            (_, Reference::Digest(_)) => Err(Error::invalid(format!(
                "{image}: the target takes a tag, and the digest is the image's own"
            ))),
        }
    }

    /// Puts another tag on an image: no blob moves, and the image keeps its other tags.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::InvalidInput`] if the name or the tag is not valid, or if the name lies
    /// outside of the organizations; [`Error::NotFound`] if there is no such image; [`Error::Conflict`] if
    /// the tag stands for another image and may not be moved.
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

/// An image that got another tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tagged {
    /// The image by digest.
    pub url: ImageUrl,
    /// The tag that it got.
    pub tag: Tag,
}
