//! `--configure-docker`: what becomes of docker's configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use insta::assert_snapshot;

use super::folder;
use crate::sandbox::{Run, Sandbox};

const CONFIG: &str = ".docker/config.json";

/// A configuration that a user wrote, with members that docker does not know.
const OTHERS: &str = "{\n  \"zeta\": {\"b\":1,   \"a\":[ ]},\n\n  \"credsStore\": \"pass\",\n  \
    \"auths\": {\"https://index.docker.io/v1/\": {\"auth\": \"eDp5\"}}\n}\n";

fn run(sandbox: &Sandbox, line: &str) -> Run {
    sandbox.finish(sandbox.command(line).env("PATH", folder()))
}

fn configure(sandbox: &Sandbox) -> Run {
    run(sandbox, "--configure-docker --registry local:data")
}

fn undo(sandbox: &Sandbox) -> Run {
    run(sandbox, "--configure-docker --undo")
}

fn told(run: &Run) -> String {
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}

fn read(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path(CONFIG)).unwrap()
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_configuration_is_made_for_its_owner_alone() {
    let sandbox = Sandbox::new();
    assert_snapshot!(told(&run(&sandbox, "--configure-docker")), @"
    exit 0
    127.0.0.1:5050
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    note: docker logs in to 127.0.0.1:5050 by itself (~/.docker/config.json)
    ");
    assert_snapshot!(read(&sandbox), @r#"
    {
    	"credHelpers": {
    		"127.0.0.1:5050": "ark"
    	}
    }
    "#);
    let mode = |below| fs::metadata(sandbox.path(below)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".docker"), mode(CONFIG)), (0o700, 0o600));
    let again = run(&sandbox, "--configure-docker --output json");
    assert_snapshot!(told(&again), @r#"
    exit 0
    {"host":"127.0.0.1:5050","config":"~/.docker/config.json","configured":true}
    {"note":"the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)"}
    {"note":"there was nothing to change in ~/.docker/config.json"}
    "#);
    assert_snapshot!(told(&undo(&sandbox)), @"
    exit 0
    127.0.0.1:5050
    note: docker logs in to 127.0.0.1:5050 by itself no longer (~/.docker/config.json)
    ");
    assert_eq!(read(&sandbox), "{}\n");
    assert_snapshot!(told(&undo(&sandbox)), @"
    exit 0
    note: there was nothing to change in ~/.docker/config.json
    ");
    let names: Vec<_> = fs::read_dir(sandbox.path(".docker")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn unknown_members_of_the_configuration_are_kept() {
    let sandbox = Sandbox::new();
    let path = sandbox.write(CONFIG, OTHERS);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(configure(&sandbox).code, 0);
    let mut expected = parsed(OTHERS);
    expected["credHelpers"] = serde_json::json!({ "127.0.0.1:5050": "ark" });
    assert_eq!(parsed(&read(&sandbox)), expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(undo(&sandbox).code, 0);
    assert_eq!(parsed(&read(&sandbox)), parsed(OTHERS));
}

#[test]
fn every_registry_of_the_settings_gets_an_entry() {
    let sandbox = Sandbox::new();
    let config = "registries = ['ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod']\n";
    sandbox.write("config/ark/container.toml", config);
    assert_eq!(
        run(&sandbox, "--quiet --configure-docker").stdout,
        "127.0.0.1:5050\n095412845506.dkr.ecr.us-east-1.amazonaws.com\n"
    );
    let others = r#"{"credHelpers": {"ghcr.io": "pass"}}"#;
    sandbox.write(CONFIG, others);
    assert_eq!(run(&sandbox, "--quiet --configure-docker").code, 0);
    assert_eq!(
        run(&sandbox, "--quiet --configure-docker --undo").stdout,
        "095412845506.dkr.ecr.us-east-1.amazonaws.com\n127.0.0.1:5050\n"
    );
    assert_eq!(parsed(&read(&sandbox)), parsed(others));
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_changed() {
    let sandbox = Sandbox::new();
    let target = sandbox.write("dotfiles/docker.json", "{}");
    let link = sandbox.path(CONFIG);
    fs::create_dir(sandbox.path(".docker")).unwrap();
    symlink("../dotfiles/docker.json", &link).unwrap();
    assert_eq!(configure(&sandbox).code, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("\"ark\""));
    // One that leads nowhere is one to a file that is yet to be.
    fs::remove_file(&target).unwrap();
    assert_eq!(configure(&sandbox).code, 0);
    assert!(fs::read_to_string(&target).unwrap().contains("\"ark\""));
    fs::remove_file(&link).unwrap();
    symlink("config.json", &link).unwrap();
    assert_snapshot!(told(&configure(&sandbox)), @"
    exit 1
    error: cannot read ~/.docker/config.json: Too many levels of symbolic links (os error 40)
    ");
}

#[test]
fn what_is_not_dockers_is_refused_and_left_as_it_is() {
    let sandbox = Sandbox::new();
    let refused = |content: &[u8]| {
        let path = sandbox.write(CONFIG, content);
        let told = told(&run(&sandbox, "--configure-docker"));
        assert_eq!(fs::read(path).unwrap(), content);
        told
    };
    assert_snapshot!(refused(b"{\"auths\": {},}"), @"
    exit 1
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    error: ~/.docker/config.json is not as docker takes it: it is no JSON: trailing comma at line 1 column 14
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    ");
    assert_snapshot!(refused(b"[]"), @"
    exit 1
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    error: ~/.docker/config.json is not as docker takes it: it is no object
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    ");
    assert_snapshot!(refused(b"{\"credHelpers\": []}"), @r#"
    exit 1
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    error: ~/.docker/config.json is not as docker takes it: "credHelpers" in it is no object
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    "#);
    assert_snapshot!(refused(b"\xff"), @"
    exit 1
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    error: ~/.docker/config.json is not UTF-8
    ");
    let other = br#"{"credHelpers": {"127.0.0.1:5050": "ecr-login"}}"#;
    assert_snapshot!(refused(other), @"
    exit 6
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    error: ~/.docker/config.json names docker-credential-ecr-login for 127.0.0.1:5050 in credHelpers
      help: take that entry out, and type the same command again
    ");
}

#[test]
fn what_is_missing_for_it_to_work_is_told() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("--configure-docker --registry local:elsewhere");
    let run = sandbox.finish(command.env("PATH", "/nowhere"));
    assert_snapshot!(told(&run).replace(folder(), "FOLDER"), @r#"
    exit 0
    127.0.0.1:5050
    note: docker logs in to 127.0.0.1:5050 by itself (~/.docker/config.json)
    warning: docker-credential-ark sees no options: instead of --registry, set registry in the configuration file, or export ARK_REGISTRY=local:elsewhere
    warning: docker-credential-ark is not on PATH, where docker looks for it: export PATH=FOLDER:"$PATH"
    "#);
}

#[test]
fn the_folder_that_docker_is_told_is_the_one() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("--configure-docker");
    let folder = sandbox.path("own/docker");
    assert_eq!(sandbox.finish(command.env("DOCKER_CONFIG", &folder)).code, 0);
    assert!(folder.join("config.json").is_file() && !sandbox.path(".docker").exists());
}
