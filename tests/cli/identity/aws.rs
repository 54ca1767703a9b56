//! Identities on ECR: AWS callers in the memberships file, and tokens without AWS credentials.

use std::process::Command;
use std::time::{Duration, SystemTime};

use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_fakes::aws::{IdentityProvider, Role, User};
use insta::assert_snapshot;

use super::{DEFAULT_FILE, alice, provider, write_token};
use crate::ecr::{Cloud, alice as caller};
use crate::sandbox::{OTHER, Run, TBD};

pub(crate) const ACCESS: &str = "ark-access";
const ADMINISTRATOR: &str = "ark-administrator";

/// Returns AWS with two roles that tokens of the provider may assume, with all permissions.
pub(crate) fn cloud(provider: &TokenIssuer) -> Cloud {
    let known = IdentityProvider::new(provider.issuer(), provider.key_set_json());
    let known = known.with_audience(provider.audience());
    Cloud::with(|account| {
        account
            .with_identity_provider(known)
            .with_role(by_token(ACCESS))
            .with_role(by_token(ADMINISTRATOR))
    })
}

fn by_token(name: &str) -> Role {
    let trust = r#"{
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {
                "Federated": "arn:aws:iam::095412845506:oidc-provider/auth.example.com"
            },
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
            "Condition": {"StringEquals": {"auth.example.com:aud": "ark"}}
        }
    }"#;
    Role::new(name).with_trust_policy(trust).with_policy(
        r#"{
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Allow",
                "Action": ["ecr:*", "tag:GetResources"],
                "Resource": "*"
            }
        }"#,
    )
}

pub(crate) fn arn(role: &str) -> String {
    format!("arn:aws:iam::095412845506:role/{role}")
}

/// Returns the program without AWS credentials.
fn without_credentials(cloud: &Cloud, line: &str) -> Command {
    let mut command = cloud.sandbox.command(&format!("--quiet {line}"));
    command
        .env("ARK_REGISTRY", format!("ecr://{}/prod", cloud.aws.host()))
        .env("AWS_ENDPOINT_URL", cloud.aws.endpoint_url())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Returns the program without AWS credentials, with the role for tokens.
fn command(cloud: &Cloud, line: &str) -> Command {
    let mut command = without_credentials(cloud, line);
    command.env("ARK_ROLE_ARN", arn(ACCESS));
    command
}

fn run(cloud: &Cloud, line: &str) -> Run {
    cloud.sandbox.finish(&mut command(cloud, line))
}

fn reported(cloud: &Cloud, run: &Run) -> String {
    let text = format!("exit {}\n{}{}", run.code, run.stdout, run.stderr);
    cloud.settled(&text).replace(&cloud.host(), "HOST")
}

/// Writes a token to the default file of `ark-auth-tool`.
pub(crate) fn write_default_token(cloud: &Cloud, provider: &TokenIssuer, token: &TestToken) {
    write_token(&cloud.sandbox, DEFAULT_FILE, &provider.token(token).unwrap());
}

/// Returns a token of carol, an administrator of [`TBD`].
fn carol() -> TestToken {
    TestToken::new(&"user:carol".parse().unwrap()).with_administers([TBD.parse().unwrap()])
}

#[test]
fn token_needs_no_aws_credentials() {
    let provider = provider();
    let cloud = cloud(&provider);
    write_default_token(&cloud, &provider, &alice());
    cloud.sandbox.write_image("sample", "hello");
    for line in [
        format!("--create-repository a --organization {TBD}"),
        format!("--push a:v1 --from oci:sample --organization {TBD}"),
        format!("--list-images a --organization {TBD}"),
        format!("--login a --organization {TBD}"),
        "--list-repositories".to_owned(),
    ] {
        let run = run(&cloud, &line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }
    let signed: Vec<String> =
        cloud.aws.calls().into_iter().filter_map(|call| call.principal).collect();
    let session = "arn:aws:sts::095412845506:assumed-role/ark-access/user.alice";
    assert!(!signed.is_empty() && signed.iter().all(|arn| arn == session), "{signed:?}");
    assert_snapshot!(reported(&cloud, &run(&cloud, "--whoami")), @"
    exit 0
    Principal      user:alice
    Kind           user
    Identity       the token in ~/.cache/tbd/jwt.json (a role is set, and no AWS credentials were chosen)
    Organizations  2ea25035-6aa4-42fb-9955-92288ea1b972 (member)
    Memberships    in the token
    Audit          no file
    Registry       ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod
    Host           095412845506.dkr.ecr.us-east-1.amazonaws.com
    AWS account    095412845506
    AWS identity   arn:aws:sts::095412845506:assumed-role/ark-access/user.alice
    Role           arn:aws:iam::095412845506:role/ark-access
    To administer  none
    Credentials    narrowed to one repository, and to pull, push or delete in it
    Isolation      the policy, the scope of credentials, IAM
    ");
}

#[test]
fn foreign_organization_is_denied_without_a_call() {
    let provider = provider();
    let cloud = cloud(&provider);
    write_default_token(&cloud, &provider, &alice());
    let login = format!("--login a --organization {OTHER}");
    assert_snapshot!(reported(&cloud, &run(&cloud, &login)), @"
    exit 4
    error: user:alice may not pull from prod/11111111-2222-3333-4444-555555555555/a
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
            a token has the memberships of the time when it was issued; for a new one, run `ark-auth-tool -u <user>`
    ");
    assert!(cloud.aws.calls().is_empty(), "{:?}", cloud.aws.calls());
}

#[test]
fn cached_login_is_for_the_same_token() {
    let provider = provider();
    let cloud = cloud(&provider);
    write_default_token(&cloud, &provider, &alice());
    let login = format!("--login a --organization {TBD}");
    let first = run(&cloud, &login);
    assert_eq!(first.code, 0, "{first:?}");
    cloud.aws.forget_calls();
    assert_eq!(run(&cloud, &login).stdout, first.stdout);
    assert!(cloud.aws.calls().is_empty(), "{:?}", cloud.aws.calls());
    write_default_token(&cloud, &provider, &carol());
    assert_ne!(run(&cloud, &login).stdout, first.stdout);
}

#[test]
fn deletions_take_the_role_of_administrators() {
    let provider = provider();
    let cloud = cloud(&provider);
    write_default_token(&cloud, &provider, &carol());
    let create = format!("--create-repository a --organization {TBD}");
    assert_eq!(run(&cloud, &create).code, 0);
    let delete = format!("--delete-repository a --organization {TBD}");
    assert_snapshot!(reported(&cloud, &run(&cloud, &delete)), @"
    exit 2
    error: ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod has no IAM role to delete or set policies by token, or to change the global organization: set administrator_role_arn
    ");
    let mut delete = command(&cloud, &delete);
    delete.env("ARK_ADMINISTRATOR_ROLE_ARN", arn(ADMINISTRATOR));
    cloud.aws.forget_calls();
    let deleted = cloud.sandbox.finish(&mut delete);
    assert_eq!(deleted.code, 0, "{deleted:?}");
    let calls = cloud.aws.calls();
    let call = calls.iter().find(|call| call.action == "ecr:DeleteRepository").unwrap();
    let by = call.principal.as_deref().unwrap();
    assert!(by.contains(":assumed-role/ark-administrator/"), "{by}");
}

#[test]
fn missing_expired_and_refused_tokens_are_reported() {
    let provider = provider();
    let cloud = cloud(&provider);
    let reported = |line: &str| reported(&cloud, &run(&cloud, line));
    let nobody = reported("--list-repositories");
    let (_, help) = nobody.split_once("\n  help: ").unwrap();
    assert_snapshot!(help, @"
    to use a token instead: run `ark-auth-tool -u <user>`
            for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
    assert!(nobody.starts_with("exit 3\n"), "{nobody}");
    let past = SystemTime::now() - Duration::from_secs(3600);
    write_default_token(&cloud, &provider, &alice().expiring_at(past));
    let expired = reported("--list-repositories");
    assert!(expired.starts_with("exit 3\nerror: not authenticated: the token in ~"), "{expired}");
    assert!(expired.ends_with("\n  help: run `ark-auth-tool -u <user>`\n"), "{expired}");
    write_default_token(&cloud, &super::provider(), &alice());
    assert_snapshot!(reported("--list-repositories"), @"
    exit 3
    error: not authenticated: cannot assume the role arn:aws:iam::095412845506:role/ark-access for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: AWS rejected the token in ~/.cache/tbd/jwt.json: InvalidIdentityToken: The ID Token provided is not a valid JWT: its signature is wrong (AWS request REQUEST)
      help: run `ark-auth-tool -u <user>`
    ");
    write_default_token(&cloud, &provider, &alice().with_claim("aud", "other"));
    assert_snapshot!(reported("--list-repositories"), @"
    exit 3
    error: not authenticated: cannot assume the role arn:aws:iam::095412845506:role/ark-access for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: AWS rejected the token in ~/.cache/tbd/jwt.json: InvalidIdentityToken: Incorrect token audience (AWS request REQUEST)
      help: run `ark-auth-tool -u <user>`
    ");
}

#[test]
fn named_token_needs_a_role() {
    let provider = provider();
    let cloud = cloud(&provider);
    let whoami = |command: &mut Command| {
        reported(&cloud, &cloud.sandbox.finish(command.env("ARK_JWT_FILE", "token")))
    };
    assert_snapshot!(whoami(&mut without_credentials(&cloud, "--whoami")), @"
    exit 2
    error: ARK_JWT_FILE: a token needs a role to access AWS, and no role is set
      help: set the role to assume with your token: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN
    ");
    assert_snapshot!(whoami(&mut command(&cloud, "--whoami")), @"
    exit 3
    error: not authenticated: there is no token: the file token does not exist
      help: write a new token to token; or remove the setting of this file (ARK_JWT_FILE), and run `ark-auth-tool -u <user>`
    ");
    let robot = alice().with_claim("kind", "robot").with_claim("sub", "build");
    write_token(&cloud.sandbox, "token", &provider.token(&robot).unwrap());
    let report = whoami(&mut command(&cloud, "--whoami"));
    assert!(report.starts_with("exit 0\nPrincipal      robot:build\n"), "{report}");
    // An option overrides the environment.
    let typed = whoami(&mut command(&cloud, "--whoami --profile builds"));
    assert!(typed.contains("the profile \"builds\""), "{typed}");
}

#[test]
fn robots_log_in_to_pull_and_may_not_push() {
    let provider = provider();
    let cloud = cloud(&provider);
    let robot = alice().with_claim("kind", "robot").with_claim("sub", "build");
    write_default_token(&cloud, &provider, &robot);
    let login = format!("--login a --organization {TBD}");
    let scope = run(&cloud, &format!("{login} --output json")).stdout;
    assert!(scope.contains(":pull\""), "{scope}");
    assert_snapshot!(reported(&cloud, &run(&cloud, &format!("{login} --access push"))), @"
    exit 4
    error: robot:build may not push to prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
            a token has the memberships of the time when it was issued; for a new one, run `ark-auth-tool -u <user>`
    ");
}

/// Memberships file that maps the AWS user alice to a robot.
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

/// Returns AWS with alice, and with another administrator who is not in the memberships file.
fn cloud_with_memberships() -> Cloud {
    let cloud = Cloud::with(|account| account.with_user(stranger()));
    cloud.sandbox.write("memberships.toml", MEMBERSHIPS);
    cloud
}

fn stranger() -> User {
    User::administrator("stranger")
}

fn command_as(cloud: &Cloud, user: &User, line: &str) -> Command {
    cloud.command_as(user, &format!("--quiet --memberships memberships.toml {line}"))
}

fn reported_as(cloud: &Cloud, user: &User, line: &str) -> String {
    let run = cloud.sandbox.finish(&mut command_as(cloud, user, line));
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr).replace(&cloud.host(), "HOST")
}

#[test]
fn memberships_file_names_the_aws_caller() {
    let cloud = cloud_with_memberships();
    assert_snapshot!(reported_as(&cloud, &caller(), "--whoami"), @"
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
    Credentials    not narrowed: a password reaches all that the identity can; to narrow it, set a role that can be assumed: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN
    Isolation      the policy, IAM
    ");
    let create = |organization| format!("--create-repository a --organization {organization}");
    assert_snapshot!(reported_as(&cloud, &caller(), &create(TBD)), @"
    exit 0
    HOST/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a
    ");
    cloud.aws.forget_calls();
    assert_snapshot!(reported_as(&cloud, &caller(), &create(OTHER)), @"
    exit 4
    error: robot:build may not create prod/11111111-2222-3333-4444-555555555555/a
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
    let calls: Vec<String> = cloud.aws.calls().into_iter().map(|call| call.action).collect();
    assert_eq!(calls, ["sts:GetCallerIdentity"], "the policy decides before the call");
}

#[test]
fn created_by_tag_names_the_principal() {
    let cloud = cloud_with_memberships();
    let create = format!("--create-repository a --organization {TBD} --output json");
    let run = cloud.sandbox.finish(&mut command_as(&cloud, &caller(), &create));
    let created: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(created["resource_tags"]["ark:created-by"], "robot:build", "{created}");
}

#[test]
fn unlisted_aws_caller_has_no_organization() {
    let cloud = cloud_with_memberships();
    assert_snapshot!(reported_as(&cloud, &stranger(), "--whoami"), @"
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
    Credentials    not narrowed: a password reaches all that the identity can; to narrow it, set a role that can be assumed: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN
    Isolation      the policy, IAM
    ");
    let list = format!("--list-repositories --organization {TBD}");
    assert_snapshot!(reported_as(&cloud, &stranger(), &list), @"
    exit 4
    error: user:arn:aws:iam::095412845506:user/stranger may not list the repositories of organization 2ea25035-6aa4-42fb-9955-92288ea1b972
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
    ");
}

#[test]
fn cached_login_makes_no_call() {
    let cloud = Cloud::new();
    let login = format!("--quiet --login a --organization {TBD}");
    for calls in [true, false] {
        cloud.aws.forget_calls();
        let run = cloud.sandbox.finish(&mut cloud.narrowed_command(&login));
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(!cloud.aws.calls().is_empty(), calls, "{:?}", cloud.aws.calls());
    }
}
