//! Who gets how far: every principal × every operation × own, foreign, global and missing
//! organizations × the policy alone, AWS alone, and both.
//!
//! The outcomes are in `outcomes.txt`, one table to be read and reviewed; `ARK_WRITE_OUTCOMES=1`
//! writes it anew.

mod ministack;
mod operation;
pub(crate) mod people;
mod reviewed;
mod table;
pub(crate) mod wall;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use ark_container_core::RegistryBackend;
use ark_container_core::model::RepositoryPath;
use futures_util::future::join_all;

use operation::{Ended, Operation, Outcome};
use people::{FURNISHED, PEOPLE, Person, Target};
use table::Row;
pub(crate) use wall::Deployment;
use wall::{Walls, path};

const REVIEWED: &str = include_str!("outcomes.txt");

/// The repository of every organization that nobody may delete but administrators, who have others.
const SHARED: &str = "app";

/// What ends the names of repositories that do not exist.
const ABSENT: &str = "-absent";

/// The repositories that the table is about.
fn repositories() -> impl Iterator<Item = RepositoryPath> {
    let shared = FURNISHED.map(|organization| path(organization, SHARED));
    let deleted = Walls::ALL.into_iter().flat_map(|walls| {
        PEOPLE.iter().flat_map(move |person| {
            let targets = Target::ALL.map(|target| of_cell(walls, person, target));
            targets.into_iter().filter(|path| path.name().as_str() != SHARED)
        })
    });
    shared.into_iter().chain(deleted)
}

/// How everything ends for everybody.
async fn outcomes(deployment: &Arc<Deployment>) -> Vec<Row> {
    deployment.furnish(repositories()).await;
    let rows = (0..PEOPLE.len()).map(|row| {
        let deployment = Arc::clone(deployment);
        tokio::spawn(async move { outcomes_of(&deployment, row).await })
    });
    join_all(rows).await.into_iter().map(Result::unwrap).collect()
}

/// The repository that a cell is about: one of its own where it may be deleted, else one for all.
fn of_cell(walls: Walls, person: &Person, target: Target) -> RepositoryPath {
    let organization = target.of(person);
    match person.principal().administers(organization) {
        true => path(organization, &format!("{}-{}", person.id(), walls.prefix())),
        false => path(organization, SHARED),
    }
}

async fn outcomes_of(deployment: &Deployment, row: usize) -> Row {
    let mut outcomes = [[[Outcome::Denied; Target::ALL.len()]; Operation::ALL.len()]; 3];
    let registry = deployment.cloud.aws.registry_host().as_str().parse().unwrap();
    for (walls, outcomes) in Walls::ALL.into_iter().zip(&mut outcomes) {
        let backend = deployment.backend(walls, &PEOPLE[row]);
        for (operation, outcomes) in Operation::ALL.into_iter().zip(outcomes) {
            for (target, outcome) in Target::ALL.into_iter().zip(outcomes) {
                let path = of_cell(walls, &PEOPLE[row], target);
                let ended = operation.attempt(&*backend, registry, &path).await;
                if ended.outcome == Outcome::Denied {
                    is_denied_alike(&*backend, registry, operation, &path, &ended).await;
                }
                *outcome = ended.outcome;
            }
        }
    }
    outcomes
}

/// What is denied is denied in the same words whether or not the repository exists.
async fn is_denied_alike(
    backend: &dyn RegistryBackend,
    registry: SocketAddr,
    operation: Operation,
    path: &RepositoryPath,
    ended: &Ended,
) {
    let absent = format!("{path}{ABSENT}").parse().unwrap();
    let alike = operation.attempt(backend, registry, &absent).await;
    assert_eq!(alike.outcome, Outcome::Denied, "{operation:?} {path}");
    // Each request of AWS has an identifier of its own.
    let said = |told: &str| told.split(" (AWS request ").next().unwrap().to_owned();
    assert_eq!(said(&alike.told.replace(ABSENT, "")), said(&ended.told), "{operation:?} {path}");
}

/// What the policy denies AWS denies too, and both allow what each allows.
///
/// AWS knows no listing of a part of an account, so that by it alone nobody lists all; and where there is
/// nothing to list, it denies nothing.
fn each_wall_holds_alone(rows: &[Row]) {
    for (person, [policy, aws, both]) in PEOPLE.iter().zip(rows) {
        for (index, operation) in Operation::ALL.iter().enumerate() {
            for (column, target) in Target::ALL.iter().enumerate() {
                let [policy, aws, both] = [policy, aws, both].map(|walls| walls[index][column]);
                let cell = format!("{person}: {operation:?} {target:?}");
                assert_eq!(policy, both, "{cell}");
                if !operation.is_listing() {
                    assert_eq!(policy, aws, "{cell}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcomes_are_as_reviewed() {
    let deployment = Arc::new(Deployment::start().await);
    let outcomes = outcomes(&deployment).await;
    let text = table::print(&outcomes);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/library/access/outcomes.txt");
    if env::var_os("ARK_WRITE_OUTCOMES").is_some() {
        fs::write(file, &text).unwrap();
        return;
    }
    each_wall_holds_alone(&outcomes);
    assert_eq!(text, REVIEWED, "review it, and write it with ARK_WRITE_OUTCOMES=1");
}
