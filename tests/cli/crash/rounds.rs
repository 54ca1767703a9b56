//! [`Rounds`]: concurrent users, kills in the middle, a restart, and a check of all visible content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::distribution::{Client, Retry};
use ark_container_core::model::{
    Access, Digest, OrganizationId, RegistryHost, RepositoryUrl, Scope, Tag,
};
use ark_container_core::{Error, RegistryBackend as _, RegistryBackendExt as _};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::disk::{self, REGISTRY};
use super::model::{Contents, Effect, End, Images, Model, Operation, upload};
use crate::sandbox::{Random, Sandbox, Server, TBD};

/// Names of repositories; `a`, `a/b` and `a-b` are adjacent on the disk.
const NAMES: [&str; 6] = ["a", "a-b", "a/b", "a/b/c", "jobs/extract-video", "z"];
const TAGS: [&str; 3] = ["v1", "v2", "latest"];
/// Number of concurrent users.
const USERS: usize = 6;
/// Percentage of processes to kill.
const KILLED_PERCENT: usize = 90;
/// Factors that adapt the kill delay to the load of the machine. A kill before the end of its process makes the delay
/// longer, and a kill after the end makes the delay shorter, so that three kills in four come before the end.
const EARLY_KILL_RATIO: f64 = 1.02;
const LATE_KILL_RATIO: f64 = 0.94;

/// The mix of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    /// All operations.
    Everything,
    /// Pushes and deletions of images in a few repositories, with blobs that are old enough to be swept.
    Deletions,
}

/// Number of repositories of [`Mix::Deletions`].
const CROWDED_REPOSITORIES: usize = 3;

/// The figures of all rounds.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) kills: usize,
    pub(super) acknowledged: usize,
    /// Operations without an acknowledgement, and those of them that were completed.
    pub(super) cut: usize,
    pub(super) survived: usize,
    /// Deletions of images, acknowledged or interrupted.
    pub(super) deletions: usize,
    /// Blobs without a manifest at the end, removed by the sweep.
    pub(super) swept: usize,
}

/// Typical durations of operations, which limit the kill delay.
#[derive(Debug)]
struct Typical {
    create: Duration,
    push: Duration,
}

impl Typical {
    fn of(&mut self, operation: &Operation) -> &mut Duration {
        match operation {
            Operation::Push { .. } | Operation::Upload { .. } => &mut self.push,
            _ => &mut self.create,
        }
    }
}

pub(super) struct Rounds {
    mix: Mix,
    pub(super) figures: Figures,
    // Stopped before the folder is removed.
    server: Server,
    sandbox: Sandbox,
    random: Random,
    runtime: Runtime,
    model: Model,
    images: Images,
    typical: Typical,
}

impl Rounds {
    /// Creates a registry with a few repositories and images, and measures the typical durations.
    pub(super) fn start(mix: Mix) -> Self {
        let sandbox = Sandbox::new();
        let server = sandbox.serve();
        let mut random = Random::seeded();
        let images = Images::new(&mut random);
        let typical = Typical { create: Duration::ZERO, push: Duration::ZERO };
        let runtime = Runtime::new().unwrap();
        let (model, figures) = (Model::default(), Figures::default());
        let mut rounds =
            Self { mix, sandbox, figures, server, random, runtime, model, images, typical };
        let creates = NAMES[..USERS].iter().map(|name| Operation::Create { name: (*name).into() });
        rounds.typical.create = rounds.measure(creates.collect());
        let pushes = (0..USERS).map(|n| Operation::Push {
            name: NAMES[n / TAGS.len()].to_owned(),
            tag: TAGS[n % TAGS.len()].parse().unwrap(),
            image: rounds.images.next(&mut rounds.random, &rounds.sandbox),
        });
        let pushes = pushes.collect();
        rounds.typical.push = rounds.measure(pushes);
        rounds
    }

    /// Returns the duration of concurrent operations.
    fn measure(&mut self, operations: Vec<Operation>) -> Duration {
        let started = Instant::now();
        self.repeat(operations);
        started.elapsed()
    }

    /// Returns the next operations of the users. No two operations change the same tag.
    fn plan(&mut self) -> Vec<Operation> {
        let mut existing = self.model.existing();
        if self.mix == Mix::Deletions {
            existing.truncate(CROWDED_REPOSITORIES);
        }
        let missing: Vec<String> = NAMES.map(str::to_owned).into();
        let missing: Vec<String> =
            missing.into_iter().filter(|name| !existing.contains(name)).collect();
        let mut taken = BTreeSet::new();
        let mut plan = Vec::new();
        while plan.len() < USERS {
            let choice = match self.mix {
                Mix::Everything => self.random.below(100),
                // Half of the operations delete an image.
                Mix::Deletions if self.random.percent(50) => 40,
                Mix::Deletions => 46 + self.random.below(54),
            };
            let planned = match choice {
                0..30 => self.random.pick(&missing).map(|name| {
                    // Two users may create the same repository.
                    Operation::Create { name: name.clone() }
                }),
                30..36 if existing.len() > 3 => {
                    let name = self.random.pick(&existing).cloned();
                    name.map(|name| Operation::DeleteRepository { name })
                }
                36..46 => self.random.pick(&existing).cloned().and_then(|name| {
                    let tagged = self.model.repositories[&name].tagged();
                    let (tag, digest) = self.random.pick(&tagged)?.clone();
                    Some(Operation::DeleteImage { name, tag, digest })
                }),
                _ => self.random.pick(&existing).cloned().map(|name| {
                    let tag = self.random.pick(&TAGS).unwrap().parse().unwrap();
                    let image = self.images.next(&mut self.random, &self.sandbox);
                    if choice < 73 {
                        Operation::Push { name, tag, image }
                    } else {
                        Operation::Upload { name, tag, image }
                    }
                }),
            };
            let free = |operation: &Operation| match operation {
                Operation::Push { name, tag, .. }
                | Operation::Upload { name, tag, .. }
                | Operation::DeleteImage { name, tag, .. } => {
                    taken.insert((name.clone(), tag.clone()))
                }
                _ => true,
            };
            plan.extend(planned.filter(free));
        }
        plan
    }

    /// Runs one round: executes and kills the operations, restarts the server, and checks all content.
    pub(super) fn round(&mut self) {
        let plan = self.plan();
        if self.mix == Mix::Deletions {
            disk::age(&self.sandbox, "/_repository/blobs/");
            self.model.doubt_unreferenced_blobs();
        }
        for effect in plan.iter().flat_map(Operation::effects) {
            self.model.begin(&effect);
        }
        let ends = self.carry_out(&plan);
        self.server = self.sandbox.serve();
        let visitor = Visitor::new(&self.sandbox, &self.server);
        self.runtime.block_on(visitor.check(&self.sandbox, &mut self.model));

        let deleted = |operation: &Operation| {
            plan.iter().any(|other| {
                let delete = matches!(other, Operation::DeleteRepository { .. });
                delete && other.repository() == operation.repository()
            })
        };
        let mut cut = Vec::new();
        for (operation, end) in plan.iter().zip(ends) {
            let is_deletion = matches!(operation, Operation::DeleteImage { .. });
            self.figures.deletions += usize::from(is_deletion);
            let follow = if end == End::Killed { EARLY_KILL_RATIO } else { LATE_KILL_RATIO };
            let typical = self.typical.of(operation);
            *typical = typical.mul_f64(follow);
            match end {
                End::Done => self.figures.acknowledged += 1,
                End::Killed => {
                    self.figures.cut += 1;
                    self.figures.survived += usize::from(self.was_done(operation));
                    if !deleted(operation) && !is_deletion {
                        cut.push(operation.clone());
                    }
                }
                End::Failed(_) if deleted(operation) => {}
                End::Failed(problem) => panic!("{operation:?} failed by itself: {problem}"),
            }
        }
        self.repeat(cut);
    }

    /// Returns whether the last effect of an operation is certain.
    fn was_done(&self, operation: &Operation) -> bool {
        let contents = &self.model.repositories[operation.repository()];
        match operation.effects().pop() {
            Some(Effect::Repository { there, .. }) => contents.there.is(&there),
            Some(Effect::Image { digest, there, .. }) => {
                contents.images.get(&digest).is_some_and(|image| image.is(&there))
            }
            Some(Effect::Tag { tag, target, .. }) => {
                contents.tags.get(&tag).is_some_and(|targets| targets.is(&target))
            }
            _ => false,
        }
    }

    /// Runs all operations concurrently, and kills the server and most processes.
    fn carry_out(&mut self, plan: &[Operation]) -> Vec<End> {
        let visitor = Arc::new(Visitor::new(&self.sandbox, &self.server));
        let acknowledged = Mutex::new(Vec::new());
        let acknowledge = |effects: Vec<Effect>| acknowledged.lock().unwrap().extend(effects);
        let kills: Vec<Option<Duration>> = plan.iter().map(|one| self.kill_after(one)).collect();
        let server_lives = self.random.moment(self.typical.push);
        let (sandbox, runtime, server) = (&self.sandbox, &self.runtime, &mut self.server);
        let ends: Vec<End> = thread::scope(|scope| {
            let users: Vec<_> = plan
                .iter()
                .zip(&kills)
                .map(|(operation, kill_after)| {
                    let (visitor, acknowledge) = (Arc::clone(&visitor), &acknowledge);
                    scope.spawn(move || match operation {
                        Operation::Upload { name, .. } => runtime.block_on(async {
                            let client = visitor.client(name).await;
                            let Ok(client) = client else { return End::Killed };
                            let step = |effect| acknowledge(vec![effect]);
                            match upload(&client, operation, step).await {
                                Ok(()) => End::Done,
                                Err(error) if error.is_temporary() => End::Killed,
                                Err(error) => End::Failed(format!("{error:?}")),
                            }
                        }),
                        _ => {
                            let end = operation.run(sandbox, *kill_after);
                            if end == End::Done {
                                acknowledge(operation.effects());
                            }
                            end
                        }
                    })
                })
                .collect();
            thread::sleep(server_lives);
            server.kill();
            users.into_iter().map(|user| user.join().unwrap()).collect()
        });
        for effect in acknowledged.into_inner().unwrap() {
            self.model.acknowledge(&effect);
        }
        let processes = plan.iter().zip(&ends).filter(|(operation, end)| {
            **end == End::Killed && !matches!(operation, Operation::Upload { .. })
        });
        self.figures.kills += 1 + processes.count();
        ends
    }

    fn kill_after(&mut self, operation: &Operation) -> Option<Duration> {
        let within = *self.typical.of(operation);
        let moment = self.random.moment(within);
        self.random.percent(KILLED_PERCENT).then_some(moment)
    }

    /// Repeats interrupted operations concurrently, without kills. All must succeed.
    fn repeat(&mut self, operations: Vec<Operation>) {
        for effect in operations.iter().flat_map(Operation::effects) {
            self.model.begin(&effect);
        }
        let sandbox = &self.sandbox;
        thread::scope(|scope| {
            for operation in &operations {
                scope.spawn(move || {
                    let end = operation.run(sandbox, None);
                    assert!(end == End::Done, "{operation:?}, again: {end:?}");
                });
            }
        });
        for effect in operations.iter().flat_map(Operation::effects) {
            self.model.acknowledge(&effect);
        }
    }

    /// Checks all content again, also in the folder, before and after a sweep.
    pub(super) fn end(mut self) -> Figures {
        let visitor = Visitor::new(&self.sandbox, &self.server);
        self.runtime.block_on(visitor.check(&self.sandbox, &mut self.model));
        self.server.kill();
        disk::check(&self.sandbox);
        self.figures.swept = disk::unreferenced_blobs(&self.sandbox).len();
        disk::check_sweep(&self.sandbox);
        disk::check(&self.sandbox);
        self.figures
    }
}

/// Checks a registry over HTTP and with the program.
#[derive(Debug)]
pub(super) struct Visitor {
    backend: LocalBackend,
    host: RegistryHost,
}

impl Visitor {
    pub(super) fn new(sandbox: &Sandbox, server: &Server) -> Self {
        Self {
            backend: LocalBackend::open(Some(&sandbox.path(REGISTRY))).unwrap(),
            host: server.line().trim_end().parse().unwrap(),
        }
    }

    /// Returns a client of one repository. The client fails after the server is killed.
    pub(super) async fn client(&self, name: &str) -> Result<Client, Error> {
        let name = name.parse().map_err(Error::Parse)?;
        let path = self.backend.repository_path(OrganizationId::TBD, &name)?;
        let scope = Scope::repository(path.clone(), Access::Push);
        let credentials = self.backend.credentials(&scope, &Default::default()).await?;
        // A killed server does not restart during a request, so retries are useless.
        let client = Client::new(RepositoryUrl::new(self.host.clone(), path), credentials)?;
        Ok(client.with_retry(Retry::never()))
    }

    /// Checks that all acknowledged content exists and is complete, and that nothing else is visible.
    pub(super) async fn check(&self, sandbox: &Sandbox, model: &mut Model) {
        let listed = lines(sandbox, "--list-repositories");
        let listed: BTreeSet<String> = listed.iter().map(|line| text(&line["name"])).collect();
        for name in &listed {
            assert!(model.repositories.contains_key(name), "unexpected {name}");
        }
        for (name, contents) in &mut model.repositories {
            let there = listed.contains(name);
            contents.there.observe(name, &there);
            if there {
                self.check_contents(sandbox, name, contents).await;
            } else {
                *contents = Contents::default();
            }
        }
    }

    async fn check_contents(&self, sandbox: &Sandbox, name: &str, contents: &mut Contents) {
        let client = self.client(name).await.unwrap();
        let listed: Vec<Tag> = client.tags().try_collect().await.unwrap();
        for tag in listed {
            contents.tags.entry(tag).or_default();
        }
        let mut tags = BTreeMap::<Digest, BTreeSet<String>>::new();
        for (tag, targets) in &mut contents.tags {
            let found = client.manifest(&tag.clone().into()).await.unwrap();
            let found = found.map(|descriptor| descriptor.digest);
            targets.observe(&(name, &tag), &found);
            if let Some(digest) = found {
                tags.entry(digest).or_default().insert(tag.to_string());
            }
        }
        let mut visible = BTreeMap::new();
        for line in lines(sandbox, &format!("--list-images {name} --organization {TBD}")) {
            let tags = line["tags"].as_array().unwrap().iter().map(text).collect();
            visible.insert(text(&line["digest"]).parse::<Digest>().unwrap(), tags);
        }
        for digest in visible.keys() {
            contents.images.entry(digest.clone()).or_default();
        }
        for (digest, there) in &mut contents.images {
            there.observe(&(name, &digest), &visible.contains_key(digest));
            let listed: Option<&BTreeSet<String>> = visible.get(digest);
            let expected = tags.remove(digest).unwrap_or_default();
            assert_eq!(listed.cloned().unwrap_or_default(), expected, "{name}@{digest}");
        }
        assert!(tags.is_empty(), "{name}: {tags:?} name no image");
        self.check_blobs(&client, name, contents, visible.keys()).await;
    }

    /// Checks that every blob is complete or missing, and that the blobs of visible images exist.
    async fn check_blobs(
        &self,
        client: &Client,
        name: &str,
        contents: &mut Contents,
        images: impl Iterator<Item = &Digest>,
    ) {
        for (digest, there) in &mut contents.blobs {
            let found = match client.fetch_blob(digest).await {
                // The stream fails if the content does not match the digest.
                Ok(content) => {
                    let content = content.try_for_each(|_| async { Ok(()) }).await;
                    content.unwrap_or_else(|error| panic!("{name}: {digest}: {error:?}"));
                    true
                }
                Err(Error::NotFound { .. }) => false,
                Err(error) => panic!("{name}: {digest}: {error:?}"),
            };
            there.observe(&(name, &digest), &found);
        }
        for digest in images {
            let manifest = client.fetch_manifest(&digest.clone().into()).await.unwrap();
            let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
            let layers = manifest["layers"].as_array().into_iter().flatten();
            for blob in layers.chain(manifest.get("config")) {
                let blob: Digest = text(&blob["digest"]).parse().unwrap();
                assert!(client.blob_exists(&blob).await.unwrap(), "{name}@{digest}: {blob}");
            }
        }
    }
}

/// Returns the JSON objects that an operation prints.
fn lines(sandbox: &Sandbox, line: &str) -> Vec<Value> {
    let printed = sandbox.printed(&format!("--quiet --output json {line}"));
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
