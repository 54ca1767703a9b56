//! `--check-access`: decisions and their reasons, without performing the action.

use ark_container_core::testing::{TestToken, TokenIssuer};
use insta::assert_snapshot;
use serde_json::json;

use crate::ecr::Cloud;
use crate::sandbox::{OTHER, Sandbox, TBD};

/// Returns the exit code and the output of `--check-access`, run by alice.
fn reported(sandbox: &Sandbox, line: &str) -> String {
    let run = sandbox.run_as("user:alice", &format!("--quiet --check-access {line}"));
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}

#[test]
fn answer_names_rule_origin_and_isolation_layers() {
    let sandbox = Sandbox::with_memberships();
    let path = format!("--repository prod/{TBD}/a");
    assert_snapshot!(reported(&sandbox, &format!("--action push {path}")), @"
    exit 0
    Principal      user:alice
    Action         push
    Organization   2ea25035-6aa4-42fb-9955-92288ea1b972
    Repository     prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a
    Decision       allowed
    Rule           member: members may read, and users among them may create repositories and push
    Written in     ~/data/ark/registry/memberships.toml:3
    Enforced by    the policy, the scope of credentials
    ");
    let robot = "--principal robot:nightly --action create-repository";
    assert_snapshot!(reported(&sandbox, &format!("{robot} {path}")), @"
    exit 4
    Principal      robot:nightly
    Action         create-repository
    Organization   2ea25035-6aa4-42fb-9955-92288ea1b972
    Repository     prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a
    Decision       denied
    Rule           robots-read: robots that are members may only read
    Written in     the standard rules
    Enforced by    the policy
    ");
}

#[test]
fn existence_of_a_repository_is_not_revealed() {
    let sandbox = Sandbox::with_memberships();
    let create = format!("--create-repository a --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &create).code, 0);
    let check = |name| {
        let line = format!("--action pull --repository {name} --organization {OTHER}");
        reported(&sandbox, &line).replace(&format!("/{name}\n"), "/NAME\n")
    };
    assert_eq!(check("a"), check("b"));
}

#[test]
fn repository_is_named_by_name_path_or_url() {
    let sandbox = Sandbox::with_memberships();
    let by_name =
        reported(&sandbox, &format!("--action pull --repository a/b --organization {TBD}"));
    assert!(by_name.starts_with("exit 0\n"), "{by_name}");
    for same in [
        format!("prod/{TBD}/a/b"),
        format!("127.0.0.1:5050/prod/{TBD}/a/b"),
        format!("prod/{TBD}/a/b --organization {TBD}"),
    ] {
        assert_eq!(reported(&sandbox, &format!("--action pull --repository {same}")), by_name);
    }
}

#[test]
fn token_answers_for_its_bearer_only() {
    let sandbox = Sandbox::new();
    let token =
        TestToken::new(&"user:alice".parse().unwrap()).with_organizations([TBD.parse().unwrap()]);
    let provider = TokenIssuer::new("https://auth.example.com", "ark").unwrap();
    sandbox.write("token", provider.token(&token).unwrap());
    let check = |principal: &str| {
        let line = format!("--quiet --check-access --action push --organization {TBD} {principal}");
        let mut command = sandbox.command(&line);
        let run = sandbox.finish(command.env("ARK_JWT_FILE", "token"));
        (run.code, run.stdout, run.stderr)
    };
    assert_eq!(check("").0, 0);
    assert_eq!(check("--principal user:alice"), check(""));
    let (code, _, reported) = check("--principal user:bob");
    let (_, reported) = reported.split_once("error: ").unwrap();
    assert_snapshot!(reported, @"
    --principal: the organizations of user:bob are in their token, but this token belongs to user:alice
      help: name the file of their token: export ARK_JWT_FILE=FILE
    ");
    assert_eq!(code, 2);
}

#[test]
fn json_output_is_one_object() {
    let sandbox = Sandbox::with_memberships();
    let line = format!("--check-access --action delete-image --repository prod/{TBD}/a");
    let run = sandbox.run_as("user:alice", &format!("{line} --output json --quiet"));
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let expected = json!({
        "principal": "user:alice",
        "action": "delete-image",
        "organization": TBD,
        "repository": format!("prod/{TBD}/a"),
        "allowed": false,
        "rule": "administrators-delete",
        "reason": "only administrators may delete",
        "origin": null,
        "isolation_layers": ["policy", "credentials"],
    });
    assert_eq!(answer, expected);
    assert_eq!((run.code, run.stderr.as_str()), (4, ""));
}

#[test]
fn invalid_questions_are_rejected() {
    let sandbox = Sandbox::with_memberships();
    assert_snapshot!(reported(&sandbox, "--action fly --repository a"), @"
    exit 2
    error: invalid value 'fly' for '--action <ACTION>'
      [possible values: list-repositories, create-repository, describe-repository, delete-repository, list-images, delete-image, pull, push]

    For more information, try '--help'.
    ");
    assert_snapshot!(reported(&sandbox, "--action pull"), @"
    exit 2
    error: no organization is given
      help: give --organization GUID, or set it once: export ARK_ORGANIZATION=GUID
            ark-catalog-container-tool --whoami shows your organizations
    ");
    assert_snapshot!(reported(&sandbox, "--action pull --repository a --principal bob"), @r#"
    exit 2
    error: --principal: "bob" is not a valid principal: expected <kind>:<id>
      help: for example: user:alice, robot:nightly or ingest-job:42
    "#);
    let upper = TBD.to_uppercase();
    assert_snapshot!(reported(&sandbox, &format!("--action pull --repository prod/{upper}/a")), @r#"
    exit 2
    error: --repository: "prod/2EA25035-6AA4-42FB-9955-92288EA1B972/a" is not a valid repository path: the organization must be written 2ea25035-6aa4-42fb-9955-92288ea1b972
    "#);
    let other = format!("prod/{TBD}/a --organization {OTHER}");
    assert_snapshot!(reported(&sandbox, &format!("--action pull --repository {other}")), @"
    exit 2
    error: --repository: the repository belongs to the organization 2ea25035-6aa4-42fb-9955-92288ea1b972, not to 11111111-2222-3333-4444-555555555555
    ");
    let url = format!("registry.example/prod/{TBD}/a");
    assert_snapshot!(reported(&sandbox, &format!("--action pull --repository {url}")), @"
    exit 2
    error: --repository: registry.example/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a names the registry registry.example, not 127.0.0.1:5050; the name of an image in another registry starts with docker://
      help: choose its registry: --registry LOCATION, or ARK_REGISTRY
    ");
    assert_snapshot!(reported(&sandbox, &format!("--action pull --repository dev/{TBD}/a")), @"
    exit 2
    error: --repository: dev/2ea25035-6aa4-42fb-9955-92288ea1b972/a belongs to the stage dev, but this registry uses the stage prod
      help: choose its registry: --registry LOCATION, or ARK_REGISTRY
    ");
}

#[test]
fn check_access_says_when_iam_alone_decides() {
    let cloud = Cloud::new();
    let run = cloud
        .sandbox
        .finish(&mut cloud.command(&format!("--check-access --action push --organization {TBD}")));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.ends_with("Enforced by    IAM\n"), "{run:?}");
    assert_snapshot!(run.stderr, @"note: there is no memberships file and no token, so IAM alone decides; IAM is not queried");
    assert!(cloud.aws.calls().is_empty(), "AWS is not called");
}
