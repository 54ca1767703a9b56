//! Pushes over a link that goes wrong: each ends in the right image or a clear error, no tag ever stands
//! for something incomplete, and the next push repairs.
//!
//! `ARK_TEST_SEED=<seed>` repeats one of them.

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

/// How many storms there are at once.
const AT_ONCE: usize = 8;
/// A push that has not ended by then hangs.
const DEADLINE: Duration = Duration::from_secs(120);
/// One in so many images has a layer that goes in several parts.
const LARGE_EVERY: u64 = 15;

/// A registry without faults, over a folder of its own.
struct Calm {
    backend: LocalBackend,
    endpoint: RegistryHost,
    _folder: TempDir,
}

/// How a push ended whose link went wrong.
#[derive(Debug, Default)]
struct Ending {
    succeeded: bool,
    faults: usize,
}

impl Calm {
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

    /// What the tag stands for, once every byte of that has been read and compared with its digest.
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

/// An image that no other seed has.
fn sources(seed: u64) -> (Sources, ImageSource) {
    let size = if seed % LARGE_EVERY == 7 { 80_000_000 } else { 200_000 };
    let image = SampleImage::builder().with_layer([("etc/seed", &*format!("{seed}"))]);
    let image = image.with_random_layer(size).with_random_layer(70_000).with_seed(seed).build();
    let sources = Sources::new(image);
    let source = if seed.is_multiple_of(2) { sources.layout() } else { sources.archive() };
    (sources, source)
}

/// One push in a storm, and one after it. What is wrong is told.
async fn weather(calm: &Calm, seed: u64) -> Result<Ending, String> {
    let (sources, source) = sources(seed);
    let aside = calm.create(&format!("aside/seed-{seed}")).await;
    let right = calm.push(&aside, source.clone(), &calm.endpoint).await.unwrap();
    let right = right.digest().clone();

    let path = calm.create(&format!("test/seed-{seed}")).await;
    let older = if seed.is_multiple_of(3) {
        Some(SampleImage::new(&format!("older than {seed}")))
    } else {
        None
    };
    if let Some(older) = &older {
        let older = Sources::new(older.clone());
        calm.push(&path, older.layout(), &calm.endpoint).await.unwrap();
    }
    let older = older.map(|older| older.digest());

    let link = FaultyRegistry::start(calm.endpoint.clone()).await.unwrap();
    let cache = sources.path("cache");
    let push = calm.push(&path, source, link.host()).with_cache_directory(&cache);
    link.disturb(seed);
    let stormy = tokio::time::timeout(DEADLINE, push.clone().into_future()).await;
    let faults = link.faults();
    let wrong =
        |what: String| Err(format!("seed {seed}: {what}\n  {stormy:?}\n  {}", faults.join("\n  ")));
    let tagged = match calm.whole(&path).await {
        Ok(tagged) => tagged,
        Err(error) => return wrong(format!("the tag stands for something incomplete: {error}")),
    };
    match &stormy {
        Err(_) => return wrong("it hangs".to_owned()),
        Ok(Ok(pushed)) if *pushed.digest() != right || tagged.as_ref() != Some(&right) => {
            return wrong(format!("it is not {right}, and the tag stands for {tagged:?}"));
        }
        Ok(Err(error)) if !is_clear(error) => return wrong(format!("that is not clear: {error}")),
        // The answer to the last request may have been lost.
        Ok(Err(_)) if tagged != older && tagged.as_ref() != Some(&right) => {
            return wrong(format!("the tag stands for {tagged:?}"));
        }
        Ok(_) => {}
    }
    link.calm();
    match tokio::time::timeout(DEADLINE, push.into_future()).await {
        Ok(Ok(pushed)) if *pushed.digest() == right => {}
        repaired => return wrong(format!("the next push does not repair it: {repaired:?}")),
    }
    match calm.whole(&path).await {
        Ok(Some(tagged)) if tagged == right => {}
        tagged => return wrong(format!("after the next push, the tag stands for {tagged:?}")),
    }
    Ok(Ending { succeeded: matches!(stormy, Ok(Ok(_))), faults: faults.len() })
}

/// It blames the registry or the link, and not the image, the repository or what was typed.
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
    let calm = Calm::start();
    let pushes = stream::iter(seeds).map(|seed| weather(&calm, seed));
    let endings: Vec<_> = pushes.buffer_unordered(AT_ONCE).collect().await;
    let wrong: Vec<&String> = endings.iter().filter_map(|ending| ending.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{wrong:#?}", wrong.len(), endings.len());
    let endings: Vec<Ending> = endings.into_iter().flatten().collect();
    let disturbed = endings.iter().filter(|ending| ending.faults > 0).count();
    let succeeded = endings.iter().filter(|ending| ending.succeeded).count();
    let faults: usize = endings.iter().map(|ending| ending.faults).sum();
    report(&format!(
        "{} pushes, {disturbed} of them with {faults} faults: {succeeded} arrived, all were repaired",
        endings.len()
    ));
    assert!(disturbed * 2 > endings.len() || endings.len() == 1, "the weather is too fine");
}

#[expect(clippy::print_stdout, reason = "tests/heavy/run shows what was measured")]
fn report(line: &str) {
    println!("{line}");
}
