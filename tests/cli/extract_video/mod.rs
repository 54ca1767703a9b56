//! `examples/extract-video`: build and upload as documented, and its workflow for GitHub.

mod checkout;

use std::env;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use checkout::{Checkout, Inside, original};
use serde_json::Value;

use crate::access::{Account, PEOPLE};
use crate::ecr::Cloud;
use crate::python_component::python_component;
use crate::sandbox::{BINARY, Sandbox, TBD};
use crate::tools::{Daemon, Tools, component};

const REPOSITORY: &str = "catalog/extract-video";
const TARGET: &str = "ark-extract-catalog-video-docker";

/// The result files of a run of `make.sh`.
#[derive(Debug)]
struct Pushed {
    url: String,
    blobs: (u64, u64),
    at: SystemTime,
}

impl Pushed {
    fn read(checkout: &Checkout<'_>) -> Self {
        let image = checkout.example("build/ark-extract-catalog-video.image");
        let json = checkout.example("build/ark-extract-catalog-video.json");
        let pushed: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        let url = fs::read_to_string(&image).unwrap().trim_end().to_owned();
        assert_eq!(pushed["url"], url.as_str());
        let number = |name: &str| pushed[name].as_u64().unwrap();
        Self {
            url,
            blobs: (number("blobs_sent"), number("blobs_skipped")),
            at: fs::metadata(image).unwrap().modified().unwrap(),
        }
    }

    fn digest(&self) -> &str {
        self.url.split_once('@').unwrap().1
    }
}

/// One test for all steps, since the slow build is shared.
#[test]
fn example_is_built_and_pushed_as_documented() {
    let cloud = Cloud::new();
    let checkout = Checkout::new(&cloud.sandbox);
    let first = to_the_embedded_registry(&cloud, &checkout);
    to_ecr(&cloud, &checkout, &first);
    with_one_source_changed(&cloud, &checkout);
    checkout.succeeds(&mut checkout.make("test"));
    without_cmake(&cloud, &checkout);
}

fn to_the_embedded_registry(cloud: &Cloud, checkout: &Checkout<'_>) -> Pushed {
    checkout.succeeds(&mut checkout.make(TARGET));
    let pushed = Pushed::read(checkout);
    assert_eq!(pushed.blobs, (3, 0), "samples, program and configuration");
    inside_of_embedded(cloud, &pushed).assert_program_output();

    checkout.succeeds(&mut checkout.make(TARGET));
    assert_eq!(Pushed::read(checkout).at, pushed.at, "nothing changed");
    pushed
}

/// Serves the embedded registry, and pulls the image with skopeo.
fn inside_of_embedded(cloud: &Cloud, pushed: &Pushed) -> Inside {
    let server = cloud.sandbox.serve();
    let tools = Tools::new(&cloud.sandbox, server.host());
    let login = format!("--login {REPOSITORY} --organization {TBD}");
    let login = tools.log_in("skopeo", server.host(), cloud.sandbox.command(&login));
    assert_eq!(login.code, 0, "{login:?}");
    let image = format!("{}/prod/{TBD}/{REPOSITORY}@{}", server.host(), pushed.digest());
    Inside::pulled(&cloud.sandbox, &tools, &image)
}

fn to_ecr(cloud: &Cloud, checkout: &Checkout<'_>, before: &Pushed) {
    checkout.succeeds(&mut checkout.make_for(cloud, TARGET));
    let pushed = Pushed::read(checkout);
    assert_eq!(pushed.url, format!("{}@{}", cloud.image(REPOSITORY), before.digest()));
    assert_eq!(pushed.blobs, (3, 0));
    inside_of_ecr(cloud, &pushed).assert_program_output();

    cloud.aws.forget_calls();
    checkout.succeeds(&mut checkout.make_for(cloud, TARGET));
    assert_eq!(cloud.aws.calls().len(), 0, "nothing changed");
    assert_eq!(Pushed::read(checkout).at, pushed.at);
}

fn inside_of_ecr(cloud: &Cloud, pushed: &Pushed) -> Inside {
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = format!("--login {REPOSITORY} --organization {TBD}");
    let login = tools.log_in("skopeo", &cloud.host(), cloud.narrowed_command(&login));
    assert_eq!(login.code, 0, "{login:?}");
    Inside::pulled(&cloud.sandbox, &tools, &pushed.url)
}

fn with_one_source_changed(cloud: &Cloud, checkout: &Checkout<'_>) {
    let source = checkout.example("src/main.rs");
    let text = fs::read_to_string(&source).unwrap();
    let changed = text.replace("usage: ark", "Usage: ark");
    assert_ne!(text, changed);
    fs::write(source, changed).unwrap();
    checkout.succeeds(&mut checkout.make_for(cloud, TARGET));
    let pushed = Pushed::read(checkout);
    assert_eq!(pushed.blobs, (2, 1), "the samples are not sent again");
    let inside = inside_of_ecr(cloud, &pushed);
    assert!(inside.printed(&["--help"]).starts_with("Usage: ark"));
    inside.assert_program_output();
}

/// Runs the docker commands of the example's README.
fn without_cmake(cloud: &Cloud, checkout: &Checkout<'_>) {
    let readme = fs::read_to_string(checkout.example("README.md")).unwrap();
    let lines = readme.split_once("## Without CMake").unwrap().1;
    let lines: String = lines
        .lines()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(lines.contains("cargo rustc"), "{lines}");
    let daemon = Daemon::start();
    let mut shell = checkout.command("bash");
    shell.args(["-euc", &lines]).env("DOCKER_HOST", daemon.host());
    let printed = checkout.succeeds(&mut shell).stdout;
    let url = printed.lines().last().unwrap().to_owned();
    let digest = url.split_once('@').unwrap().1;
    let listed = cloud.sandbox.printed(&format!("--list-images {REPOSITORY} --organization {TBD}"));
    assert!(listed.contains(digest), "{url}: {listed}");
}

/// Script that replaces cargo, whose build of the tool takes minutes.
const CARGO: &str = r#"#!/bin/sh
echo "$@" >> "$HOME/cargo"
mkdir -p ../../target/release
ln -sf TOOL ../../target/release/ark-catalog-container-tool
"#;

/// Programs in the PATH of the test.
const PROGRAMS: [&str; 7] = ["bash", "cmake", "dirname", "git", "ln", "make", "mkdir"];

#[test]
fn copied_make_sh_suggests_installing_the_tool() {
    let sandbox = Sandbox::new();
    fs::copy(original().join("make.sh"), sandbox.path("make.sh")).unwrap();
    let mut make = sandbox.at_home("./make.sh");
    let run = sandbox.finish(make.env("PATH", "/usr/bin:/bin").arg(TARGET));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(
        run.stderr.contains("help: cargo install --locked --git URL ark-container-cli"),
        "{run:?}"
    );
}

#[test]
fn make_sh_works_without_the_tool_and_ninja() {
    let sandbox = Sandbox::new();
    let checkout = Checkout::new(&sandbox);
    sandbox.write("checkout/ark-container-cli/Cargo.toml", "");
    let bin = sandbox.path("some");
    fs::create_dir(&bin).unwrap();
    component("make");
    for program in PROGRAMS {
        let path = env::var_os("PATH").unwrap();
        let mut found = env::split_paths(&path).map(|folder| folder.join(program));
        symlink(found.find(|path| path.is_file()).unwrap(), bin.join(program)).unwrap();
    }
    let cargo = sandbox.write("some/cargo", CARGO.replace("TOOL", BINARY));
    fs::set_permissions(cargo, Permissions::from_mode(0o755)).unwrap();

    let run = |target| checkout.succeeds(checkout.make(target).env("PATH", &bin)).stdout;
    let listed = run("help");
    assert!(listed.contains("Build files have been written"), "{listed}");
    for target in [TARGET, "ark-extract-catalog-video-docker-image", "ark-docker", "test"] {
        assert!(listed.contains(&format!("... {target}\n")), "{target}: {listed}");
    }
    assert!(checkout.example("build/Makefile").is_file());
    let built = fs::read_to_string(sandbox.path("cargo")).unwrap();
    assert!(built.starts_with("build ") && built.contains("-p ark-container-cli"), "{built}");

    let again = run("help");
    assert!(!again.contains("Build files have been written"), "{again}");
}

const FILE: &str = ".github/workflows/push.yml";

/// Returns the workflow as JSON.
fn workflow() -> Value {
    let program =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut python = python_component("python");
    let output = python.args(["-c", program]).arg(original().join(FILE)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns a step by its name.
fn step<'a>(workflow: &'a Value, name: &str) -> &'a Value {
    let steps = workflow["jobs"]["push"]["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap()
}

#[test]
fn workflow_is_valid_for_github() {
    let mut check = python_component("check-jsonschema");
    let check = check.args(["--builtin-schema", "vendor.github-workflows"]);
    let output = check.arg(original().join(FILE)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let workflow = workflow();
    assert_eq!(workflow["permissions"]["id-token"], "write");
    let push = step(&workflow, "Build and push")["run"].as_str().unwrap();
    assert_eq!(push, format!("./make.sh {}", TARGET));
}

/// A server that answers as GitHub, with a GitHub token, and then as the identity provider, which exchanges the
/// GitHub token for a token of alice.
struct Issuers {
    address: String,
    asked: JoinHandle<Vec<String>>,
}

impl Issuers {
    fn start(token: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = [r#"{"count": 1, "value": "of.git.hub"}"#.to_owned(), token];
        let asked = thread::spawn(move || {
            answers.iter().map(|answer| exchange(&listener, answer)).collect()
        });
        Self { address, asked }
    }
}

/// Answers one request, and returns it.
fn exchange(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut length) = (String::new(), 0);
    while !request.ends_with("\r\n\r\n") {
        let start = request.len();
        assert_ne!(reader.read_line(&mut request).unwrap(), 0, "{request}");
        if let Some(value) = request[start..].to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request += &String::from_utf8(body).unwrap();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
    .unwrap();
    request
}

/// Runs the step that gets a token, and returns the file with the token.
fn got_token(sandbox: &Sandbox, workflow: &Value, issuers: &Issuers) -> PathBuf {
    let script = step(workflow, "Get a token of the organization")["run"].as_str().unwrap();
    for tool in ["curl", "jq"] {
        component(tool);
    }
    let variables = sandbox.path("variables");
    let mut shell = Command::new("bash");
    shell
        // The command of GitHub for a step.
        // Source: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap())
        .env("RUNNER_TEMP", sandbox.path(""))
        .env("GITHUB_ENV", &variables)
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/github?api-version=2", issuers.address))
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")
        .env("TOKEN_EXCHANGE", format!("{}/token", issuers.address));
    let run = sandbox.finish(&mut shell);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run:?}");
    let variables = fs::read_to_string(variables).unwrap();
    variables.trim_end().strip_prefix("ARK_JWT_FILE=").unwrap().into()
}

#[test]
fn workflow_token_logs_in_at_aws() {
    let account = Account::new();
    let alice = account.issuer.token(&PEOPLE[0].token()).unwrap();
    let issued = format!(r#"{{"access_token": "{alice}", "token_type": "N_A"}}"#);
    let issuers = Issuers::start(issued);
    let workflow = workflow();
    let token_file = got_token(&account.sandbox, &workflow, &issuers);
    let [github, provider] = &issuers.asked.join().unwrap()[..] else { panic!("two requests") };
    assert!(github.starts_with("GET /github?api-version=2&audience=ark "), "{github}");
    assert!(github.contains("Authorization: bearer secret\r\n"), "{github}");
    assert!(provider.starts_with("POST /token "), "{provider}");
    let body = "\r\n\r\nsubject_token=of.git.hub&subject_token_type=";
    assert!(provider.contains(body), "{provider}");

    assert_eq!(fs::metadata(&token_file).unwrap().permissions().mode() & 0o77, 0);
    for operation in ["--create-repository", "--login"] {
        let line = format!("{operation} {REPOSITORY} --organization {TBD}");
        let mut tool = account.bearer("jwt.json", &line);
        for (name, value) in workflow["env"].as_object().unwrap() {
            // The roles of the test account have other names.
            if name != "ARK_ROLE_ARN" {
                tool.env(name, value.as_str().unwrap());
            }
        }
        let run = account.sandbox.finish(tool.env("ARK_JWT_FILE", &token_file));
        assert_eq!(run.code, 0, "{run:?}");
    }
}
