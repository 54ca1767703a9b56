//! The table of who gets how far, tried once more: by the program, and by docker's kin with the passwords
//! that it prints. What is expected is in `tests/library/access/outcomes.txt`.

mod account;
mod clients;
#[path = "../../library/access/people.rs"]
mod people;
#[path = "../../library/access/reviewed.rs"]
mod reviewed;

use std::thread;

pub(crate) use account::{Account, Walls};
pub(crate) use people::{OURS, PEOPLE, THEIRS};

use people::{Person, Target};

/// Lines of the table, and what to type for them; `NAME` is a repository with the
/// image `v1`, and `WHO` a tag of one's own.
const OPERATIONS: [(&str, &str); 7] = [
    ("list the organization", "--list-repositories"),
    ("create a repository", "--create-repository NAME/new"),
    ("list its images", "--list-images NAME"),
    ("log in and pull", "--login NAME --access pull"),
    ("log in and push", "--push NAME:WHO --from oci:image"),
    ("delete an image", "--delete-image NAME:v1"),
    ("delete it", "--delete-repository NAME --force"),
];

/// How a cell of the table ends, in the table's words.
fn outcome(account: &Account, walls: Walls, person: &Person, line: &str, target: Target) -> String {
    let organization = target.of(person);
    let name = account::name(walls, person, target);
    let line = format!(
        "{} --organization {organization}",
        line.replace("NAME", &name).replace("WHO", person.id())
    );
    let run = account.sandbox.finish(&mut account.command(walls, person, &line));
    let word = match run.code {
        0 if line.starts_with("--list-repositories") => {
            let listed = run.stdout.lines().any(|line| line.ends_with(&format!("/{name}")));
            if listed { "yes" } else { "nothing" }
        }
        0 if line.starts_with("--login") => {
            let curl = account.curl(run.stdout.trim_end());
            let url = format!("/v2/prod/{organization}/{name}/manifests/v1");
            match curl.send("GET", &url, &[]).status {
                200 => "yes",
                403 => "no",
                404 => "nothing",
                status => panic!("{person}: {line}: {status}"),
            }
        }
        0 => "yes",
        4 => "no",
        5 => "nothing",
        _ => panic!("{person}: {line}: {run:?}"),
    };
    word.to_owned()
}

/// Tries all that somebody can do, and returns what differs from the table.
fn differences(account: &Account, walls: Walls, person: &Person) -> Vec<String> {
    let mut differences = Vec::new();
    for (operation, line) in OPERATIONS {
        for target in Target::ALL {
            let ended = outcome(account, walls, person, line, target);
            let expected = reviewed::outcome(walls.title(), person, operation, target);
            if ended != expected {
                let what = format!("{person}: {operation} ({}): {ended}", target.word());
                differences.push(format!("{what}, and not {expected}, by {}", walls.title()));
            }
        }
    }
    differences
}

/// Two at a time: each process of the program takes a processor.
fn check(walls: Walls, people: &[&Person]) {
    let account = Account::of_the_table();
    let (left, right) = people.split_at(people.len().div_ceil(2));
    let all = |people: &[&Person]| -> Vec<String> {
        people.iter().flat_map(|person| differences(&account, walls, person)).collect()
    };
    let found = thread::scope(|scope| {
        let left = scope.spawn(|| all(left));
        let right = all(right);
        [left.join().unwrap(), right].concat()
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_program_gets_as_far_as_the_policy_lets_it() {
    // The others differ from these in where they belong alone.
    check(Walls::Policy, &[&PEOPLE[0], &PEOPLE[4], &PEOPLE[6], &PEOPLE[7]]);
}

#[test]
fn the_program_gets_as_far_as_aws_lets_it() {
    // A user of AWS cannot change between the two roles, as who administers the global organization must.
    check(Walls::Aws, &[&PEOPLE[0], &PEOPLE[4], &PEOPLE[6]]);
}

#[test]
fn the_program_gets_as_far_as_a_token_lets_it() {
    check(Walls::Both, &PEOPLE.iter().collect::<Vec<_>>());
}
