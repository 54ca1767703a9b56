//! [`RegistrySource`]: a repository as a source of images.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;

use crate::connection::{Connection, LoginScope};
use crate::credentials::ForeignCredentials;
use crate::distribution::{Client, Manifest};
use crate::error::{Error, ResourceKind, Result};
use crate::files::Directory;
use crate::model::{Access, Descriptor, Digest, ImageReference, Reference, RepositoryPath, Tag};
use crate::transfer::blob::Blob;
use crate::transfer::image::{MAX_CONFIG_BYTES, Source};

/// The maximum number of tags that are listed to find the signatures of an image. In a repository with more tags, each
/// signature is requested.
const MAX_LISTED_TAGS: usize = 1_000;

/// An image in a repository of the backend or in any other registry, as the source of a transfer.
#[derive(Debug, Clone)]
pub(crate) enum RegistryImage {
    Repository(RepositoryPath, Reference),
    Registry(ImageReference),
}

impl RegistryImage {
    pub(crate) fn reference(&self) -> &Reference {
        match self {
            Self::Repository(_, reference) => reference,
            Self::Registry(image) => image.reference(),
        }
    }

    /// Returns the name of the repository, without the host for a repository of the backend.
    pub(crate) fn repository(&self) -> String {
        match self {
            Self::Repository(path, _) => path.to_string(),
            Self::Registry(image) => format!("{}/{}", image.host(), image.repository()),
        }
    }

    /// Opens the repository: with a login from the backend, or in another registry with the credentials of docker or
    /// podman, if there are any.
    pub(crate) async fn open(
        &self,
        connection: &Connection,
        login_scope: LoginScope,
        plain_http: bool,
    ) -> Result<RegistrySource> {
        match self {
            Self::Repository(path, _) => {
                let scope = login_scope.of(path, Access::Pull);
                let client = connection.client(path, &scope).await?;
                Ok(RegistrySource::new(client).with_connection(connection.clone()))
            }
            Self::Registry(image) => {
                let credentials = ForeignCredentials::find(image).await?;
                let client = Client::foreign(image, credentials, plain_http)?;
                Ok(RegistrySource::new(client.with_retry(connection.retry().clone())))
            }
        }
    }
}

impl fmt::Display for RegistryImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(path, reference) => {
                write!(f, "{path}{}{reference}", reference.separator())
            }
            Self::Registry(image) => image.fmt(f),
        }
    }
}

/// The maximum time for listing the tags, including retries.
const TAGS_TIMEOUT: Duration = Duration::from_secs(5);

/// A repository that is read during one transfer.
///
/// The tags are listed once, and the support for the referrers API is detected once, since every platform of an image
/// needs both.
pub(crate) struct RegistrySource {
    client: Client,
    /// The connection to the backend, if the repository belongs to it.
    connection: Option<Connection>,
    /// The folder of a registry on this machine, opened once for all blobs.
    folder: OnceCell<Directory>,
    /// The repository from which existing copies of manifests are read.
    copies: Option<Client>,
    /// The tags of the repository; `None` if there are too many, or they cannot be listed.
    tags: OnceCell<Option<HashSet<Tag>>>,
    lists_referrers: Mutex<Option<bool>>,
}

impl RegistrySource {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            connection: None,
            folder: OnceCell::new(),
            copies: None,
            tags: OnceCell::new(),
            lists_referrers: Mutex::default(),
        }
    }

    /// Reads blobs from files if the registry is on this machine.
    pub(crate) fn with_connection(self, connection: Connection) -> Self {
        Self { connection: Some(connection), ..self }
    }

    /// Reads manifests from `target` if it has them, since another registry may limit the number of fetched manifests.
    pub(crate) fn with_copies_in(self, target: Client) -> Self {
        Self { copies: Some(target), ..self }
    }

    /// Returns the reference of the image with this digest.
    pub(crate) fn image(&self, digest: &Digest) -> Result<ImageReference> {
        Ok(self.image_name(&digest.clone().into()).parse()?)
    }

    /// Returns the name of an image of the repository, for errors.
    pub(crate) fn image_name(&self, reference: &Reference) -> String {
        self.client.image_name(reference)
    }

    /// Fetches the manifest or index at a tag or digest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not have the manifest.
    pub(crate) async fn fetch_manifest(&self, reference: &Reference) -> Result<Manifest> {
        if let Some(connection) = &self.connection {
            let path = self.client.repository()?.path();
            return connection.fetch_image(&self.client, path, reference).await;
        }
        let Some(copies) = &self.copies else { return self.client.fetch_manifest(reference).await };
        let digest = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => self.client.manifest(reference).await?.map(|found| found.digest),
        };
        let Some(digest) = digest else {
            return Err(Error::not_found(ResourceKind::Image, self.image_name(reference)));
        };
        let by_digest = digest.into();
        match copies.fetch_manifest(&by_digest).await {
            Err(Error::NotFound { .. }) => self.client.fetch_manifest(&by_digest).await,
            fetched => fetched,
        }
    }

    async fn may_have(&self, tag: &Tag) -> bool {
        let list = async || {
            let tags = self.client.tags().take(MAX_LISTED_TAGS + 1).try_collect::<HashSet<_>>();
            match timeout(TAGS_TIMEOUT, tags).await {
                Ok(Ok(tags)) => (tags.len() <= MAX_LISTED_TAGS).then_some(tags),
                failed => {
                    tracing::debug!(
                        ?failed,
                        "the tags cannot be listed, so each signature tag is requested"
                    );
                    None
                }
            }
        };
        let tags = self.tags.get_or_init(list).await;
        tags.as_ref().is_none_or(|tags| tags.contains(tag))
    }

    /// Lists referrers by the referrers API, or returns `None` if the registry does not support it.
    async fn referrers_by_api(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let mut lists_referrers = self.lists_referrers.lock().await;
        match *lists_referrers {
            Some(false) => return Ok(None),
            Some(true) => drop(lists_referrers),
            None => {
                let listed = self.client.referrers_by_api(subject, None).await?;
                *lists_referrers = Some(listed.is_some());
                return Ok(listed);
            }
        }
        self.client.referrers_by_api(subject, None).await
    }

    async fn all_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        if let Some(listed) = self.referrers_by_api(subject).await? {
            return Ok(listed);
        }
        match self.may_have(&Client::referrers_tag(subject)?).await {
            true => self.client.referrers_by_tag(subject).await,
            false => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl Source for RegistrySource {
    fn name(&self) -> String {
        self.client.name()
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        self.fetch_manifest(&descriptor.digest.clone().into()).await?.described_by(descriptor)
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.client.fetch_blob_bytes(&config.digest, MAX_CONFIG_BYTES).await?.into())
    }

    async fn has(&self, content: &Descriptor) -> Result<bool> {
        match content.may_be_missing() {
            true => self.client.blob_exists(&content.digest).await,
            false => Ok(true),
        }
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        if let Some(connection) = &self.connection {
            let path = self.client.repository()?.path();
            if let Some((folder, file)) = connection.find_blob(path, &descriptor.digest).await? {
                let open = async || Directory::open(&folder);
                let folder = self.folder.get_or_try_init(open).await?;
                return Ok(Blob::file(descriptor, folder, file));
            }
        }
        Ok(Blob::remote(descriptor, &self.client))
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        match self.all_referrers(subject).await {
            Err(error @ Error::PermissionDenied { .. }) => {
                tracing::warn!(%error, "no permission to list the referrers of the image, so they are not copied");
                Ok(Vec::new())
            }
            listed => listed,
        }
    }

    async fn tagged(&self, tag: &Tag) -> Result<Option<Manifest>> {
        let reference = Reference::Tag(tag.clone());
        if !self.may_have(tag).await || self.client.manifest(&reference).await?.is_none() {
            return Ok(None);
        }
        self.fetch_manifest(&reference).await.map(Some)
    }
}
