//! Errors of AWS ECR registries before a successful call to AWS.

use std::net::TcpListener;

use insta::assert_snapshot;

use super::reported;
use crate::sandbox::{Sandbox, TBD};

const REGISTRY: &str = "ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod";

/// Returns the error of a run on the registry, with only these variables.
fn with(variables: &[(&str, &str)], line: &str) -> String {
    in_sandbox(&Sandbox::new(), variables, line)
}

fn in_sandbox(sandbox: &Sandbox, variables: &[(&str, &str)], line: &str) -> String {
    let mut command = sandbox.command(&format!("--quiet {line}"));
    command.env("ARK_REGISTRY", REGISTRY).env("AWS_EC2_METADATA_DISABLED", "true");
    reported(&sandbox.finish(command.envs(variables.iter().copied())))
}

#[test]
fn invalid_ecr_host_is_rejected() {
    let list = |host: &str| with(&[], &format!("--list-repositories --registry ecr://{host}"));
    assert_snapshot!(list("registry.example/prod"), @r#"
    exit 2
    error: --registry: "registry.example" is not a valid ECR host: an account has 12 digits (<account>.dkr.ecr.<region>.amazonaws.com): invalid at character 1
      help: for example: ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod
    "#);
    assert_snapshot!(list("95412845506.dkr.ecr.us-east-1.amazonaws.com/prod"), @r#"
    exit 2
    error: --registry: "95412845506.dkr.ecr.us-east-1.amazonaws.com" is not a valid ECR host: an account has 12 digits (<account>.dkr.ecr.<region>.amazonaws.com): invalid at character 12
      help: for example: ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod
    "#);
    assert_snapshot!(list("095412845506.dkr.ecr.cn-north-1.amazonaws.com/prod"), @r#"
    exit 2
    error: --registry: "095412845506.dkr.ecr.cn-north-1.amazonaws.com" is not a valid ECR host: a host in cn-north-1 ends with amazonaws.com.cn: invalid at character 33
      help: for example: ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod
    "#);
}

#[test]
fn other_region_is_rejected() {
    assert_snapshot!(with(&[], "--list-repositories --region eu-west-1"), @"
    exit 2
    error: --region eu-west-1: the registry 095412845506.dkr.ecr.us-east-1.amazonaws.com is in us-east-1
      help: omit --region, or choose the registry of that region with --registry
    ");
}

#[test]
fn aws_options_for_local_registry_are_rejected() {
    let local = |option| with(&[], &format!("--list-repositories --registry local: {option}"));
    assert_snapshot!(local("--region us-east-1"), @"
    exit 2
    error: --region: local: is not in AWS
      help: choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com
    ");
    assert_snapshot!(local("--profile builds"), @"
    exit 2
    error: --profile: local: is not in AWS
      help: choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com
    ");
}

#[test]
fn invalid_aws_settings_are_rejected() {
    let sandbox = Sandbox::new();
    sandbox.write("config/ark/container.toml", "[ecr]\nrole = \"x\"\n");
    assert_snapshot!(in_sandbox(&sandbox, &[], "--whoami"), @"
    exit 2
    error: ~/config/ark/container.toml:2:1: unknown field `role`, expected one of `profile`, `role_arn`, `administrator_role_arn`, `require_scoped`, `repository_policy`, `external_id`, `source_identity`, `additional_actions`
    ");
    assert_snapshot!(with(&[("ARK_REQUIRE_SCOPED", "yes")], "--whoami"), @r#"
    exit 2
    error: ARK_REQUIRE_SCOPED: "yes" is neither true nor false
    "#);
}

#[test]
fn invalid_role_arn_is_rejected() {
    let login = format!("--login a --organization {TBD}");
    assert_snapshot!(with(&[("ARK_ROLE_ARN", "ark-registry")], &login), @r#"
    exit 2
    error: ARK_ROLE_ARN: "ark-registry" is not a valid ARN of a role: it does not have the form (arn:<partition>:iam::<account>:role/<name>)
      help: for example: arn:aws:iam::123456789012:role/NAME
    "#);
    let sandbox = Sandbox::new();
    let role = "[ecr]\nrole_arn = \"arn:aws:iam::095412845506:user/alice\"\n";
    sandbox.write("config/ark/container.toml", role);
    assert_snapshot!(in_sandbox(&sandbox, &[], &login), @r#"
    exit 2
    error: ~/config/ark/container.toml:2:12: "arn:aws:iam::095412845506:user/alice" is not a valid ARN of a role: it is not a role (arn:<partition>:iam::<account>:role/<name>)
    "#);
}

#[test]
fn require_scoped_without_role_is_rejected() {
    let login = format!("--login a --organization {TBD}");
    assert_snapshot!(with(&[("ARK_REQUIRE_SCOPED", "true")], &login), @"
    exit 2
    error: credentials limited to repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:pull,push need an IAM role; set role_arn for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod, or allow wider credentials with require_scoped = false
    ");
}

#[test]
fn ark_principal_for_ecr_is_rejected() {
    assert_snapshot!(with(&[("ARK_PRINCIPAL", "robot:nightly")], "--whoami"), @"
    exit 2
    error: ARK_PRINCIPAL: supported for local registries only
      help: unset ARK_PRINCIPAL; on ecr: AWS determines the principal
    ");
}

#[test]
fn serve_of_ecr_registry_is_rejected() {
    assert_snapshot!(with(&[], "--serve"), @"
    exit 2
    error: ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod is not a folder on this machine
      help: for a registry on this machine: --registry local:
    ");
}

#[test]
fn missing_aws_credentials_are_reported() {
    for line in [
        format!("--login a --organization {TBD}"),
        "--list-repositories".to_owned(),
        format!("--create-repository a --organization {TBD}"),
        "--whoami".to_owned(),
    ] {
        assert!(with(&[], &line).starts_with("exit 3\n"), "{line}: {}", with(&[], &line));
    }
    assert_snapshot!(with(&[], "--list-repositories"), @"
    exit 3
    error: not authenticated: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: no AWS credentials were found: run `aws configure --profile default` or `aws login --profile default`
      help: to use a token instead: run `ark-auth-tool -u <user>`, and set the role for your tokens: role_arn in the table [ecr] of the configuration file, or ARK_ROLE_ARN
            for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
}

#[test]
fn missing_aws_profile_is_reported() {
    assert_snapshot!(with(&[], "--list-repositories --profile builds"), @r#"
    exit 3
    error: not authenticated: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: the profile "builds" does not exist in the AWS configuration, or has no credentials: run `aws configure --profile builds` or `aws login --profile builds`
      help: for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    "#);
}

#[test]
fn unreachable_endpoint_is_temporary() {
    // A port that was free just before.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let endpoint = format!("http://{free}");
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "example"),
    ];
    let list = with(&variables, "--list-repositories").replace(&free, "127.0.0.1:PORT");
    assert_snapshot!(list, @"
    exit 7
    error: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: its AWS endpoint cannot be reached: io error: client error (Connect): tcp connect error: Connection refused (os error 111)
      help: try again in a while
    ");
    let login = with(&variables, &format!("--login a --organization {TBD}"));
    assert_snapshot!(login.replace(&free, "127.0.0.1:PORT"), @"
    exit 7
    error: cannot get a login for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: its AWS endpoint cannot be reached: io error: client error (Connect): tcp connect error: Connection refused (os error 111)
      help: try again in a while
    ");
}

#[test]
fn ecr_settings_for_local_registry_are_rejected() {
    let create = |option: &str| {
        let line = "--create-repository a --registry local: --organization";
        with(&[], &format!("{line} {TBD} {option}"))
    };
    assert_snapshot!(create("--encryption kms"), @"
    exit 2
    error: a local registry does not support encryption
    ");
    assert_snapshot!(create("--scan-on-push"), @"
    exit 2
    error: a local registry does not support scan on push
    ");
    let sandbox = Sandbox::new();
    sandbox.write("policy.json", "{}");
    let line = format!("--create-repository a --registry local: --organization {TBD}");
    let line = format!("{line} --lifecycle-policy policy.json");
    assert_snapshot!(in_sandbox(&sandbox, &[], &line), @"
    exit 2
    error: a local registry does not support lifecycle policies
    ");
}

#[test]
fn invalid_create_options_are_rejected() {
    let create =
        |option: &str| with(&[], &format!("--create-repository a --organization {TBD} {option}"));
    assert_snapshot!(create("--encryption rot13"), @"
    exit 2
    error: invalid value 'rot13' for '--encryption <HOW>': expected aes256, kms, kms:KEY, kms-dsse or kms-dsse:KEY

    For more information, try '--help'.
    ");
    assert_snapshot!(create("--except-tags a/b"), @r#"
    exit 2
    error: --except-tags: "a/b" is not a valid tag pattern: '/' is not allowed at character 2
      help: use letters, digits, '_', '.', '-' and up to two '*', such as 'dev-*'
    "#);
    assert_snapshot!(create("--lifecycle-policy none.json"), @"
    exit 5
    error: --lifecycle-policy: file none.json does not exist
    ");
}
