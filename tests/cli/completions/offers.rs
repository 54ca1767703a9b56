//! What is offered, by each shell.

use std::process::Command;

use super::shell::Shell;
use crate::ecr::Cloud;
use crate::sandbox::{OTHER, Sandbox, TBD};

/// A home of alice's, with repositories of hers and of others.
fn home() -> Sandbox {
    let sandbox = Sandbox::with_memberships();
    for name in ["catalog/extract-video", "catalog/extract-gps", "test/repo"] {
        let create = format!("--create-repository {name} --organization {TBD}");
        assert_eq!(sandbox.run_as("user:alice", &create).code, 0);
    }
    let create = format!("--create-repository catalog/secret --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    sandbox.write_image("layout", "hello");
    for tag in ["v1", "v2"] {
        let push = format!("--push test/repo:{tag} --from oci:layout --organization {TBD}");
        assert_eq!(sandbox.run_as("user:alice", &push).code, 0);
    }
    sandbox
}

fn alice(sandbox: &Sandbox) -> Command {
    let mut tool = sandbox.command("");
    tool.env("ARK_PRINCIPAL", "user:alice");
    tool
}

#[test]
fn operations_options_and_what_the_registry_has_wherever_they_can_be_typed() {
    let sandbox = home();
    let in_tbd = format!("--organization {TBD}");
    let owned = |line: &str| line.replace("OWNER", &in_tbd);
    for shell in Shell::ALL {
        for (line, offered) in [
            ("--list-", &["--list-images", "--list-repositories"][..]),
            ("list-", &["list-images", "list-repositories"]),
            ("--comp", &["--completions"]),
            ("--login --acc", &["--access"]),
            ("--login x --access pu", &["pull", "push"]),
            ("--login catalog/", &["catalog/extract-gps", "catalog/extract-video"]),
            ("login catalog/", &["catalog/extract-gps", "catalog/extract-video"]),
            ("OWNER --login=catalog/extract-g", &["--login=catalog/extract-gps"]),
            ("--create-repository new --organization ", &[TBD]),
            ("--push te", &["test/repo"]),
            (
                "--copy test/repo:v1 OWNER --to cat",
                &["catalog/extract-gps", "catalog/extract-video"],
            ),
            ("--delete-image te", &["test/repo:"]),
            ("OWNER --delete-image test/repo:v1", &["test/repo:v1"]),
            ("--push x --from docker-", &["docker-archive:", "docker-daemon:"]),
            ("--push x --from oci:lay", &["oci:layout"]),
            ("--memberships lay", &["layout"]),
        ] {
            let words = shell.offers(&sandbox, &alice(&sandbox), &owned(line));
            assert_eq!(words, offered, "{shell:?}: {line}");
        }
    }
}

#[test]
fn bash_replaces_what_follows_the_last_colon_and_the_others_the_word() {
    let sandbox = home();
    let line = format!("--organization {TBD} --pull test/repo:");
    for shell in Shell::ALL {
        let words = shell.offers(&sandbox, &alice(&sandbox), &line);
        let second = if shell == Shell::Bash { "v2" } else { "test/repo:v2" };
        assert_eq!(words, ["test/repo:v1", second], "{shell:?}");
    }
}

#[test]
fn on_aws_too() {
    let cloud = Cloud::new();
    cloud.create(&["catalog/extract-gps", "catalog/extract-video"]);
    for shell in Shell::ALL {
        let offers = |line: &str| shell.offers(&cloud.sandbox, &cloud.command(""), line);
        let names = ["catalog/extract-gps", "catalog/extract-video"];
        assert_eq!(offers(&format!("--organization {TBD} --login ca")), names);
        assert_eq!(offers("--login ca"), names);
        assert_eq!(offers("--list-repositories --organization "), [TBD]);
    }
}
