//! Callers of AWS, as the memberships file names them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use ark_container_fakes::aws::User;
use insta::assert_snapshot;

use crate::ecr::{Cloud, alice};
use crate::sandbox::{OTHER, TBD};

/// Who is who, and who belongs where.
const MEMBERSHIPS: &str = r#"
[[organization]]
id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
members = ["robot:build"]
[organization.rules]
robot = ["read", "create"]

[[aws]]
arn = "arn:aws:iam::095412845506:user/alice"
principal = "robot:build"
"#;

/// AWS with a user beside alice who may do everything there and is in no memberships file.
fn cloud() -> Cloud {
    let cloud = Cloud::with(|account| account.user(stranger()));
    cloud.sandbox.write("memberships.toml", MEMBERSHIPS);
    cloud
}

fn stranger() -> User {
    User::administrator("stranger")
}

fn command(cloud: &Cloud, user: &User, line: &str) -> Command {
    cloud.command_as(user, &format!("--quiet --memberships memberships.toml {line}"))
}

fn told(cloud: &Cloud, user: &User, line: &str) -> String {
    let run = cloud.sandbox.finish(&mut command(cloud, user, line));
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr).replace(&cloud.host(), "HOST")
}

#[test]
fn the_file_says_which_principal_a_caller_is() {
    let cloud = cloud();
    assert_snapshot!(told(&cloud, &alice(), "--whoami"), @"
    exit 0
    Principal      robot:build
    Kind           robot
    Identity       the AWS caller (AWS_ACCESS_KEY_ID)
    Organizations  2ea25035-6aa4-42fb-9955-92288ea1b972 (member)
    Memberships    memberships.toml
    Audit          no file
    Registry       ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod
    Host           095412845506.dkr.ecr.us-east-1.amazonaws.com
    AWS account    095412845506
    AWS identity   arn:aws:iam::095412845506:user/alice
    Profile        none chosen
    Role           none
    Credentials    not narrowed: a password reaches all that the identity does; to narrow it, set a role that can be assumed: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN
    Isolation      the policy, IAM
    ");
    let create = |organization| format!("--create-repository a --organization {organization}");
    assert_snapshot!(told(&cloud, &alice(), &create(TBD)), @"
    exit 0
    HOST/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a
    ");
    cloud.aws.forget_calls();
    assert_snapshot!(told(&cloud, &alice(), &create(OTHER)), @"
    exit 4
    error: robot:build may not create prod/11111111-2222-3333-4444-555555555555/a
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows who you are and where you belong
    ");
    let calls: Vec<String> = cloud.aws.calls().into_iter().map(|call| call.action).collect();
    assert_eq!(calls, ["sts:GetCallerIdentity"], "the policy comes first");
}

#[test]
fn what_is_done_in_aws_is_done_in_the_principals_name() {
    let cloud = cloud();
    let create = format!("--create-repository a --organization {TBD} --output json");
    let run = cloud.sandbox.finish(&mut command(&cloud, &alice(), &create));
    let created: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(created["resource_tags"]["ark:created-by"], "robot:build", "{created}");
}

#[test]
fn a_caller_of_whom_the_file_is_silent_belongs_nowhere() {
    let cloud = cloud();
    assert_snapshot!(told(&cloud, &stranger(), "--whoami"), @"
    exit 0
    Principal      user:arn:aws:iam::095412845506:user/stranger
    Kind           user
    Identity       the AWS caller (AWS_ACCESS_KEY_ID)
    Organizations  none
    Memberships    memberships.toml
    Audit          no file
    Registry       ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod
    Host           095412845506.dkr.ecr.us-east-1.amazonaws.com
    AWS account    095412845506
    AWS identity   arn:aws:iam::095412845506:user/stranger
    Profile        none chosen
    Role           none
    Credentials    not narrowed: a password reaches all that the identity does; to narrow it, set a role that can be assumed: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN
    Isolation      the policy, IAM
    ");
    let list = format!("--list-repositories --organization {TBD}");
    assert_snapshot!(told(&cloud, &stranger(), &list), @"
    exit 4
    error: user:arn:aws:iam::095412845506:user/stranger may not list the repositories of organization 2ea25035-6aa4-42fb-9955-92288ea1b972
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows who you are and where you belong
    ");
}

#[test]
fn without_a_file_a_login_from_the_cache_calls_nobody() {
    let cloud = Cloud::new();
    let login = format!("--quiet --login a --organization {TBD}");
    for calls in [true, false] {
        cloud.aws.forget_calls();
        let run = cloud.sandbox.finish(&mut cloud.narrowed_command(&login));
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(!cloud.aws.calls().is_empty(), calls, "{:?}", cloud.aws.calls());
    }
}

#[test]
fn a_file_that_others_can_write_says_nothing() {
    let cloud = cloud();
    let open = Permissions::from_mode(0o666);
    fs::set_permissions(cloud.sandbox.path("memberships.toml"), open).unwrap();
    assert_snapshot!(told(&cloud, &alice(), "--whoami"), @"
    exit 2
    error: other users can write to the memberships file memberships.toml, and could give themselves rights in it; close it to them: chmod go-w memberships.toml
    ");
    assert!(cloud.aws.calls().is_empty());
}
