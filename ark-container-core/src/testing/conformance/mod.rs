//! A test suite for the contract of [`RegistryBackend`].
//!
//! Each [`Case`] checks one rule of the contract, and panics with the rule if the backend breaks it. Run
//! [all] cases, or select from [`cases`] if a registry is known to break a rule.
//!
//! ```no_run
//! use ark_container_core::RegistryBackend;
//! use ark_container_core::model::OrganizationId;
//! use ark_container_core::testing::conformance::{self, Conformance};
//!
//! # async fn run(backend: &dyn RegistryBackend) {
//! let organizations = [1, 2, 3].map(OrganizationId::from_u128);
//! conformance::all(&Conformance::new(backend, organizations)).await;
//! # }
//! ```

#![expect(clippy::expect_used, reason = "test code: panics report failures")]

mod credentials;
mod images;
mod repositories;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{TryStreamExt, stream};
use tokio_util::bytes::Bytes;

use super::SampleImage;
use crate::backend::{
    CreateOptions, DeleteOptions, Image, RegistryBackend, RegistryBackendExt, Repository,
};
use crate::distribution::Client;
use crate::error::{BoxError, Error};
use crate::model::{
    Access, OrganizationId, Organizations, Reference, RegistryHost, RepositoryPath, RepositoryUrl,
    Scope, Tag,
};

/// Uploads images in a way other than [`HttpImages`], for a registry that is not served over HTTP.
#[async_trait]
pub trait PutImage: Send + Sync {
    /// Uploads the blobs of the image, then its manifest, under a tag or its digest.
    ///
    /// # Errors
    /// The error of the registry.
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError>;
}

/// Uploads images over HTTP, with a backend's credentials for a push to the repository.
#[derive(Debug)]
pub struct HttpImages {
    backend: Arc<dyn RegistryBackend>,
    endpoint: Option<RegistryHost>,
}

impl HttpImages {
    /// Uploads to the host in the credentials of `backend`.
    pub fn new(backend: impl RegistryBackend) -> Self {
        Self { backend: Arc::new(backend), endpoint: None }
    }

    /// Sets the address at which the registry listens, if it differs, such as for an emulator.
    pub fn with_endpoint(self, endpoint: impl Into<RegistryHost>) -> Self {
        Self { endpoint: Some(endpoint.into()), ..self }
    }
}

#[async_trait]
impl PutImage for HttpImages {
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        put_over_http(&*self.backend, self.endpoint.as_ref(), path, reference, image).await
    }
}

async fn put_over_http(
    backend: &dyn RegistryBackend,
    endpoint: Option<&RegistryHost>,
    path: &RepositoryPath,
    reference: &Reference,
    image: &SampleImage,
) -> Result<(), BoxError> {
    let scope = Scope::repository(path.clone(), Access::Push);
    let credentials = backend.credentials(&scope, &Default::default()).await?;
    let host = credentials.host.clone();
    let url = RepositoryUrl::new(host.clone(), path.clone());
    let client = Client::with_endpoint(url, credentials, endpoint.unwrap_or(&host))?;
    for (digest, content) in image.blobs() {
        let upload = client.start_upload().await?;
        let size = content.len() as u64;
        let content = stream::iter([Ok::<_, Error>(Bytes::copy_from_slice(content))]);
        client.upload_blob(&upload, &digest, size, content).await?;
    }
    Ok(client.put_manifest(reference, image.root()).await?)
}

/// The suite for one backend.
#[derive(Clone, Copy)]
pub struct Conformance<'a> {
    backend: &'a dyn RegistryBackend,
    organizations: [OrganizationId; 3],
    images: Option<&'a dyn PutImage>,
}

impl<'a> Conformance<'a> {
    /// Creates a suite for `backend`, which must be allowed to perform every action in `organizations`.
    ///
    /// The first two organizations may have other repositories. The suite creates repositories with unique names, and
    /// deletes them when a case has passed. The third organization must have no repositories, and gets none.
    ///
    /// The suite uploads images over HTTP to the host in the backend's credentials.
    pub fn new(backend: &'a dyn RegistryBackend, organizations: [OrganizationId; 3]) -> Self {
        Self { backend, organizations, images: None }
    }

    /// Sets another way to upload images: to another address, or without HTTP.
    pub fn with_images(self, images: &'a dyn PutImage) -> Self {
        Self { images: Some(images), ..self }
    }
}

impl fmt::Debug for Conformance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("backend", &self.backend)
            .field("organizations", &self.organizations)
            .finish_non_exhaustive()
    }
}

/// One rule of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Fixture<'a>) -> BoxFuture<'a, ()>,
}

impl Case {
    /// Returns the name, such as `repeated_creation_returns_same_repository`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case.
    ///
    /// # Panics
    /// If the backend breaks the rule. The message contains the rule.
    pub async fn run(&self, conformance: &Conformance<'_>) {
        let fixture = Fixture::new(conformance, self.name);
        (self.run)(&fixture).await;
        fixture.delete_repositories().await;
    }
}

/// Returns all cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [repositories::CASES, images::CASES, credentials::CASES].into_iter().flatten()
}

/// Runs all cases in order.
///
/// # Panics
/// At the first rule that the backend breaks.
pub async fn all(conformance: &Conformance<'_>) {
    for case in cases() {
        tracing::debug!(case = case.name(), "running a conformance case");
        case.run(conformance).await;
    }
}

/// Defines the cases of a module from the names of functions.
macro_rules! named_cases {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[
            $(super::Case { name: stringify!($name), run: |fixture| Box::pin($name(fixture)) }),+
        ];
    };
}
use named_cases;

/// Panics with a rule of the contract unless `result` is an error that matches the pattern.
macro_rules! assert_fails {
    ($result:expr, $error:pat, $contract:expr) => {
        match $result {
            Err($error) => {}
            other => {
                panic!("{}: expected {}, got {:?}", $contract, stringify!($error), other.map(drop))
            }
        }
    };
}
use assert_fails;

/// The names and repositories of one case.
struct Fixture<'a> {
    conformance: &'a Conformance<'a>,
    prefix: String,
    used: Mutex<BTreeSet<RepositoryPath>>,
}

impl<'a> Fixture<'a> {
    fn new(conformance: &'a Conformance<'a>, case: &str) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let prefix = format!("conformance/{case}/{:x}", since.as_nanos());
        Self { conformance, prefix, used: Mutex::default() }
    }

    fn backend(&self) -> &'a dyn RegistryBackend {
        self.conformance.backend
    }

    /// Returns the organization of most repositories.
    fn organization(&self) -> OrganizationId {
        self.conformance.organizations[0]
    }

    /// Returns another organization with repositories.
    fn other_organization(&self) -> OrganizationId {
        self.conformance.organizations[1]
    }

    /// Returns the organization without repositories.
    fn empty_organization(&self) -> OrganizationId {
        self.conformance.organizations[2]
    }

    /// Returns the path of a repository of this case, which may not exist.
    fn path(&self, name: &str) -> RepositoryPath {
        self.path_in(self.organization(), name)
    }

    fn path_in(&self, organization: OrganizationId, name: &str) -> RepositoryPath {
        let name = format!("{}/{name}", self.prefix).parse().expect("a repository name");
        let path = self.backend().repository_path(organization, &name).expect("a short path");
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        path
    }

    /// Creates a repository with mutable tags.
    async fn create(&self, path: &RepositoryPath) -> Repository {
        let created = self.backend().create_repository(path, &CreateOptions::default()).await;
        expect_contract(created, "create_repository creates a repository")
    }

    /// Creates a repository of this case.
    async fn repository(&self, name: &str) -> RepositoryPath {
        let path = self.path(name);
        self.create(&path).await;
        path
    }

    async fn try_put(
        &self,
        path: &RepositoryPath,
        reference: impl Into<Reference>,
        image: &SampleImage,
    ) -> Result<(), BoxError> {
        let reference = reference.into();
        match self.conformance.images {
            Some(images) => images.put(path, &reference, image).await,
            None => put_over_http(self.backend(), None, path, &reference, image).await,
        }
    }

    async fn put(
        &self,
        path: &RepositoryPath,
        reference: impl Into<Reference>,
        image: &SampleImage,
    ) {
        expect_contract(
            self.try_put(path, reference, image).await,
            "a repository accepts an image",
        );
    }

    /// Returns every image of a repository.
    async fn images(&self, path: &RepositoryPath) -> Vec<Image> {
        let images = self.backend().list_images(path).try_collect().await;
        expect_contract(images, "list_images: lists the images of a repository")
    }

    /// Returns the repositories of this case in the listing of `organizations`, with duplicates.
    async fn listed(&self, organizations: &Organizations) -> Vec<RepositoryPath> {
        let rows = self.backend().list_repositories(organizations);
        let paths = rows.map_ok(|repository| repository.url.path().clone());
        let paths: Vec<RepositoryPath> =
            expect_contract(paths.try_collect().await, "list_repositories: lists the repositories");
        let own = |path: &RepositoryPath| path.name().as_str().starts_with(&self.prefix);
        paths.into_iter().filter(own).collect()
    }

    async fn delete_repositories(self) {
        let used = self.used.into_inner().unwrap_or_else(PoisonError::into_inner);
        let options = DeleteOptions::default().with_force(true);
        for path in used {
            match self.conformance.backend.delete_repository(&path, &options).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => panic!("delete_repository: deletes with force: {error}"),
            }
        }
    }
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

/// Returns the value, or panics with a rule of the contract.
fn expect_contract<T, E: Display>(result: Result<T, E>, contract: &str) -> T {
    result.unwrap_or_else(|error| panic!("{contract}: {error}"))
}
