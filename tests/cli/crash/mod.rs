//! Acknowledged operations are not lost, and incomplete content is not visible: after a kill, with concurrent
//! processes, and on a full disk.

pub(crate) mod disk;
mod model;
mod rounds;

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use model::{End, Images, Model, Operation, upload};
use rounds::{Figures, Mix, Rounds, Visitor};
use tokio::runtime::Runtime;

use crate::sandbox::{Random, Sandbox, is_full_scale};

#[test]
fn acknowledged_operations_survive_any_kill() {
    kill(if is_full_scale() { 400 } else { 200 }, Mix::Everything);
}

#[test]
fn deletions_and_pushes_survive_any_kill() {
    let figures = kill(if is_full_scale() { 200 } else { 40 }, Mix::Deletions);
    assert!(figures.deletions > 0 && figures.swept > 0, "{figures:?}");
}

/// Runs rounds until `kills` processes were killed, and prints the figures.
#[expect(clippy::print_stderr, reason = "the figures of `tests/heavy/run crash`")]
fn kill(kills: usize, mix: Mix) -> Figures {
    let started = Instant::now();
    let mut rounds = Rounds::start(mix);
    while rounds.figures.kills < kills {
        rounds.round();
    }
    let figures = rounds.end();
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{} kills: {} operations acknowledged, {} interrupted, {} of these completed; {} deletions of \
         images; {} blobs without a manifest, and none after a sweep; {seconds:.1} s",
        figures.kills,
        figures.acknowledged,
        figures.cut,
        figures.survived,
        figures.deletions,
        figures.swept,
    );
    // Kills that are always too early or too late would test nothing.
    assert!(figures.acknowledged > 0 && figures.cut > figures.survived, "{figures:?}");
    figures
}

const PROCESSES: usize = 8;

fn create(name: impl Into<String>) -> Operation {
    Operation::Create { name: name.into() }
}

/// Runs all operations concurrently. Uploads use the server of the visitor.
fn run_all(sandbox: &Sandbox, visitor: Option<&Visitor>, operations: &[Operation]) {
    let runtime = Runtime::new().unwrap();
    let runtime = &runtime;
    thread::scope(|scope| {
        for operation in operations {
            scope.spawn(move || match (operation, visitor) {
                (Operation::Upload { name, .. }, Some(visitor)) => runtime.block_on(async {
                    let client = visitor.client(name).await.unwrap();
                    upload(&client, operation, |_| {}).await.unwrap();
                }),
                _ => assert_eq!(operation.run(sandbox, None), End::Done, "{operation:?}"),
            });
        }
    });
}

#[test]
fn concurrent_processes_and_clients_lose_nothing() {
    let sandbox = Sandbox::new();
    let mut random = Random::seeded();
    let mut images = Images::new(&mut random);
    let mut model = Model::default();

    // The first operations find no folder.
    let same = || std::iter::repeat_with(|| create("shared")).take(PROCESSES);
    let first: Vec<_> = same().collect();
    run_all(&sandbox, None, &first);

    let server = sandbox.serve();
    let visitor = Visitor::new(&sandbox, &server);
    // Repositories with the same name, with different names, and with nested names.
    let mut second: Vec<_> = same().collect();
    second.extend((0..PROCESSES).map(|n| create(format!("own/{n}"))));
    second.extend((0..PROCESSES).map(|n| create(format!("shared/{n}"))));
    for n in 0..PROCESSES {
        let image = images.next(&mut random, &sandbox);
        let tag = |kind: &str| format!("{kind}-{n}").parse().unwrap();
        let name = || "shared".to_owned();
        // The same layers are sent concurrently, by the program and over HTTP.
        second.push(Operation::Push { name: name(), tag: tag("push"), image: Arc::clone(&image) });
        second.push(Operation::Upload { name: name(), tag: tag("upload"), image });
    }
    run_all(&sandbox, Some(&visitor), &second);

    for effect in first.iter().chain(&second).flat_map(Operation::effects) {
        model.acknowledge(&effect);
    }
    let runtime = Runtime::new().unwrap();
    runtime.block_on(visitor.check(&sandbox, &mut model));
    disk::check(&sandbox);
    assert_eq!(disk::leftovers(&sandbox), Vec::<std::path::PathBuf>::new());
}
