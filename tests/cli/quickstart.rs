//! The commands of the documentation: the first command of README.md, and the documented operations.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::sandbox::{BINARY, OTHER, Sandbox, TBD};

/// Runs the first command of README.md in the home of a sandbox, and returns its output.
///
/// `--bin` takes the features of the whole workspace, with which everything is compiled already.
fn quickstart(sandbox: &Sandbox) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--bin", "quickstart"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env_remove("ARK_REGISTRY")
        .env_remove("ARK_PRINCIPAL")
        .env("XDG_DATA_HOME", sandbox.path("data"))
        .stdin(Stdio::null());
    let run = sandbox.finish(&mut command);
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

/// Returns the suggested commands, without the first, which builds the program.
fn commands(printed: &str) -> Vec<&str> {
    let (_, next) = printed.split_once("What to type next:\n").unwrap();
    let mut lines = next.lines().map(str::trim_start);
    let build = "cargo build --release -p ark-container-cli && PATH=$PWD/target/release:$PATH";
    assert_eq!(lines.next(), Some(build));
    lines.collect()
}

#[test]
fn quickstart_works_twice() {
    let sandbox = Sandbox::new();
    let url = format!("127.0.0.1:5050/prod/{TBD}/quickstart/hello");
    let (first, second) = (quickstart(&sandbox), quickstart(&sandbox));
    let pushed = |output: &str| {
        let line = output.lines().find(|line| line.starts_with("pushed ")).unwrap().to_owned();
        line.split_once(" (").map(|(image, bytes)| (image.to_owned(), bytes.to_owned())).unwrap()
    };
    assert!(pushed(&first).0.contains(&format!("{url}@sha256:")), "{first}");
    assert_eq!(pushed(&first).0, pushed(&second).0);
    assert_eq!(pushed(&second).1, "0 bytes)", "the image already exists");
    assert!(commands(&first).contains(&"ark-catalog-container-tool --serve &"), "{first}");
    assert!(sandbox.printed("--list-repositories").ends_with(&format!("{TBD} {url}\n")));
}

#[test]
fn commands_after_the_quickstart_work() {
    let sandbox = Sandbox::new();
    // The quickstart suggests --serve only if the registry is not served.
    let server = sandbox.serve();
    let printed = quickstart(&sandbox);
    let host = server.line().trim_end();
    let folder = Path::new(BINARY).parent().unwrap().to_str().unwrap();
    let mut outputs = Vec::new();
    for typed in commands(&printed) {
        // skopeo replaces docker, which needs a daemon.
        let line = typed
            .replace("docker login", "skopeo login --tls-verify=false")
            .replace("docker pull ", "skopeo inspect --tls-verify=false docker://");
        let mut bash = sandbox.shell(&line);
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
        bash.env("PATH", path).env("REGISTRY_AUTH_FILE", sandbox.path("auth.json"));
        let run = sandbox.finish(&mut bash);
        assert_eq!(run.code, 0, "{line}: {run:?}");
        outputs.push(run.stdout);
    }
    let [listed, images, login, pulled] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(listed.contains(&format!("{host}/prod/{TBD}/quickstart/hello")), "{listed}");
    assert!(images.contains("v1"), "{images}");
    assert_eq!(login, "Login Succeeded!\n");
    let digest = images.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    assert!(pulled.contains(digest), "{pulled}");
}

#[test]
fn failed_readme_login_stops_a_script() {
    let readme = include_str!("../../README.md");
    let lines = readme.lines().filter_map(|line| line.strip_prefix("    $ "));
    let lines =
        lines.filter(|line| line.starts_with("password=") || line.starts_with("docker login"));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let server_and_sandbox = |create: bool| {
        let sandbox = Sandbox::new();
        let server = sandbox.serve();
        if create {
            sandbox.printed(&format!("--create-repository test/repo --organization {TBD}"));
        }
        // skopeo replaces docker, which needs a daemon.
        let script = lines.join("\n").replace("docker login", "skopeo login --tls-verify=false");
        let script = script.replace("127.0.0.1:5050", server.host());
        let mut bash = sandbox.at_home("bash");
        let folder = Path::new(BINARY).parent().unwrap().display();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
        bash.env("PATH", path).env("REGISTRY_AUTH_FILE", sandbox.path("auth.json"));
        sandbox.finish(bash.args(["-e", "-c", &format!("{script}\necho done")]))
    };
    let run = server_and_sandbox(true);
    assert_eq!((run.code, run.stdout.as_str()), (0, "Login Succeeded!\ndone\n"), "{run:?}");
    let run = server_and_sandbox(false);
    assert_eq!((run.code, run.stdout.as_str()), (5, ""), "{run:?}");
}

#[test]
fn listing_prints_the_documented_table() {
    let sandbox = Sandbox::new();
    let header = "Organization                         URL\n";
    assert_eq!(sandbox.printed("--list-repositories"), header);
    for name in ["catalog/extract-video", "catalog/extract-gps", "catalog/extract-annotations"] {
        sandbox.printed(&format!("--create-repository {name} --organization {TBD}"));
    }
    sandbox.printed(&format!("--create-repository a --organization {OTHER}"));
    let host = "127.0.0.1:5050";
    let other = format!("{OTHER} {host}/prod/{OTHER}/a\n");
    let mut tbd = String::new();
    for name in ["catalog/extract-annotations", "catalog/extract-gps", "catalog/extract-video"] {
        tbd.push_str(&format!("{TBD} {host}/prod/{TBD}/{name}\n"));
    }
    assert_eq!(sandbox.printed("--list-repositories"), format!("{header}{other}{tbd}"));
    let narrowed = sandbox.printed(&format!("--list-repositories --organization {TBD}"));
    assert_eq!(narrowed, format!("{header}{tbd}"));
}

#[test]
fn create_repository_prints_the_full_url() {
    let sandbox = Sandbox::new();
    let create = format!("--create-repository test/repo --organization {TBD}");
    let url = format!("127.0.0.1:5050/prod/{TBD}/test/repo\n");
    assert_eq!(sandbox.printed(&create), url);
    assert_eq!(sandbox.printed(&create), url);
}

#[test]
fn login_prints_only_a_password() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository catalog/extract-video --organization {TBD}"));
    let login = format!("--login catalog/extract-video --organization {TBD}");
    let run = sandbox.run(&format!("--quiet {login}"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let password = run.stdout.strip_suffix('\n').unwrap();
    assert!(password.len() > 100 && !password.contains(char::is_whitespace));
    let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    assert!(password.bytes().all(url_safe), "the password needs no quotes");
}

#[test]
fn options_are_accepted_in_any_position() {
    let sandbox = Sandbox::new();
    let create = format!("--create-repository test/repo --organization {TBD}");
    let url = sandbox.printed(&create);
    for line in [
        format!("create-repository test/repo --organization {TBD}"),
        format!("--organization {TBD} --create-repository test/repo"),
        format!("--organization={TBD} --create-repository=test/repo"),
        format!("--output table create-repository --organization {TBD} -- test/repo"),
    ] {
        assert_eq!(sandbox.printed(&line), url, "{line}");
    }
}
