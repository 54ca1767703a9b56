//! `push.yml`, which GitHub runs: what of it can be run elsewhere.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::{env, fs};

use serde_json::Value;

use super::REPOSITORY;
use super::checkout::original;
use crate::access::{Account, PEOPLE};
use crate::component::component;
use crate::python_component::python_component;
use crate::sandbox::{Sandbox, TBD};

const FILE: &str = ".github/workflows/push.yml";

/// The workflow as JSON.
fn workflow() -> Value {
    let program =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut python = python_component("python");
    let output = python.args(["-c", program]).arg(original().join(FILE)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A step by its name.
fn step<'a>(workflow: &'a Value, name: &str) -> &'a Value {
    let steps = workflow["jobs"]["push"]["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap()
}

#[test]
fn it_is_a_workflow_of_github() {
    let mut check = python_component("check-jsonschema");
    let check = check.args(["--builtin-schema", "vendor.github-workflows"]);
    let output = check.arg(original().join(FILE)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let workflow = workflow();
    assert_eq!(workflow["permissions"]["id-token"], "write");
    let push = step(&workflow, "Build and push")["run"].as_str().unwrap();
    assert_eq!(push, format!("./make.sh {}", super::TARGET));
}

/// GitHub, which is asked for a token, and then an identity provider, which takes it for one of alice's.
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

/// Runs the step that gets a token, and returns the file that the token is in afterwards.
fn got_token(sandbox: &Sandbox, workflow: &Value, issuers: &Issuers) -> PathBuf {
    let script = step(workflow, "Get a token of the organization")["run"].as_str().unwrap();
    for tool in ["curl", "jq"] {
        component(tool);
    }
    let variables = sandbox.path("variables");
    let mut shell = Command::new("bash");
    shell
        // As GitHub runs it.
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
fn its_token_opens_the_repository_at_aws() {
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
            // The roles of the test's account have names of their own.
            if name != "ARK_ROLE_ARN" {
                tool.env(name, value.as_str().unwrap());
            }
        }
        let run = account.sandbox.finish(tool.env("ARK_JWT_FILE", &token_file));
        assert_eq!(run.code, 0, "{run:?}");
    }
}
