//! The access matrix, tested with the program, and with clients that use the printed passwords. The expected
//! outcomes are in `tests/library/access/outcomes.txt`.

mod account;
mod clients;
#[path = "../../library/access/matrix.rs"]
mod matrix;

use std::thread;

use matrix::{Layers, Person, Target, repository_name, reviewed_outcome};

use ark_container_fakes::aws::Fault;

pub(crate) use account::Account;
pub(crate) use matrix::{OURS, PEOPLE, THEIRS};

use crate::sandbox::{OTHER, Sandbox, TBD};

const NOT_PERMITTED_CODE: i32 = 4;

/// Operations of the matrix and their command lines. `NAME` is a repository with the image `v1`, and `PERSON` is a
/// tag of the person.
const OPERATIONS: [(&str, &str); 7] = [
    ("list the organization", "--list-repositories"),
    ("create a repository", "--create-repository NAME/new"),
    ("list its images", "--list-images NAME"),
    ("log in and pull", "--login NAME --access pull"),
    ("log in and push", "--push NAME:PERSON --from oci:image"),
    ("delete an image", "--delete-image NAME:v1"),
    ("delete it", "--delete-repository NAME --force"),
];

/// Suffix of the names of repositories that do not exist.
const ABSENT: &str = "-absent";

/// Returns the outcome of a cell of the matrix. A denial is the same for a missing repository.
fn outcome(
    account: &Account,
    layers: Layers,
    person: &Person,
    line: &str,
    target: Target,
) -> &'static str {
    let name = repository_name(layers, person, target);
    let organization = target.of(person);
    let run = |name: &str| {
        let line = line.replace("NAME", name).replace("PERSON", person.id());
        let line = format!("{line} --organization {organization}");
        account.sandbox.finish(&mut account.command(layers, person, &line))
    };
    let ended = run(&name);
    match ended.code {
        0 if line.starts_with("--list-repositories") => {
            let listed = ended.stdout.lines().any(|line| line.ends_with(&format!("/{name}")));
            if listed { "yes" } else { "nothing" }
        }
        0 if line.starts_with("--login") => {
            let curl = account.curl(ended.stdout.trim_end());
            let url = format!("/v2/prod/{organization}/{name}/manifests/v1");
            match curl.send("GET", &url, &[]).status {
                200 => "yes",
                403 => "no",
                404 => "nothing",
                status => panic!("{person}: {line}: {status}"),
            }
        }
        0 => "yes",
        NOT_PERMITTED_CODE => {
            let absent = run(&format!("{name}{ABSENT}"));
            // Each AWS request has a different identifier.
            let message = |stderr: &str| stderr.split(" (AWS request ").next().unwrap().to_owned();
            let alike = message(&absent.stderr.replace(ABSENT, ""));
            assert_eq!(
                (absent.code, alike),
                (NOT_PERMITTED_CODE, message(&ended.stderr)),
                "{line}"
            );
            assert_eq!(ended.stdout, "", "{line}");
            "no"
        }
        5 => "nothing",
        _ => panic!("{person}: {line}: {ended:?}"),
    }
}

/// Runs all operations of a person, and returns the differences from the matrix.
fn differences(account: &Account, layers: Layers, person: &Person) -> Vec<String> {
    let mut differences = Vec::new();
    for (operation, line) in OPERATIONS {
        for target in Target::ALL {
            let ended = outcome(account, layers, person, line, target);
            let expected = reviewed_outcome(layers, person, operation, target);
            if ended != expected {
                let what = format!("{person}: {operation} ({}): {ended}", target.word());
                differences.push(format!("{what}, and not {expected}, by {}", layers.title()));
            }
        }
    }
    differences
}

/// Checks people, two at a time, since each process uses a processor.
fn check(layers: Layers, people: &[&Person]) {
    let account = Account::of_the_matrix();
    let (left, right) = people.split_at(people.len().div_ceil(2));
    let all = |people: &[&Person]| -> Vec<String> {
        people.iter().flat_map(|person| differences(&account, layers, person)).collect()
    };
    let found = thread::scope(|scope| {
        let left = scope.spawn(|| all(left));
        let right = all(right);
        [left.join().unwrap(), right].concat()
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn policy_permits_the_program_as_reviewed() {
    // The other people differ only in their organizations.
    check(Layers::Policy, &[&PEOPLE[0], &PEOPLE[4], &PEOPLE[6], &PEOPLE[7]]);
}

#[test]
fn aws_permits_the_program_as_reviewed() {
    // An administrator of the global organization needs both roles, and an AWS user cannot switch between them.
    check(Layers::Aws, &[&PEOPLE[0], &PEOPLE[4], &PEOPLE[6]]);
}

#[test]
fn token_permits_the_program_as_reviewed() {
    check(Layers::Both, &PEOPLE.iter().collect::<Vec<_>>());
}

#[test]
fn overfull_token_is_explained() {
    let account = Account::new();
    let message = "Packed policy consumes 110% of allotted space, please use smaller policy.";
    let fault = Fault::error("PackedPolicyTooLarge", message);
    account.aws.inject(fault.on("sts:AssumeRoleWithWebIdentity"));
    let token = account.token_file(&PEOPLE[0].token());
    let line = format!("--list-images app --organization {OURS}");
    let run = account.sandbox.finish(&mut account.bearer(&token, &line));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stderr.contains("help: configure the identity provider to write fewer tags"),
        "{run:?}"
    );
}

#[test]
fn listings_show_own_organizations_only() {
    let sandbox = Sandbox::with_memberships();
    for (principal, organization) in [("user:alice", TBD), ("user:bob", OTHER)] {
        let create = format!("--create-repository app --organization {organization}");
        assert_eq!(sandbox.run_as(principal, &create).code, 0);
    }
    for (principal, own, foreign) in [("user:alice", TBD, OTHER), ("user:bob", OTHER, TBD)] {
        for line in ["--list-repositories", "--list-repositories --output json", "--whoami"] {
            let run = sandbox.run_as(principal, line);
            assert_eq!(run.code, 0, "{run:?}");
            assert!(run.stdout.contains(own), "{line}: {run:?}");
            assert!(!run.stdout.contains(foreign) && !run.stderr.contains(foreign), "{run:?}");
        }
        // The error for a missing organization is the same.
        let narrowed = |organization: &str| {
            let line = format!("--list-repositories --organization {organization}");
            let run = sandbox.run_as(principal, &line);
            assert_eq!(run.code, NOT_PERMITTED_CODE, "{run:?}");
            (run.stdout, run.stderr.replace(organization, "GUID"))
        };
        assert_eq!(narrowed(foreign), narrowed("99999999-9999-4999-8999-999999999999"));
    }
}
