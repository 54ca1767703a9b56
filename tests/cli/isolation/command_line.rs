//! The command line, on behalf of whoever asks.

use super::{NOWHERE, THERE, alike, image_of, two_organizations};
use crate::sandbox::{OTHER, TBD};

const NOT_PERMITTED: i32 = 4;

#[test]
fn every_operation_answers_alike_whether_or_not_a_foreign_repository_exists() {
    let sandbox = two_organizations();
    for (outsider, own, foreign) in [("user:alice", TBD, OTHER), ("user:bob", OTHER, TBD)] {
        let digest = image_of(foreign).digest();
        for operation in [
            "--login NAME".to_owned(),
            "--login NAME --access pull".to_owned(),
            "--login NAME --access push".to_owned(),
            "--login NAME --access delete".to_owned(),
            format!("--push NAME:v1 --from oci:{foreign}"),
            format!("--push NAME:v2 --from oci:{own}"),
            "--list-images NAME".to_owned(),
            "--create-repository NAME".to_owned(),
            "--create-repository NAME --immutable-tags".to_owned(),
            "--delete-image NAME:v1".to_owned(),
            "--delete-image NAME:v2".to_owned(),
            format!("--delete-image NAME@{digest}"),
            "--delete-repository NAME".to_owned(),
            "--delete-repository NAME --force".to_owned(),
        ] {
            for output in ["table", "json"] {
                alike(&operation, |name| {
                    let line = operation.replace("NAME", name);
                    let line = format!("{line} --organization {foreign} --output {output}");
                    let run = sandbox.run_as(outsider, &line);
                    assert_eq!((run.code, run.stdout.as_str()), (NOT_PERMITTED, ""), "{line}");
                    run.stderr
                });
            }
        }
    }
    // What was denied has changed nothing.
    for (insider, organization) in [("user:alice", TBD), ("user:bob", OTHER)] {
        let seen = |line: &str| {
            let run = sandbox.run_as(insider, &format!("{line} --organization {organization}"));
            assert_eq!(run.code, 0, "{run:?}");
            run.stdout
        };
        let repositories = seen("--list-repositories");
        assert!(repositories.contains(&format!("/{THERE}\n")), "{repositories}");
        assert!(!repositories.contains(NOWHERE), "{repositories}");
        let images = seen(&format!("--list-images {THERE}"));
        assert!(images.contains(&image_of(organization).digest().to_string()), "{images}");
        assert!(images.contains("v1") && !images.contains("v2"), "{images}");
    }
}

#[test]
fn listings_show_ones_own_organizations_alone() {
    let sandbox = two_organizations();
    for (principal, own, foreign) in [("user:alice", TBD, OTHER), ("user:bob", OTHER, TBD)] {
        for line in ["--list-repositories", "--list-repositories --output json", "--whoami"] {
            let run = sandbox.run_as(principal, line);
            assert_eq!(run.code, 0, "{run:?}");
            assert!(run.stdout.contains(own), "{line}: {run:?}");
            assert!(!run.stdout.contains(foreign) && !run.stderr.contains(foreign), "{run:?}");
        }
        // Of an organization, too, one does not learn whether it exists.
        let narrowed = |organization: &str| {
            let line = format!("--list-repositories --organization {organization}");
            let run = sandbox.run_as(principal, &line);
            assert_eq!(run.code, NOT_PERMITTED, "{run:?}");
            (run.stdout, run.stderr.replace(organization, "GUID"))
        };
        assert_eq!(narrowed(foreign), narrowed("99999999-9999-4999-8999-999999999999"));
    }
}
