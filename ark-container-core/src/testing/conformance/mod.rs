//! Whether a backend keeps the contract of [`RegistryBackend`].
//!
//! Each [`Case`] checks a line of the contract and panics with that line where it is broken. Run
//! them [all], or take [`cases`] one by one where a registry is known to get some wrong.
//!
//! ```no_run
//! use ark_container_core::RegistryBackend;
//! use ark_container_core::model::OrganizationId;
//! use ark_container_core::testing::conformance::{self, Conformance, PutImage};
//!
//! # async fn run(backend: &dyn RegistryBackend, images: &dyn PutImage) {
//! let organizations = [1, 2, 3].map(OrganizationId::from_u128);
//! conformance::all(&Conformance::new(backend, organizations, images)).await;
//! # }
//! ```

#![expect(clippy::expect_used, reason = "test code: a panic is how it reports")]

mod credentials;
mod fixture;
mod images;
mod listing;
mod repositories;

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::SampleImage;
use crate::backend::RegistryBackend;
use crate::error::BoxError;
use crate::model::{OrganizationId, Reference, RepositoryPath};
use fixture::Fixture;

/// Puts images into repositories, as a client of the registry does.
///
/// Most faithful is to do it over HTTP with the backend's
/// [credentials](RegistryBackend::credentials) for a push to the repository.
#[async_trait]
pub trait PutImage: Send + Sync {
    /// Uploads the image's blobs, then its manifest, under a tag or its own digest.
    ///
    /// # Errors
    /// Whatever the registry refuses it with.
    async fn put(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
        image: &SampleImage,
    ) -> Result<(), BoxError>;
}

/// What is checked, and where it plays.
#[derive(Clone, Copy)]
pub struct Conformance<'a> {
    backend: &'a dyn RegistryBackend,
    organizations: [OrganizationId; 3],
    images: &'a dyn PutImage,
}

impl<'a> Conformance<'a> {
    /// A suite for `backend`, which must be allowed to do everything in `organizations`.
    ///
    /// The first two may have repositories of others; the suite creates its own beside them, with
    /// names that it uses once, and deletes them when a case has passed. The third has none, and
    /// gets none.
    pub fn new(
        backend: &'a dyn RegistryBackend,
        organizations: [OrganizationId; 3],
        images: &'a dyn PutImage,
    ) -> Self {
        Self { backend, organizations, images }
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

/// A part of the contract that can be checked on its own.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Fixture<'a>) -> BoxFuture<'a, ()>,
}

impl Case {
    /// Its name, a sentence such as `creating_again_gives_the_same_answer`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Checks it.
    ///
    /// # Panics
    /// If the backend breaks the contract; the message says which line of it.
    pub async fn run(&self, conformance: &Conformance<'_>) {
        let fixture = Fixture::new(conformance, self.name);
        (self.run)(&fixture).await;
        fixture.delete_repositories().await;
    }
}

/// Every case.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [repositories::CASES, listing::CASES, images::CASES, credentials::CASES].into_iter().flatten()
}

/// Checks every case, one after another.
///
/// # Panics
/// At the first line of the contract that the backend breaks.
pub async fn all(conformance: &Conformance<'_>) {
    for case in cases() {
        tracing::debug!(case = case.name(), "checking");
        case.run(conformance).await;
    }
}

/// Names functions as the cases of a module.
macro_rules! named_cases {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[
            $(super::Case { name: stringify!($name), run: |fixture| Box::pin($name(fixture)) }),+
        ];
    };
}
use named_cases;

/// Panics with a line of the contract unless `result` is an error of the pattern.
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
