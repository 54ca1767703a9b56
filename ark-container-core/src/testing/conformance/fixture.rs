//! [`Fixture`]: what a case plays with.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::TryStreamExt;

use super::{Conformance, SampleImage};
use crate::backend::{
    CreateOptions, DeleteOptions, Image, RegistryBackend, RegistryBackendExt, Repository,
};
use crate::error::{BoxError, Error};
use crate::model::{OrganizationId, Organizations, Reference, RepositoryPath, Tag};

/// One case's own names in the registry that is checked.
pub(super) struct Fixture<'a> {
    conformance: &'a Conformance<'a>,
    prefix: String,
    used: Mutex<BTreeSet<RepositoryPath>>,
}

impl<'a> Fixture<'a> {
    pub(super) fn new(conformance: &'a Conformance<'a>, case: &str) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let prefix = format!("conformance/{case}/{:x}", since.as_nanos());
        Self { conformance, prefix, used: Mutex::default() }
    }

    pub(super) fn backend(&self) -> &'a dyn RegistryBackend {
        self.conformance.backend
    }

    /// The organization that most repositories are in.
    pub(super) fn organization(&self) -> OrganizationId {
        self.conformance.organizations[0]
    }

    /// Another one with repositories.
    pub(super) fn other_organization(&self) -> OrganizationId {
        self.conformance.organizations[1]
    }

    /// One that never has any.
    pub(super) fn empty_organization(&self) -> OrganizationId {
        self.conformance.organizations[2]
    }

    /// The path of a repository of this case, which need not exist.
    pub(super) fn path(&self, name: &str) -> RepositoryPath {
        self.path_in(self.organization(), name)
    }

    pub(super) fn path_in(&self, organization: OrganizationId, name: &str) -> RepositoryPath {
        let name = format!("{}/{name}", self.prefix).parse().expect("a repository name");
        let path = self.backend().repository_path(organization, &name).expect("a short path");
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        path
    }

    /// Creates a repository with mutable tags.
    pub(super) async fn create(&self, path: &RepositoryPath) -> Repository {
        let created = self.backend().create_repository(path, &CreateOptions::default()).await;
        kept(created, "create_repository creates a repository")
    }

    /// A new repository of this case.
    pub(super) async fn repository(&self, name: &str) -> RepositoryPath {
        let path = self.path(name);
        self.create(&path).await;
        path
    }

    pub(super) async fn try_put(
        &self,
        path: &RepositoryPath,
        reference: impl Into<Reference>,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        self.conformance.images.put(path, &reference.into(), image).await
    }

    pub(super) async fn put(
        &self,
        path: &RepositoryPath,
        reference: impl Into<Reference>,
        image: &SampleImage,
    ) {
        kept(self.try_put(path, reference, image).await, "a repository takes an image");
    }

    /// Every image of a repository.
    pub(super) async fn images(&self, path: &RepositoryPath) -> Vec<Image> {
        let images = self.backend().list_images(path).try_collect().await;
        kept(images, "list_images gives the images of a repository")
    }

    /// The repositories of this case among those of `organizations`, as often as they come.
    pub(super) async fn listed(&self, organizations: &Organizations) -> Vec<RepositoryPath> {
        let rows = self.backend().list_repositories(organizations);
        let paths = rows.map_ok(|repository| repository.url.path().clone());
        let paths: Vec<RepositoryPath> =
            kept(paths.try_collect().await, "list_repositories gives the repositories");
        let own = |path: &RepositoryPath| path.name().as_str().starts_with(&self.prefix);
        paths.into_iter().filter(own).collect()
    }

    pub(super) async fn delete_repositories(self) {
        let used = self.used.into_inner().unwrap_or_else(PoisonError::into_inner);
        let options = DeleteOptions::default().with_force(true);
        for path in used {
            match self.conformance.backend.delete_repository(&path, &options).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => panic!("delete_repository deletes by force: {error}"),
            }
        }
    }
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

/// The value; panics with a line of the contract if there is none.
pub(super) fn kept<T, E: Display>(result: Result<T, E>, contract: &str) -> T {
    result.unwrap_or_else(|error| panic!("{contract}: {error}"))
}
