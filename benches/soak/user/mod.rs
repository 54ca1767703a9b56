//! [`User`]: sends requests in its own organization, and checks each answer.

mod read;
mod write;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ark_container_core::model::{
    Access, Digest, OrganizationId, RepositoryName, RepositoryPath, Scope, Tag,
};
use ark_container_core::testing::SampleImage;
use ark_container_core::{RegistryBackend, RegistryBackendExt};
use reqwest::{Method, RequestBuilder};

use crate::Problem;
use crate::contents::Contents;
use crate::server::Environment;

const REPOSITORIES: [&str; 3] = ["job", "job/input", "job-2"];
const TAGS: [&str; 4] = ["v1", "v2", "nightly", "latest"];
/// The size of the unshared layer of each image. All images of a user share one more layer.
const LAYER_BYTES: [usize; 6] = [100, 5_000, 40_000, 200_000, 700_000, 1_500_000];
const SHARED_LAYER_BYTES: usize = 300_000;
/// Greater than the organizations of all users.
const OTHER_ORGANIZATION: OrganizationId = OrganizationId::from_u128(u128::MAX);

/// An image, and the folder with its OCI layout.
struct Image {
    sample: SampleImage,
    layout: PathBuf,
}

pub(crate) struct User {
    environment: Arc<Environment>,
    organization: OrganizationId,
    http: reqwest::Client,
    images: Vec<Image>,
    repositories: BTreeMap<&'static str, Option<Contents>>,
}

/// Returns a random number below `end`. There is no seed, because concurrent requests are not reproducible.
fn random_below(end: usize) -> usize {
    (RandomState::new().hash_one(()) % end as u64) as usize
}

fn pick<T>(of: &[T]) -> &T {
    &of[random_below(of.len())]
}

impl User {
    pub(crate) fn new(environment: Arc<Environment>, number: u128) -> Result<Self, Problem> {
        let organization = OrganizationId::from_u128(number + 1);
        let shared = vec![number as u8; SHARED_LAYER_BYTES];
        let mut images = Vec::new();
        for (index, len) in LAYER_BYTES.into_iter().enumerate() {
            let seed = number as u64 * LAYER_BYTES.len() as u64 + index as u64;
            let builder = SampleImage::builder().with_seed(seed).with_random_layer(len);
            let sample = builder.with_layer([("shared", shared.clone())]).build();
            let layout = environment.path(&format!("images/{number}-{index}"));
            sample.write_oci_layout(&layout, None)?;
            images.push(Image { sample, layout });
        }
        let repositories = REPOSITORIES.iter().map(|name| (*name, None)).collect();
        Ok(Self { environment, organization, http: reqwest::Client::new(), images, repositories })
    }

    /// Sends requests until a time, or until an answer is wrong.
    pub(crate) async fn work(mut self, until: Instant) -> Result<Self, Problem> {
        self.push_all_images().await?;
        while Instant::now() < until {
            let name = *pick(&REPOSITORIES);
            let kills_server = self.environment.kills_server.load(Ordering::SeqCst);
            let done = match self.repositories[name].clone() {
                None => self.create(name).await,
                Some(contents) => self.random_operation(name, contents).await,
            };
            match done {
                Ok(()) => {}
                Err(problem) if kills_server && is_temporary(&problem) => {
                    self.wait_for_server().await?
                }
                Err(problem) => {
                    let repository = self.path(name)?;
                    return Err(format!("{repository}: {problem}: {problem:?}").into());
                }
            }
        }
        Ok(self)
    }

    async fn random_operation(
        &mut self,
        name: &'static str,
        contents: Contents,
    ) -> Result<(), Problem> {
        match random_below(100) {
            0..22 => self.push(name, contents).await,
            22..29 => self.push_and_disconnect(name, contents).await,
            29..33 => self.push_by_program(name, contents).await,
            33..36 => self.interrupted_upload(name).await,
            36..58 => self.pull(name, &contents).await,
            58..66 => self.list_tags(name, &contents).await,
            66..74 => self.list_images(name, &contents).await,
            74..78 => self.list_repositories().await,
            78..84 => self.delete_tag(name, contents).await,
            84..90 => self.delete_image(name, contents).await,
            90..92 => self.delete_repository(name).await,
            92..95 => self.log_in(name, &contents).await,
            _ => self.request_missing_content(name).await,
        }
    }

    /// Checks all content of the user.
    pub(crate) async fn check_all(&mut self) -> Result<(), Problem> {
        self.list_repositories().await?;
        for name in REPOSITORIES {
            if let Some(contents) = self.repositories[name].clone() {
                self.list_images(name, &contents).await?;
                self.list_tags(name, &contents).await?;
                for digest in &contents.images {
                    self.pull_image(name, digest.clone().into(), digest).await?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> Result<RepositoryPath, Problem> {
        let name: RepositoryName = name.parse()?;
        Ok(self.environment.backend.repository_path(self.organization, &name)?)
    }

    fn image(&self, digest: &Digest) -> Result<&Image, Problem> {
        let image = self.images.iter().find(|image| image.sample.digest() == *digest);
        image.ok_or_else(|| format!("{digest} was not pushed").into())
    }

    /// Returns a random image and a random tag.
    fn random_image_and_tag(&self) -> Result<(Digest, Tag), Problem> {
        Ok((pick(&self.images).sample.digest(), pick(&TAGS).parse()?))
    }

    /// Returns a request for a resource of a repository, with a valid password.
    async fn request(
        &self,
        method: Method,
        name: &str,
        resource: &str,
    ) -> Result<RequestBuilder, Problem> {
        let path = self.path(name)?;
        let scope = Scope::repository(path.clone(), Access::Delete);
        let credentials = self.environment.backend.credentials(&scope, &Default::default()).await?;
        let url = format!("http://{}/v2/{path}/{resource}", self.environment.host);
        let request = self.http.request(method, url);
        Ok(request.basic_auth("AWS", Some(credentials.password.expose())))
    }

    /// Records the latency of a completed operation.
    fn record(&self, operation: &'static str, started: Instant) {
        self.environment.latencies.record(operation, started.elapsed());
    }
}

/// Returns whether a retry can succeed, such as after a restart of the server.
fn is_temporary(problem: &Problem) -> bool {
    let by_library = problem.downcast_ref::<ark_container_core::Error>();
    by_library.is_some_and(ark_container_core::Error::is_temporary)
        || problem.is::<reqwest::Error>()
}
