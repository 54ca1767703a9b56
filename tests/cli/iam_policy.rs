//! `--iam-policy`: the printed policies, and the required settings.

use ark_container_core::backend::ecr::IamDeployment;
use ark_container_core::model::AdditionalAction;
use insta::assert_snapshot;
use serde_json::Value;

use crate::ecr::Cloud;
use crate::errors::reported;
use crate::sandbox::{Sandbox, TBD};

const REGISTRY: &str = "ecr://095412845506.dkr.ecr.eu-west-1.amazonaws.com/dev";
const SETTINGS: &str = r#"
registry = "ecr://095412845506.dkr.ecr.eu-west-1.amazonaws.com/dev"
[identity]
key_set = "keys.json"
issuer = "https://auth.example.com"
audience = "ark"
"#;

fn deployment() -> IamDeployment {
    let host = "095412845506.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
    IamDeployment::new(host, "dev".parse().unwrap(), "auth.example.com", "ark").unwrap()
}

#[test]
fn iam_policies_are_printed_in_both_formats() {
    let sandbox = Sandbox::new();
    let line = format!(
        "--iam-policy --identity-provider auth.example.com --audience ark --registry {REGISTRY}"
    );
    let policies = deployment().policies();
    let pretty = serde_json::to_string_pretty(&policies).unwrap();
    assert_eq!(sandbox.printed(&line), format!("{pretty}\n"));
    let compact = serde_json::to_string(&policies).unwrap();
    assert_eq!(sandbox.printed(&format!("{line} --output json")), format!("{compact}\n"));
    let printed: Value = serde_json::from_str(&compact).unwrap();
    assert_eq!(printed["repository_policy"], Value::Null);
    let with = deployment().with_repository_policy().policies();
    let with = format!("{}\n", serde_json::to_string_pretty(&with).unwrap());
    assert_eq!(sandbox.printed(&format!("{line} --repository-policy")), with);
}

#[test]
fn iam_policy_reads_the_configuration_file() {
    let sandbox = Sandbox::new();
    sandbox.write("config/ark/container.toml", SETTINGS);
    let policies = deployment().policies();
    let compact = format!("{}\n", serde_json::to_string(&policies).unwrap());
    assert_eq!(sandbox.printed("iam-policy --output json"), compact);
    // The setting adds the permissions, and its file is not read.
    let more = format!("{SETTINGS}[ecr]\nrepository_policy = 'missing.json'\n");
    sandbox.write("config/ark/container.toml", more);
    let policies = deployment().with_repository_policy().policies();
    let compact = format!("{}\n", serde_json::to_string(&policies).unwrap());
    assert_eq!(sandbox.printed("iam-policy --output json"), compact);
    let profile = "arn:aws:signer:eu-west-1:095412845506:/signing-profiles/release";
    let sign = AdditionalAction::new("signer:SignPayload", profile).unwrap();
    let more = format!(
        "{SETTINGS}[[ecr.additional_actions]]\naction = 'signer:SignPayload'\nresource = '{profile}'\n"
    );
    sandbox.write("config/ark/container.toml", more);
    let policies = deployment().with_additional_actions([sign]).policies();
    let compact = format!("{}\n", serde_json::to_string(&policies).unwrap());
    assert_eq!(sandbox.printed("iam-policy --output json"), compact);
    let more =
        format!("{SETTINGS}[ecr]\nadditional_actions = [{{ action = 'sign', resource = '*' }}]\n");
    sandbox.write("config/ark/container.toml", more);
    assert_snapshot!(reported(&sandbox.run("iam-policy")), @r#"
    exit 2
    error: ~/config/ark/container.toml:8:22: "sign" is not a valid action of IAM: it does not have the form <service>:<Action>
    "#);
}

#[test]
fn additional_actions_take_room_of_the_session_policy() {
    let cloud = Cloud::new();
    let profile = |number| {
        let profile = format!("arn:aws:signer:us-east-1:095412845506:/signing-profiles/{number}");
        format!("{{ action = 'signer:SignPayload', resource = '{profile}' }}, ")
    };
    let many: String = (0..20).map(profile).collect();
    let settings = format!("[ecr]\nadditional_actions = [{many}]\n");
    cloud.sandbox.write("config/ark/container.toml", settings);
    let login = |access: &str| {
        let line = format!("--login a --organization {TBD} --access {access}");
        cloud.sandbox.finish(&mut cloud.narrowed_command(&line))
    };
    assert_eq!(login("pull").code, 0);
    assert_snapshot!(reported(&login("push")), @"
    exit 2
    error: credentials for prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a need a session policy that takes 2927 characters of 2048; set fewer additional_actions
    ");
}

#[test]
fn created_repository_gets_the_configured_policy() {
    let cloud = Cloud::new();
    let policy = deployment().with_repository_policy().policies().repository_policy.unwrap();
    cloud.sandbox.write("config/ark/policy.json", policy.to_string());
    cloud.sandbox.write("config/ark/container.toml", "ecr.repository_policy = 'policy.json'\n");
    let create = format!("--create-repository a --organization {TBD}");
    for (set, read) in [(1, 0), (1, 1)] {
        let run = cloud.sandbox.finish(&mut cloud.command(&create));
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(cloud.aws.count("ecr:SetRepositoryPolicy"), set);
        assert_eq!(cloud.aws.count("ecr:GetRepositoryPolicy"), read);
    }
    cloud.sandbox.write("config/ark/policy.json", "{}");
    let run = cloud.sandbox.finish(&mut cloud.command(&create));
    assert_eq!(run.code, 6, "{run:?}");
    assert!(run.stderr.contains("already exists with another repository policy"), "{run:?}");
}

#[test]
fn unreadable_repository_policy_is_named() {
    let sandbox = Sandbox::new();
    let settings = format!("registry = '{REGISTRY}'\n[ecr]\nrepository_policy = 'missing.json'\n");
    sandbox.write("config/ark/container.toml", settings);
    let run = sandbox.finish(sandbox.command("--list-repositories").env("AWS_PROFILE", "none"));
    assert_snapshot!(reported(&run), @"
    exit 1
    error: cannot read ~/config/ark/missing.json: No such file or directory (os error 2)
      help: correct repository_policy in the table [ecr]
    ");
}

#[test]
fn iam_policy_asks_for_missing_settings() {
    let sandbox = Sandbox::new();
    let line = format!("--iam-policy --registry {REGISTRY}");
    assert_snapshot!(reported(&sandbox.run(&line)), @"
    exit 2
    error: --identity-provider is not given
      help: give it: ark-catalog-container-tool --iam-policy --identity-provider HOST
    ");
    let line = format!("{line} --identity-provider auth.example.com:8443");
    assert_snapshot!(reported(&sandbox.run(&line)), @"
    exit 2
    error: --audience is not given
      help: give it: ark-catalog-container-tool --iam-policy --audience AUDIENCE
    ");
    assert_snapshot!(reported(&sandbox.run(&format!("{line} --audience ark"))), @r#"
    exit 2
    error: "auth.example.com:8443" is not an identity provider such as auth.example.com: ':' is not allowed in it
    "#);
    let local = "--iam-policy --identity-provider auth.example.com --audience ark";
    assert_snapshot!(reported(&sandbox.run(local)), @"
    exit 2
    error: local: is not in AWS
      help: choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com
    ");
}
