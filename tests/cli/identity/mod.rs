//! Identities on a local registry: tokens, named principals, and a user without a name.

pub(crate) mod aws;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ark_container_core::testing::{TestToken, TokenIssuer};
use insta::assert_snapshot;

use crate::ecr::{Cloud, alice as administrator};
use crate::sandbox::{OTHER, Run, Sandbox, TBD};

/// Default token file of `ark-auth-tool`.
const DEFAULT_FILE: &str = ".cache/tbd/jwt.json";

/// Returns the identity provider.
pub(crate) fn provider() -> TokenIssuer {
    TokenIssuer::new("https://auth.example.com", "ark").unwrap()
}

/// Returns a token of alice, a member of [`TBD`].
pub(crate) fn alice() -> TestToken {
    TestToken::new(&"user:alice".parse().unwrap()).with_organizations([TBD.parse().unwrap()])
}

/// Writes a token to a file that only its owner can read.
fn write_token(sandbox: &Sandbox, below: &str, token: &str) -> PathBuf {
    let path = sandbox.write(below, token);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Returns the program with a named token file.
fn with_file(sandbox: &Sandbox, line: &str) -> Command {
    let mut command = sandbox.command(&format!("--quiet {line}"));
    command.env("ARK_JWT_FILE", "token");
    command
}

/// Runs the program with a named token file, and returns the exit code and both outputs.
fn reported(sandbox: &Sandbox, line: &str) -> String {
    let run = sandbox.finish(&mut with_file(sandbox, line));
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}

/// Returns a home with the named token file.
fn with_token(token: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    write_token(&sandbox, "token", token);
    sandbox
}

#[test]
fn named_token_gives_principal_and_organizations() {
    let sandbox = with_token(&provider().token(&alice()).unwrap());
    let create = |organization| format!("--create-repository a --organization {organization}");
    assert_snapshot!(reported(&sandbox, &create(TBD)), @"
    exit 0
    127.0.0.1:5050/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a
    ");
    assert_snapshot!(reported(&sandbox, &create(OTHER)), @"
    exit 4
    error: user:alice may not create prod/11111111-2222-3333-4444-555555555555/a
      help: an administrator of the organization can do it or add you; ark-catalog-container-tool --whoami shows your identity and organizations
            a token has the memberships of the time when it was issued; for a new one, run `ark-auth-tool -u <user>`
    ");
    assert_snapshot!(reported(&sandbox, "--whoami"), @"
    exit 0
    Principal      user:alice
    Kind           user
    Identity       the token in token (ARK_JWT_FILE)
    Organizations  2ea25035-6aa4-42fb-9955-92288ea1b972 (member)
    Memberships    in the token
    Audit          no file
    Registry       local:~/data/ark/registry
    Host           127.0.0.1:5050
    Served         no; to serve it: ark-catalog-container-tool --serve
    Credentials    narrowed to one repository, and to pull, push or delete in it
    Isolation      the policy, the scope of credentials
    ");
}

#[test]
fn ark_principal_overrides_a_token() {
    let sandbox = Sandbox::new();
    let mut whoami = with_file(&sandbox, "--whoami");
    let run = sandbox.finish(whoami.env("ARK_PRINCIPAL", "robot:nightly"));
    assert!(run.stdout.starts_with("Principal      robot:nightly\n"), "{run:?}");
}

#[test]
fn key_set_requires_a_valid_token() {
    let (provider, forger) = (provider(), provider());
    let sandbox = Sandbox::new();
    let keys = sandbox.write("keys.json", provider.key_set_json());
    let reported = |line: &str| {
        let mut command = sandbox.command(&format!("--quiet {line}"));
        command.env("ARK_KEY_SET", &keys).env("ARK_JWT_AUDIENCE", "ark");
        let run = sandbox.finish(&mut command);
        format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
    };
    assert_snapshot!(reported("--list-repositories"), @"
    exit 3
    error: not authenticated: there is no token: the file ~/.cache/tbd/jwt.json does not exist
      help: run `ark-auth-tool -u <user>`
    ");
    write_token(&sandbox, DEFAULT_FILE, &forger.token(&alice()).unwrap());
    assert_snapshot!(reported("--list-repositories"), @"
    exit 3
    error: not authenticated: the token in ~/.cache/tbd/jwt.json has an invalid signature
      help: run `ark-auth-tool -u <user>`
    ");
    let for_others = alice().with_claim("aud", "other");
    write_token(&sandbox, DEFAULT_FILE, &provider.token(&for_others).unwrap());
    assert_snapshot!(reported("--list-repositories"), @r#"
    exit 3
    error: not authenticated: the token in ~/.cache/tbd/jwt.json is not for "ark"
      help: run `ark-auth-tool -u <user>`
    "#);
    write_token(&sandbox, DEFAULT_FILE, &provider.unsigned(&alice()));
    assert_snapshot!(reported("--list-repositories"), @"
    exit 3
    error: not authenticated: the token in ~/.cache/tbd/jwt.json is not a signed JSON Web Token
      help: run `ark-auth-tool -u <user>`
    ");
    write_token(&sandbox, DEFAULT_FILE, &provider.token(&alice()).unwrap());
    assert_snapshot!(reported("--whoami"), @"
    exit 0
    Principal      user:alice
    Kind           user
    Identity       the token in ~/.cache/tbd/jwt.json (ARK_KEY_SET); its signature is checked with ~/keys.json
    Organizations  2ea25035-6aa4-42fb-9955-92288ea1b972 (member)
    Memberships    in the token
    Audit          no file
    Registry       local:~/data/ark/registry
    Host           127.0.0.1:5050
    Served         no; to serve it: ark-catalog-container-tool --serve
    Credentials    narrowed to one repository, and to pull, push or delete in it
    Isolation      the policy, the scope of credentials
    ");
}

#[test]
fn configuration_file_sets_token_keys_and_claims() {
    let provider = provider();
    let token = alice()
        .without_claim("kind")
        .without_claim("organizations")
        .with_claim("ark_kind", "robot")
        .with_claim("orgs", vec![TBD])
        .with_claim("name", "nightly");
    let sandbox = Sandbox::new();
    let configure = |issuer: &str| {
        let settings = format!(
            "[identity]\ntoken_file = 'token'\nkey_set = 'keys.json'\naudience = 'ark'\n\
             issuer = '{issuer}'\n[identity.claims]\nsubject = 'name'\nkind = 'ark_kind'\n\
             organizations = 'orgs'\nadministers = 'owns'\n"
        );
        sandbox.write("config/ark/container.toml", settings);
    };
    sandbox.write("config/ark/keys.json", provider.key_set_json());
    write_token(&sandbox, "config/ark/token", &provider.token(&token).unwrap());
    configure(provider.issuer());
    let report = sandbox.printed("--quiet --whoami --output json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["principal"], "robot:nightly");
    assert_eq!(report["organizations"][0]["organization"], TBD);
    let identity = serde_json::json!({
        "kind": "token",
        "origin": "~/config/ark/container.toml",
        "token_file": "~/config/ark/token",
        "key_set": "~/config/ark/keys.json",
    });
    assert_eq!(report["identity"], identity);
    configure("https://elsewhere.example.com");
    let run = sandbox.run("--quiet --whoami");
    assert_snapshot!(run.stderr, @r#"
    error: not authenticated: the token in ~/config/ark/token is not from "https://elsewhere.example.com"
      help: write a new token to ~/config/ark/token; or remove the setting of this file (~/config/ark/container.toml), and run `ark-auth-tool -u <user>`
    "#);
    assert_eq!(run.code, 3);
}

#[test]
fn missing_empty_and_expired_tokens_are_reported() {
    let sandbox = Sandbox::new();
    assert_snapshot!(reported(&sandbox, "--whoami"), @"
    exit 3
    error: not authenticated: there is no token: the file token does not exist
      help: write a new token to token; or remove the setting of this file (ARK_JWT_FILE), and run `ark-auth-tool -u <user>`
    ");
    write_token(&sandbox, "token", "");
    assert_snapshot!(reported(&sandbox, "--whoami"), @"
    exit 3
    error: not authenticated: the token in token is missing: the file is empty
      help: write a new token to token; or remove the setting of this file (ARK_JWT_FILE), and run `ark-auth-tool -u <user>`
    ");
    let past = alice().expiring_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    write_token(&sandbox, "token", &provider().token(&past).unwrap());
    assert_snapshot!(reported(&sandbox, "--whoami"), @"
    exit 3
    error: not authenticated: the token in token expired at 2023-11-14T22:13:20Z
      help: write a new token to token; or remove the setting of this file (ARK_JWT_FILE), and run `ark-auth-tool -u <user>`
    ");
    write_token(&sandbox, "token", &provider().token(&alice().without_claim("kind")).unwrap());
    assert_snapshot!(reported(&sandbox, "--whoami"), @r#"
    exit 3
    error: not authenticated: the token in token has no claim "kind"; if another claim holds the kind, name it in the setting identity.claims.kind
      help: write a new token to token; or remove the setting of this file (ARK_JWT_FILE), and run `ark-auth-tool -u <user>`
    "#);
}

#[test]
fn token_file_writable_by_others_is_rejected() {
    let sandbox = with_token(&provider().token(&alice()).unwrap());
    fs::set_permissions(sandbox.path("token"), Permissions::from_mode(0o666)).unwrap();
    assert_snapshot!(reported(&sandbox, "--whoami"), @"
    exit 2
    error: the token file token can be changed by other users
      help: restrict its permissions: chmod go-w token
    ");
}

#[test]
fn incomplete_token_settings_are_rejected() {
    let with = |variables: &[(&str, &str)]| {
        let sandbox = Sandbox::new();
        let mut command = sandbox.command("--quiet --list-repositories");
        let run = sandbox.finish(command.envs(variables.iter().copied()));
        format!("exit {}\n{}", run.code, run.stderr)
    };
    assert_snapshot!(with(&[("ARK_KEY_SET", "keys.json")]), @"
    exit 2
    error: ARK_KEY_SET: a key set without an audience would accept tokens that were issued for other services
      help: set the audience of the tokens: audience in the table [identity] of the configuration file, or ARK_JWT_AUDIENCE
    ");
    assert_snapshot!(with(&[("ARK_JWT_AUDIENCE", "ark")]), @"
    exit 2
    error: an audience or issuer is set, but no key set to verify tokens with
      help: set the keys of the identity provider: key_set in the table [identity] of the configuration file, or ARK_KEY_SET
    ");
    let plain = [("ARK_KEY_SET", "http://auth.example.com/keys"), ("ARK_JWT_AUDIENCE", "ark")];
    assert_snapshot!(with(&plain), @"
    exit 2
    error: ARK_KEY_SET: the URL of the key set must start with https://
    ");
    let no_keys = [("ARK_KEY_SET", "none.json"), ("ARK_JWT_AUDIENCE", "ark")];
    let sandbox = Sandbox::new();
    write_token(&sandbox, DEFAULT_FILE, &provider().token(&alice()).unwrap());
    let mut command = sandbox.command("--quiet --list-repositories");
    let run = sandbox.finish(command.envs(no_keys));
    assert_snapshot!(format!("exit {}\n{}", run.code, run.stderr), @"
    exit 1
    error: the token cannot be verified without the keys of none.json: file none.json does not exist
    ");
}

#[test]
fn memberships_rules_apply_to_tokens() {
    let robot = alice().with_claim("kind", "robot").with_claim("sub", "build");
    let sandbox = with_token(&provider().token(&robot).unwrap());
    let create = format!("--create-repository a --organization {TBD}");
    let run = |line: &str| sandbox.finish(&mut with_file(&sandbox, line)).code;
    assert_eq!(run(&create), 4, "robots read");
    let memberships = format!(
        "[[organization]]\nid = '{TBD}'\n[organization.rules]\nrobot = ['read', 'create']\n\
         [[organization]]\nid = '{OTHER}'\nmembers = ['robot:build']\n"
    );
    sandbox.write("data/ark/registry/memberships.toml", memberships);
    assert_eq!(run(&create), 0, "the organization's own rule");
    assert_eq!(run(&format!("--list-repositories --organization {OTHER}")), 4);
}

/// Runs a command with a user id that has no name.
///
/// `unshare` of util-linux maps the same user to another id.
fn nameless(sandbox: &Sandbox, command: &Command) -> Run {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-user=54321", "--"]).arg(command.get_program());
    unshare.args(command.get_args()).env_clear().current_dir(sandbox.path(""));
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            unshare.env(name, value);
        }
    }
    sandbox.finish(&mut unshare)
}

#[test]
fn nameless_user_needs_a_principal() {
    let sandbox = Sandbox::new();
    let run = nameless(&sandbox, &sandbox.command("--quiet --whoami"));
    assert_snapshot!(format!("exit {}\n{}", run.code, run.stderr), @"
    exit 3
    error: not authenticated: the operating system has no name for this user: Null record
      help: set the principal: export ARK_PRINCIPAL=user:NAME
    ");
    write_token(&sandbox, "token", &provider().token(&alice()).unwrap());
    let mut whoami = sandbox.command("--quiet --whoami");
    let run = nameless(&sandbox, whoami.env("ARK_JWT_FILE", "token"));
    assert!(run.stdout.starts_with("Principal      user:alice\n"), "{run:?}");
}

#[test]
fn nameless_user_has_the_name_of_aws() {
    let cloud = Cloud::new();
    let whoami = cloud.command_as(&administrator(), "--quiet --whoami");
    let run = nameless(&cloud.sandbox, &whoami);
    let name = "Principal      user:arn:aws:iam::095412845506:user/alice\n";
    assert!(run.stdout.starts_with(name), "{run:?}");
    for line in [
        format!("--create-repository a --organization {TBD}"),
        format!("--login a --organization {TBD}"),
    ] {
        let run = nameless(&cloud.sandbox, &cloud.narrowed_command(&line));
        assert_eq!(run.code, 0, "{run:?}");
    }
}
