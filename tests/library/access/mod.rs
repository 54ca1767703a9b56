//! The access matrix: every person × every operation × own, foreign, global and missing organizations × the policy
//! alone, AWS alone, and both.
//!
//! `outcomes.txt` has the reviewed outcomes. `ARK_WRITE_OUTCOMES=1` writes the file again.

pub(crate) mod deployment;
pub(crate) mod matrix;
mod ministack;
mod operation;

use std::fmt::Write as _;
use std::sync::Arc;
use std::{env, fs};

use ark_container_core::model::RepositoryPath;
use ark_container_fakes::registry_client::path;
use futures_util::future::join_all;

pub(crate) use deployment::Deployment;
use matrix::{Layers, PEOPLE, Person, REVIEWED, Target, repository_name};
use operation::{Clients, Ended, Operation, Outcome};

/// Suffix of the names of repositories that do not exist.
const ABSENT: &str = "-absent";

/// Returns the repositories of the table.
fn repositories() -> impl Iterator<Item = RepositoryPath> {
    matrix::repositories().into_iter().map(|(organization, name)| path(organization, &name))
}

fn path_of_cell(layers: Layers, person: &Person, target: Target) -> RepositoryPath {
    path(target.of(person), &repository_name(layers, person, target))
}

/// Returns the outcome of every operation of every person.
async fn outcomes(deployment: &Arc<Deployment>) -> Vec<Row> {
    deployment.create_with_images(repositories()).await;
    let rows = (0..PEOPLE.len()).map(|row| {
        let deployment = Arc::clone(deployment);
        tokio::spawn(async move { outcomes_of(&deployment, row).await })
    });
    join_all(rows).await.into_iter().map(Result::unwrap).collect()
}

async fn outcomes_of(deployment: &Deployment, row: usize) -> Row {
    let mut outcomes = [[[Outcome::Denied; Target::ALL.len()]; Operation::ALL.len()]; 3];
    let registry = deployment.cloud.aws.registry_host().as_str().parse().unwrap();
    for (layers, outcomes) in Layers::ALL.into_iter().zip(&mut outcomes) {
        let backend = deployment.backend(layers, &PEOPLE[row]);
        let sessions = deployment.sessions(layers, &PEOPLE[row]).await;
        let clients = Clients { backend: &*backend, registry, sessions: &sessions };
        for (operation, outcomes) in Operation::ALL.into_iter().zip(outcomes) {
            for (target, outcome) in Target::ALL.into_iter().zip(outcomes) {
                let path = path_of_cell(layers, &PEOPLE[row], target);
                let ended = operation.attempt(clients, &path).await;
                if ended.outcome == Outcome::Denied {
                    assert_denied_alike(clients, operation, &path, &ended).await;
                }
                *outcome = ended.outcome;
            }
        }
    }
    outcomes
}

/// Asserts that a denial has the same text whether or not the repository exists.
async fn assert_denied_alike(
    clients: Clients<'_>,
    operation: Operation,
    path: &RepositoryPath,
    ended: &Ended,
) {
    let absent = format!("{path}{ABSENT}").parse().unwrap();
    let alike = operation.attempt(clients, &absent).await;
    assert_eq!(alike.outcome, Outcome::Denied, "{operation:?} {path}");
    // The identifier of an AWS request differs between requests.
    let said = |text: &str| text.split(" (AWS request ").next().unwrap().to_owned();
    assert_eq!(said(&alike.text.replace(ABSENT, "")), said(&ended.text), "{operation:?} {path}");
}

/// Asserts that the policy and AWS deny the same operations, and that both together allow what each allows.
///
/// Listings are excluded: AWS cannot list a part of an account, so no person lists all repositories there, and AWS
/// allows an empty listing.
fn assert_each_layer_holds_alone(rows: &[Row]) {
    for (person, [policy, aws, both]) in PEOPLE.iter().zip(rows) {
        for (index, operation) in Operation::ALL.iter().enumerate() {
            for (column, target) in Target::ALL.iter().enumerate() {
                let [policy, aws, both] = [policy, aws, both].map(|layer| layer[index][column]);
                let cell = format!("{person}: {operation:?} {target:?}");
                if policy == Outcome::Unavailable {
                    assert_eq!(aws, both, "{cell}");
                    continue;
                }
                assert_eq!(policy, both, "{cell}");
                if !operation.is_listing() {
                    assert_eq!(policy, aws, "{cell}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_match_the_reviewed_table() {
    let policies = deployment::iam().with_repository_policy().policies();
    let deployment = Arc::new(Deployment::start_with_policies(&policies, |aws| aws).await);
    let outcomes = outcomes(&deployment).await;
    let text = print(&outcomes);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/library/access/outcomes.txt");
    if env::var_os("ARK_WRITE_OUTCOMES").is_some() {
        fs::write(file, &text).unwrap();
        return;
    }
    assert_each_layer_holds_alone(&outcomes);
    assert_eq!(
        text, REVIEWED,
        "review the changes, then set ARK_WRITE_OUTCOMES=1 to write the table"
    );
}

/// The outcomes of a row, in the order of [`Layers`], [`Operation`] and [`Target`].
type Row = [[[Outcome; Target::ALL.len()]; Operation::ALL.len()]; Layers::ALL.len()];

/// Width of the first column and of the others, in characters.
const LABEL_WIDTH: usize = 30;
const CELL_WIDTH: usize = 9;

/// Formats every row with the header of the columns.
fn print(rows: &[Row]) -> String {
    let mut text = String::new();
    let cells = Target::ALL.len() * CELL_WIDTH + 2;
    write!(text, "{:LABEL_WIDTH$}", "").unwrap();
    for layers in Layers::ALL {
        write!(text, "{:cells$}", layers.title()).unwrap();
    }
    end_line(&mut text);
    for (person, row) in PEOPLE.iter().zip(rows) {
        text.push('\n');
        print_row(&mut text, person, row);
    }
    text
}

fn print_row(text: &mut String, person: &Person, row: &Row) {
    writeln!(text, "{person}").unwrap();
    let heads = Layers::ALL.map(|_| Target::ALL.map(Target::word));
    line(text, "", heads);
    for (index, operation) in Operation::ALL.iter().enumerate() {
        let cells = std::array::from_fn(|layers| row[layers][index].map(Outcome::word));
        line(text, operation.word(), cells);
    }
}

fn line(text: &mut String, label: &str, cells: [[&str; Target::ALL.len()]; Layers::ALL.len()]) {
    write!(text, "  {label:0$}", LABEL_WIDTH - 2).unwrap();
    for group in cells {
        for cell in group {
            write!(text, "{cell:CELL_WIDTH$}").unwrap();
        }
        text.push_str("  ");
    }
    end_line(text);
}

fn end_line(text: &mut String) {
    text.truncate(text.trim_end().len());
    text.push('\n');
}
