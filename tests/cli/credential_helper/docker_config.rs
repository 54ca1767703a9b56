//! docker's configuration: `--configure-docker`, and `--login NAME --docker-config DIR`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use insta::assert_snapshot;

use super::folder;
use crate::sandbox::{Run, Sandbox, Served, TBD};

const CONFIG: &str = ".docker/config.json";

/// A configuration of a user, with members that docker does not know.
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

fn reported(run: &Run) -> String {
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}

fn read(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path(CONFIG)).unwrap()
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn configure_docker_writes_a_private_file() {
    let sandbox = Sandbox::new();
    assert_snapshot!(reported(&run(&sandbox, "--configure-docker")), @"
    exit 0
    127.0.0.1:5050
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    note: docker logs in to 127.0.0.1:5050 automatically (~/.docker/config.json)
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
    assert_snapshot!(reported(&again), @r#"
    exit 0
    {"host":"127.0.0.1:5050","config":"~/.docker/config.json","configured":true}
    {"note":"there was nothing to change in ~/.docker/config.json"}
    "#);
    assert_snapshot!(reported(&undo(&sandbox)), @"
    exit 0
    127.0.0.1:5050
    note: docker no longer logs in to 127.0.0.1:5050 automatically (~/.docker/config.json)
    ");
    assert_eq!(read(&sandbox), "{}\n");
    assert_snapshot!(reported(&undo(&sandbox)), @"
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
fn configure_docker_adds_every_registry() {
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
fn configure_docker_follows_a_link() {
    let sandbox = Sandbox::new();
    let target = sandbox.write("dotfiles/docker.json", "{}");
    let link = sandbox.path(CONFIG);
    fs::create_dir(sandbox.path(".docker")).unwrap();
    symlink("../dotfiles/docker.json", &link).unwrap();
    assert_eq!(configure(&sandbox).code, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("\"ark\""));
    fs::remove_file(&target).unwrap();
    assert_snapshot!(reported(&configure(&sandbox)), @"
    exit 1
    error: ~/.docker/config.json leads to ~/dotfiles/docker.json, which does not exist
      help: replace the link, or create ~/dotfiles/docker.json
    ");
    fs::remove_file(&link).unwrap();
    symlink("config.json", &link).unwrap();
    assert_snapshot!(reported(&configure(&sandbox)), @"
    exit 1
    error: cannot open ~/.docker/config.json: Too many levels of symbolic links (os error 40)
    ");
}

#[test]
fn invalid_docker_configuration_is_left_unchanged() {
    let sandbox = Sandbox::new();
    let refused = |content: &[u8]| {
        let path = sandbox.write(CONFIG, content);
        let reported = reported(&run(&sandbox, "--configure-docker"));
        assert_eq!(fs::read(path).unwrap(), content);
        reported
    };
    assert_snapshot!(refused(b"{\"auths\": {},}"), @"
    exit 1
    note: the registry is local:~/data/ark/registry, since none was chosen (--registry, ARK_REGISTRY)
    error: ~/.docker/config.json is not a docker configuration: it is not JSON: trailing comma at line 1 column 14
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    ");
    assert_snapshot!(refused(b"[]"), @"
    exit 1
    error: ~/.docker/config.json is not a docker configuration: it is not an object
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    ");
    assert_snapshot!(refused(b"{\"credHelpers\": []}"), @r#"
    exit 1
    error: ~/.docker/config.json is not a docker configuration: "credHelpers" is not an object
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    "#);
    assert_snapshot!(refused(b"\xff"), @"
    exit 1
    error: ~/.docker/config.json is not a docker configuration: it is not UTF-8
      help: correct it, or move it away: mv ~/.docker/config.json ~/.docker/config.json.bad
    ");
    let other = br#"{"credHelpers": {"127.0.0.1:5050": "ecr-login"}}"#;
    assert_snapshot!(refused(other), @"
    exit 6
    error: ~/.docker/config.json names docker-credential-ecr-login for 127.0.0.1:5050 in credHelpers
      help: remove that entry, and run the same command again
    ");
}

#[test]
fn configure_docker_warns_of_a_missing_helper() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("--configure-docker --registry local:elsewhere");
    let run = sandbox.finish(command.env("PATH", "/nowhere"));
    assert_snapshot!(reported(&run).replace(folder(), "FOLDER"), @r#"
    exit 0
    127.0.0.1:5050
    note: docker logs in to 127.0.0.1:5050 automatically (~/.docker/config.json)
    warning: docker-credential-ark receives no options: instead of --registry, set registry in the configuration file, or export ARK_REGISTRY=local:elsewhere
    warning: docker-credential-ark is not on PATH, where docker looks for it: export PATH=FOLDER:"$PATH"
    "#);
}

#[test]
fn configure_docker_respects_docker_config() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("--configure-docker");
    let folder = sandbox.path("own/docker");
    assert_eq!(sandbox.finish(command.env("DOCKER_CONFIG", &folder)).code, 0);
    assert!(folder.join("config.json").is_file() && !sandbox.path(".docker").exists());
}

fn login(name: &str, folder: &str) -> String {
    format!("--quiet --login {name} --organization {TBD} --docker-config {folder}")
}

#[test]
fn docker_config_login_is_for_one_repository() {
    let served = Served::with_repositories(&["a", "b"]);
    let sandbox = &served.sandbox;
    assert_snapshot!(reported(&sandbox.run(&login("a", "one/a"))), @"
    exit 0
    export DOCKER_CONFIG=~/one/a
    ");
    assert_snapshot!(reported(&sandbox.run(&login("b", "it's"))), @r"
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
fn printed_line_sets_docker_config() {
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
fn docker_config_keeps_other_entries() {
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
    // docker would run the helper, and ignore the login.
    sandbox.write("b/config.json", r#"{"credHelpers": {"127.0.0.1:5050": "ark"}}"#);
    assert_snapshot!(reported(&sandbox.run(&login("a", "b"))), @"
    exit 6
    error: file ~/b/config.json makes docker use docker-credential-ark for 127.0.0.1:5050
      help: use another folder, such as a new one
    ");
    sandbox.write("c/config.json", r#"{"credsStore": "pass"}"#);
    let reported = reported(&sandbox.run(&login("a", "c")));
    assert!(
        reported.contains("makes docker use docker-credential-pass for 127.0.0.1:5050"),
        "{reported}"
    );
}

#[test]
fn docker_config_json_has_no_password() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let printed = sandbox.printed(&format!("{} --output json", login("a", "a")));
    let mut record: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(record["expires_at"].take().as_str().unwrap().ends_with('Z'));
    assert_snapshot!(record.to_string(), @r#"
    {"docker_config":"~/a","expires_at":null,"host":"127.0.0.1:5050","narrowed":true,"scope":"repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:pull,push"}
    "#);
}
