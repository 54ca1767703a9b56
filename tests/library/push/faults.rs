//! Pushes over a faulty link. Each push succeeds or fails with a clear error, no tag ever refers to an incomplete
//! image, and the next push repairs the repository.
//!
//! `ARK_TEST_SEED=<seed>` repeats one push.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::distribution::{Client, Retry};
use ark_container_core::model::{
    Access, Digest, OrganizationId, Reference, RegistryHost, RepositoryPath, Scope, Tag,
};
use ark_container_core::testing::SampleImage;
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{Error, RegistryBackend, RegistryBackendExt};
use ark_container_fakes::FaultyRegistry;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tempfile::TempDir;

use super::Sources;

/// The number of concurrent pushes.
const CONCURRENT_PUSHES: usize = 8;
/// The timeout of a push. A push that takes longer counts as hanging.
const DEADLINE: Duration = Duration::from_secs(120);
/// One in this many images has a layer that is sent in several parts.
const IMAGES_PER_LARGE_LAYER: u64 = 15;

/// A registry without faults, in its own folder.
struct PlainRegistry {
    backend: LocalBackend,
    endpoint: RegistryHost,
    _folder: TempDir,
}

/// The outcome of a push over a faulty link.
#[derive(Debug, Default)]
struct Ending {
    succeeded: bool,
    faults: usize,
}

impl PlainRegistry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(Some(folder.path())).unwrap();
        let registry = Registry::bind(backend.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = registry.local_addr().into();
        tokio::spawn(registry.serve(std::future::pending()));
        Self { backend, endpoint, _folder: folder }
    }

    async fn create(&self, name: &str) -> RepositoryPath {
        let name = name.parse().unwrap();
        let path = self.backend.repository_path(OrganizationId::TBD, &name).unwrap();
        self.backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        path
    }

    fn push(&self, path: &RepositoryPath, source: ImageSource, endpoint: &RegistryHost) -> Push {
        let hasty =
            Retry::default().with_delays(Duration::from_millis(1), Duration::from_millis(20));
        let push = Push::new(Arc::new(self.backend.clone()), path, source);
        push.with_endpoint(endpoint.clone()).with_retry(hasty).with_tag(tag())
    }

    /// Returns the digest of the tagged image, after reading and verifying all its content.
    async fn whole(&self, path: &RepositoryPath) -> Result<Option<Digest>, Error> {
        let credentials = self
            .backend
            .credentials(&Scope::repository(path.clone(), Access::Pull), &Default::default())
            .await?;
        let url = self.backend.repository_url(path);
        let client = Client::with_endpoint(url, credentials, &self.endpoint)?;
        let tag = Reference::Tag(tag());
        if client.manifest(&tag).await?.is_none() {
            return Ok(None);
        }
        let manifest = client.fetch_manifest(&tag).await?;
        let content: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        let layers = content["layers"].as_array().unwrap();
        for descriptor in layers.iter().chain([&content["config"]]) {
            let digest = descriptor["digest"].as_str().unwrap().parse()?;
            let size: usize = client
                .fetch_blob(&digest)
                .await?
                .map_ok(|piece| piece.len())
                .try_collect::<Vec<_>>()
                .await?
                .iter()
                .sum();
            assert_eq!(Some(size as u64), descriptor["size"].as_u64());
        }
        Ok(Some(manifest.digest))
    }
}

fn tag() -> Tag {
    "v1".parse().unwrap()
}

/// Returns an image that is unique to the seed.
fn sources(seed: u64) -> (Sources, ImageSource) {
    let size = if seed % IMAGES_PER_LARGE_LAYER == 7 { 80_000_000 } else { 200_000 };
    let image = SampleImage::builder().with_layer([("etc/seed", &*format!("{seed}"))]);
    let image = image.with_random_layer(size).with_random_layer(70_000).with_seed(seed).build();
    let sources = Sources::new(image);
    let source = if seed.is_multiple_of(2) { sources.layout() } else { sources.archive() };
    (sources, source)
}

/// Pushes over a faulty link, then without faults. Returns the failed check, if any.
async fn push_over_faulty_link(plain: &PlainRegistry, seed: u64) -> Result<Ending, String> {
    let (sources, source) = sources(seed);
    let aside = plain.create(&format!("aside/seed-{seed}")).await;
    let right = plain.push(&aside, source.clone(), &plain.endpoint).await.unwrap();
    let right = right.digest().clone();

    let path = plain.create(&format!("test/seed-{seed}")).await;
    let older = if seed.is_multiple_of(3) {
        Some(SampleImage::new(&format!("older than {seed}")))
    } else {
        None
    };
    if let Some(older) = &older {
        let older = Sources::new(older.clone());
        plain.push(&path, older.layout(), &plain.endpoint).await.unwrap();
    }
    let older = older.map(|older| older.digest());

    let link = FaultyRegistry::start(plain.endpoint.clone()).await.unwrap();
    let cache = sources.path("cache");
    let push = plain.push(&path, source, link.host()).with_cache_directory(&cache);
    link.disturb(seed);
    let outcome = tokio::time::timeout(DEADLINE, push.clone().into_future()).await;
    let faults = link.faults();
    let wrong = |what: String| {
        Err(format!("seed {seed}: {what}\n  {outcome:?}\n  {}", faults.join("\n  ")))
    };
    let tagged = match plain.whole(&path).await {
        Ok(tagged) => tagged,
        Err(error) => return wrong(format!("the tag refers to an incomplete image: {error}")),
    };
    match &outcome {
        Err(_) => return wrong("the push hangs".to_owned()),
        Ok(Ok(pushed)) if *pushed.digest() != right || tagged.as_ref() != Some(&right) => {
            return wrong(format!("the digest is not {right}, and the tag refers to {tagged:?}"));
        }
        Ok(Err(error)) if !is_clear(error) => {
            return wrong(format!("the error is not clear: {error}"));
        }
        // The push may have succeeded without its last response.
        Ok(Err(_)) if tagged != older && tagged.as_ref() != Some(&right) => {
            return wrong(format!("the tag refers to {tagged:?}"));
        }
        Ok(_) => {}
    }
    link.calm();
    match tokio::time::timeout(DEADLINE, push.into_future()).await {
        Ok(Ok(pushed)) if *pushed.digest() == right => {}
        repaired => {
            return wrong(format!("the next push does not repair the repository: {repaired:?}"));
        }
    }
    match plain.whole(&path).await {
        Ok(Some(tagged)) if tagged == right => {}
        tagged => return wrong(format!("after the next push, the tag refers to {tagged:?}")),
    }
    Ok(Ending { succeeded: matches!(outcome, Ok(Ok(_))), faults: faults.len() })
}

/// Returns whether the error is about the registry or the link, and not about the image, the repository or the input.
fn is_clear(error: &Error) -> bool {
    match error {
        Error::Temporary { .. } | Error::Unauthenticated { .. } => true,
        Error::Failed { message, .. } => !message.contains("damaged"),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn push_over_faulty_link_succeeds_or_fails_clearly() {
    let is_full = env::var_os("ARK_TEST_SCALE").is_some_and(|scale| scale == "full");
    let seeds = match env::var("ARK_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..if is_full { 2000 } else { 60 }).collect::<Vec<u64>>(),
    };
    let plain = PlainRegistry::start();
    let pushes = stream::iter(seeds).map(|seed| push_over_faulty_link(&plain, seed));
    let endings: Vec<_> = pushes.buffer_unordered(CONCURRENT_PUSHES).collect().await;
    let wrong: Vec<&String> = endings.iter().filter_map(|ending| ending.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{wrong:#?}", wrong.len(), endings.len());
    let endings: Vec<Ending> = endings.into_iter().flatten().collect();
    let disturbed = endings.iter().filter(|ending| ending.faults > 0).count();
    let succeeded = endings.iter().filter(|ending| ending.succeeded).count();
    let faults: usize = endings.iter().map(|ending| ending.faults).sum();
    report(&format!(
        "{} pushes, {disturbed} with {faults} faults: {succeeded} succeeded, all were repaired",
        endings.len()
    ));
    assert!(disturbed * 2 > endings.len() || endings.len() == 1, "too few pushes had faults");
}

#[expect(clippy::print_stdout, reason = "tests/heavy/run shows the results")]
fn report(line: &str) {
    println!("{line}");
}
