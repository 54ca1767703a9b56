//! `--login NAME --docker-config DIR`: a login of docker's for one repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use crate::sandbox::{Run, Sandbox, TBD};
use crate::served::Served;

fn told(run: &Run) -> String {
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}

fn login(name: &str, folder: &str) -> String {
    format!("--quiet --login {name} --organization {TBD} --docker-config {folder}")
}

#[test]
fn a_configuration_is_for_one_repository_and_its_owner() {
    let served = Served::with_repositories(&["a", "b"]);
    let sandbox = &served.sandbox;
    assert_snapshot!(told(&sandbox.run(&login("a", "one/a"))), @"
    exit 0
    export DOCKER_CONFIG=~/one/a
    ");
    assert_snapshot!(told(&sandbox.run(&login("b", "it's"))), @r"
    exit 0
    export DOCKER_CONFIG='~/it'\''s'
    ");
    let mode = |below| fs::metadata(sandbox.path(below)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("one/a"), mode("one/a/config.json")), (0o700, 0o600));
    sandbox.write_image("sample", "hello");
    let tools = served.tools(&[]);
    let copy = |image: &str, folder: &str| {
        let remote = served.image(image);
        let mut command = tools.command(&format!("skopeo copy -q oci:sample docker://{remote}"));
        let file = sandbox.path(folder).join("config.json");
        sandbox.finish(command.env("REGISTRY_AUTH_FILE", file)).code
    };
    assert_eq!((copy("a:v1", "one/a"), copy("b:v1", "it's")), (0, 0));
    assert_ne!(copy("b:v1", "one/a"), 0);
}

#[test]
fn the_line_that_is_printed_makes_the_shell_use_it() {
    let served = Served::with_repositories(&["a"]);
    let line = served.sandbox.printed(&login("a", "a"));
    let shown = served.sandbox.finish(&mut served.sandbox.shell(&format!(
            "cd / && {} && echo $DOCKER_CONFIG/*",
            line.trim_end()
                .replace('~', served.sandbox.path("").to_str().unwrap().trim_end_matches('/'))
        )));
    assert_eq!(shown.stdout, "~/a/config.json\n");
}

#[test]
fn what_docker_keeps_there_stays_and_the_login_is_renewed() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let others = "{\n\t\"auths\": {\n\t\t\"ghcr.io\": {}\n\t},\n\t\"x\": 1\n}";
    let path = sandbox.write("a/config.json", others);
    for _ in 0..2 {
        assert_eq!(sandbox.run(&login("a", "a")).code, 0);
    }
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let auth = config["auths"]["127.0.0.1:5050"]["auth"].take();
    assert!(auth.as_str().unwrap().starts_with("QVdTO"), "{auth}");
    let logins = serde_json::json!({ "ghcr.io": {}, "127.0.0.1:5050": { "auth": null } });
    assert_eq!(config, serde_json::json!({ "auths": logins, "x": 1 }));
    // docker would ask the helper, and not look at the login.
    sandbox.write("b/config.json", r#"{"credHelpers": {"127.0.0.1:5050": "ark"}}"#);
    assert_snapshot!(told(&sandbox.run(&login("a", "b"))), @"
    exit 6
    error: file ~/b/config.json has docker ask docker-credential-ark for 127.0.0.1:5050
      help: name another folder, such as one that is yet to be made
    ");
    sandbox.write("c/config.json", r#"{"credsStore": "pass"}"#);
    let told = told(&sandbox.run(&login("a", "c")));
    assert!(told.contains("has docker ask docker-credential-pass for 127.0.0.1:5050"), "{told}");
}

#[test]
fn programs_are_told_where_it_is_and_no_password() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let printed = sandbox.printed(&format!("{} --output json", login("a", "a")));
    let mut record: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(record["expires_at"].take().as_str().unwrap().ends_with('Z'));
    assert_snapshot!(record.to_string(), @r#"
    {"docker_config":"~/a","expires_at":null,"host":"127.0.0.1:5050","narrowed":true,"scope":"repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:pull,push"}
    "#);
}
