//! `docker-credential-ark`: the protocol, the registries, the clients, and docker's configuration.

mod clients;
mod docker_config;

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use ark_container_core::model::OrganizationId;
use ark_container_fakes::aws::{Role, User};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::ecr::{Cloud, alice};
use crate::sandbox::{MEMBERSHIPS, OTHER, Run, Sandbox, Served, Server, TBD};
use crate::tools::Curl;

/// Path of the program.
const HELPER: &str = env!("CARGO_BIN_EXE_docker-credential-ark");

/// Returns the folder of the program, for PATH.
pub(crate) fn folder() -> &'static str {
    Path::new(HELPER).parent().unwrap().to_str().unwrap()
}

/// Returns the helper in a sandbox, with the input of a client.
pub(crate) fn helper(sandbox: &Sandbox, operation: &str, input: impl AsRef<[u8]>) -> Command {
    let mut command = sandbox.at_home(HELPER);
    command.arg(operation).stdin(sent(input));
    command
}

/// Returns a file with the input of a client.
fn sent(input: impl AsRef<[u8]>) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_ref()).unwrap();
    file.rewind().unwrap();
    file
}

/// Returns the helper for the ECR registry of the cloud, with the AWS credentials of alice.
fn helper_at(cloud: &Cloud, operation: &str, input: impl AsRef<[u8]>) -> Command {
    let mut command = helper(&cloud.sandbox, operation, input);
    command
        .env("ARK_REGISTRY", format!("ecr://{}/prod", cloud.aws.host()))
        .envs(cloud.aws.environment(alice().access_key()));
    command
}

/// Returns the error of a failed run, as clients read it.
fn reported(run: &Run) -> String {
    assert_eq!(run.code, 1, "{run:?}");
    // Some clients show standard output, and some show standard error.
    let expected = if run.stdout.starts_with("docker-credential-ark: ") { &run.stdout } else { "" };
    assert_eq!(run.stderr, expected);
    run.stdout.clone()
}

/// Returns the login that a run printed: server, user and password.
fn login(run: &Run) -> (String, String, String) {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let login: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(login.as_object().unwrap().len(), 3);
    let text = |name: &str| login[name].as_str().unwrap().to_owned();
    (text("ServerURL"), text("Username"), text("Secret"))
}

const NOT_FOUND: &str = "credentials not found in native keychain\n";

fn run(sandbox: &Sandbox, operation: &str, input: impl AsRef<[u8]>) -> Run {
    sandbox.finish(&mut helper(sandbox, operation, input))
}

fn stored(server: &str, username: &str, secret: &str) -> String {
    json!({"ServerURL": server, "Username": username, "Secret": secret}).to_string()
}

#[test]
fn unknown_server_is_not_found() {
    let sandbox = Sandbox::new();
    for server in [
        "https://index.docker.io/v1/",
        "ghcr.io",
        "127.0.0.1:5051",
        "localhost",
        "095412845506.dkr.ecr.us-east-1.amazonaws.com",
        "not a server",
        "https://",
        "http://[::1",
        "../../etc/passwd",
    ] {
        let run = run(&sandbox, "get", server);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (1, NOT_FOUND, ""));
    }
    assert!(!sandbox.path("config").exists() && !sandbox.path(".cache").exists());
}

#[test]
fn registry_is_found_by_every_form_of_its_host() {
    let served = Served::with_repositories(&["a"]);
    let host = served.server.host();
    for server in [
        host.to_owned(),
        format!("{host}\n"),
        format!("http://{host}"),
        format!("https://{host}/"),
        format!("https://{host}/v2/"),
        host.replace("127.0.0.1", "localhost"),
        served.image("a"),
    ] {
        let (answered, username, _) = login(&run(&served.sandbox, "get", &server));
        assert_eq!((answered.as_str(), username.as_str()), (server.trim(), "AWS"));
    }
}

#[test]
fn unserved_registry_gets_no_password() {
    let sandbox = Sandbox::new();
    assert_snapshot!(reported(&run(&sandbox, "get", "127.0.0.1:5050")), @"
    docker-credential-ark: local:~/data/ark/registry is not served
    help: serve it: ark-catalog-container-tool --serve
    ");
}

#[test]
fn missing_input_is_an_error_of_the_protocol() {
    let sandbox = Sandbox::new();
    for operation in ["get", "erase"] {
        for input in ["", "\n", "  \t\r\n"] {
            let reported = reported(&run(&sandbox, operation, input));
            assert_eq!(reported, "no credentials server URL\n", "{operation}");
        }
    }
    let store = |server, username| reported(&run(&sandbox, "store", stored(server, username, "x")));
    assert_eq!(store("", "AWS"), "no credentials server URL\n");
    assert_eq!(store("127.0.0.1:5050", ""), "no credentials username\n");
}

#[test]
fn invalid_input_is_not_quoted() {
    let sandbox = Sandbox::new();
    let reported = |operation, input: &[u8]| reported(&run(&sandbox, operation, input));
    assert_snapshot!(reported("store", b"127.0.0.1:5050 hunter2"), @"
    docker-credential-ark: standard input is not a login in JSON, at line 1, column 5: expected an object with the strings ServerURL, Username and Secret
    ");
    assert_snapshot!(reported("store", b"{\"ServerURL\": \"127.0.0.1:5050\", \"Secret\": [\"hunter2\"]}"), @"
    docker-credential-ark: standard input is not a login in JSON, at line 1, column 42: expected an object with the strings ServerURL, Username and Secret
    ");
    assert_snapshot!(reported("get", b"\xff\xfe"), @"
    docker-credential-ark: standard input cannot be decoded: it is UTF-16; save it as UTF-8
    ");
    assert_snapshot!(reported("get", &vec![b'a'; 5 * 1024 * 1024]), @"
    docker-credential-ark: standard input is longer than 4 MiB
    ");
}

#[test]
fn unknown_operation_is_rejected() {
    let sandbox = Sandbox::new();
    assert_snapshot!(reported(&run(&sandbox, "login", "")), @"
    docker-credential-ark: unknown operation login: get, store, erase, list or version
    help: clients such as docker run docker-credential-ark; to configure docker: ark-catalog-container-tool --configure-docker; to list the operations: docker-credential-ark --help
    ");
    let reported = reported(&sandbox.finish(&mut sandbox.at_home(HELPER)));
    assert!(
        reported.starts_with("docker-credential-ark: one operation is required: get, "),
        "{reported}"
    );
}

#[test]
fn helper_prints_version_and_registries() {
    let sandbox = Sandbox::new();
    let version = run(&sandbox, "version", "").stdout;
    let expected =
        format!("docker-credential-ark (ark-container-cli) v{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version, expected);
    for word in ["--help", "help", "-h"] {
        let help = run(&sandbox, word, "");
        assert_eq!((help.code, help.stderr.as_str()), (0, ""));
        assert!(help.stdout.contains("Usage: docker-credential-ark <get|store|"), "{help:?}");
    }
    // docker sends this word as the input.
    assert_eq!(run(&sandbox, "list", "unused").stdout, "{\"127.0.0.1:5050\":\"AWS\"}\n");
}

#[test]
fn store_of_own_login_is_accepted() {
    let served = Served::with_repositories(&[]);
    let (sandbox, host) = (&served.sandbox, served.server.host());
    let note = format!(
        "docker-credential-ark: this password is not stored: each client gets a new login to {host} \
         instead\n"
    );
    for secret in [login(&run(sandbox, "get", host)).2, "x".repeat(1_000_000)] {
        let run = run(sandbox, "store", stored(host, "AWS", &secret));
        assert_eq!((run.code, run.stdout, &run.stderr), (0, String::new(), &note));
    }
}

#[test]
fn store_of_foreign_login_is_rejected() {
    let sandbox = Sandbox::new();
    let store =
        |server, username| reported(&run(&sandbox, "store", stored(server, username, "hunter2")));
    assert_snapshot!(store("127.0.0.1:5050", "alice"), @"
    docker-credential-ark: the user of 127.0.0.1:5050 is AWS, not alice
    help: docker login --username AWS; no login is needed with docker-credential-ark
    ");
    assert_snapshot!(store("https://index.docker.io/v1/", "alice"), @r#"
    docker-credential-ark: passwords are not stored, and https://index.docker.io/v1/ is not one of your registries, which are local: (registry from default, registries in ~/config/ark/container.toml)
    help: to store a password, remove "ark" from credHelpers or credsStore in docker's config.json; for an Ark registry, add it to registries in ~/config/ark/container.toml
    "#);
}

#[test]
fn erase_of_unknown_server_succeeds() {
    let sandbox = Sandbox::new();
    for server in ["127.0.0.1:5050", "https://index.docker.io/v1/", "not a server"] {
        let run = run(&sandbox, "erase", server);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
    }
}

#[test]
fn helper_reports_invalid_settings() {
    let sandbox = Sandbox::new();
    sandbox.write("config/ark/container.toml", "registries = [\"ecr://x\"]\n");
    assert_snapshot!(reported(&run(&sandbox, "get", "ghcr.io")), @r#"
    docker-credential-ark: ~/config/ark/container.toml:1:15: "x" is not a valid ECR host: expected <account>.dkr.ecr.<region>.amazonaws.com
    "#);
    let table = "[[registries]]\nlocation = \"local:\"\necr.role = \"x\"\n";
    sandbox.write("config/ark/container.toml", table);
    assert_snapshot!(reported(&run(&sandbox, "get", "ghcr.io")), @"
    docker-credential-ark: ~/config/ark/container.toml:3:5: unknown field `role`, expected one of `profile`, `role_arn`, `administrator_role_arn`, `require_scoped`, `repository_policy`, `external_id`, `source_identity`, `additional_actions`
    ");
}

/// Each registry uses the identity of its own table, independent of the environment.
#[test]
fn helper_serves_registries_of_several_accounts() {
    let (bob, host) = (User::administrator("bob"), "111122223333.dkr.ecr.us-east-1.amazonaws.com");
    let trust = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::095412845506:user/bob"},
        "Condition": {"StringEquals": {"sts:ExternalId": "catalog"}}}}"#;
    let everything = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}}"#;
    let central = Role::new("central").with_trust_policy(trust).with_policy(everything);
    let cloud = Cloud::with(|aws| aws.with_user(bob.clone()).with_role(central));
    let key = bob.access_key();
    let profiles = cloud.sandbox.write(
        "aws-config",
        format!(
            "[profile central]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key.id, key.secret
        ),
    );
    let settings = format!(
        "organization = '{TBD}'\n[[registries]]\nlocation = 'ecr://{host}/prod'\n\
         ecr.profile = 'central'\necr.role_arn = 'arn:aws:iam::095412845506:role/central'\n\
         ecr.external_id = 'catalog'\n"
    );
    cloud.sandbox.write("config/ark/container.toml", settings);
    for (server, principal) in [
        (cloud.aws.host().to_string(), "assumed-role/ark-registry/"),
        (host.to_owned(), "assumed-role/central/"),
    ] {
        cloud.aws.forget_calls();
        let mut command = helper_at(&cloud, "get", &server);
        command.env("AWS_CONFIG_FILE", &profiles);
        command.env("ARK_ROLE_ARN", "arn:aws:iam::095412845506:role/ark-registry");
        assert_eq!(login(&cloud.sandbox.finish(&mut command)).0, server);
        let calls = cloud.aws.calls();
        let token = calls.iter().find(|call| call.action == "ecr:GetAuthorizationToken").unwrap();
        let caller = token.principal.as_deref().unwrap();
        assert!(caller.contains(principal), "{server}: {caller}");
    }
}

#[test]
fn helper_log_is_private_and_has_no_password() {
    let served = Served::with_repositories(&["a"]);
    let (sandbox, host) = (&served.sandbox, served.server.host());
    let logged = |operation: &str, input: &str| {
        let mut command = helper(sandbox, operation, input);
        sandbox.finish(command.env("ARK_CREDENTIAL_LOG", sandbox.path("log")))
    };
    let (_, _, password) = login(&logged("get", host));
    logged("store", &stored(host, "AWS", "hunter2"));
    logged("get", "ghcr.io");
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    for line in [
        &format!("docker_credential_ark: get {host}"),
        " for repository:prod/",
        &format!("docker_credential_ark: store {host}"),
        "refused: credentials not found",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains(&password) && !log.contains("hunter2"), "{log}");
    let mode = fs::metadata(sandbox.path("log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut command = helper(sandbox, "get", host);
    let run = sandbox.finish(command.env("ARK_CREDENTIAL_LOG", "no/such/log"));
    assert_eq!(run.code, 0, "{run:?}");
    assert_snapshot!(run.stderr, @"
    docker-credential-ark: no log: ARK_CREDENTIAL_LOG: file no/such/log does not exist
    ");
}

/// Returns the scope of a principal's login, from the log.
fn scope(sandbox: &Sandbox, server: &Server, principal: &str) -> String {
    let mut command = helper(sandbox, "get", server.host());
    command.env("ARK_PRINCIPAL", principal).env("ARK_CREDENTIAL_LOG", sandbox.path("log"));
    login(&sandbox.finish(&mut command));
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    log.trim_end().rsplit_once(" for ").unwrap().1.to_owned()
}

#[test]
fn helper_logins_push_for_users_and_pull_for_robots() {
    let sandbox = Sandbox::with_memberships();
    let both = MEMBERSHIPS.replace("user:bob", "user:alice");
    sandbox.write("data/ark/registry/memberships.toml", both);
    let server = sandbox.serve();
    let scope = |principal| scope(&sandbox, &server, principal);
    let push = format!("repository:prod/{OTHER}/*:pull,push repository:prod/{TBD}/*:pull,push");
    assert_eq!(scope("user:alice"), push);
    let global = format!("repository:prod/{}/*:pull", OrganizationId::GLOBAL);
    let pull = format!("repository:prod/{TBD}/*:pull {global}");
    assert_eq!(scope("robot:nightly"), pull);
    assert_eq!(scope("user:nobody"), global);
}

#[test]
fn single_user_login_reaches_all_organizations() {
    let sandbox = Sandbox::new();
    for organization in [TBD, OTHER] {
        sandbox.printed(&format!("--create-repository a --organization {organization}"));
    }
    let push = format!("repository:prod/{OTHER}/*:pull,push repository:prod/{TBD}/*:pull,push");
    assert_eq!(scope(&sandbox, &sandbox.serve(), "user:alice"), push);
}

#[test]
fn two_local_registries_have_separate_logins() {
    let (one, two) = (Served::with_repositories(&["a"]), Served::with_repositories(&["a"]));
    let folder = |served: &Served| served.sandbox.path("data/ark/registry").display().to_string();
    let sandbox = Sandbox::new();
    let config = format!(
        "registry = 'local:{}'\nregistries = ['local:{}', \
         'ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com']\n",
        folder(&one),
        folder(&two)
    );
    sandbox.write("config/ark/container.toml", config);
    let get = |server: &str| login(&sandbox.finish(&mut helper(&sandbox, "get", server))).2;
    let (own, other) = (get(one.server.host()), get(two.server.host()));
    for (served, password, status) in
        [(&one, &own, 200), (&two, &other, 200), (&one, &other, 401), (&two, &own, 401)]
    {
        let curl = Curl::new(served.server.host(), Some(password));
        let answer = curl.send("GET", &format!("/v2/prod/{TBD}/a/tags/list"), &[]);
        assert_eq!(answer.status, status);
    }
    let list = sandbox.finish(&mut helper(&sandbox, "list", ""));
    for host in
        [one.server.host(), two.server.host(), "095412845506.dkr.ecr.us-east-1.amazonaws.com"]
    {
        assert!(list.stdout.contains(&format!("\"{host}\":\"AWS\"")), "{list:?}");
    }
}
